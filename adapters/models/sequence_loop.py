"""A recurrent network written out as a loop over time, h = tanh(x_t w + h u + b) (Elman 1990), that
reads digits row by row and names the last one."""

from dataclasses import dataclass

import numpy as np

from adapters.data import digit_sequence
from adapters.layers import ROWS, rows_at_length
from adapters.model import Model, near, weight


@dataclass(frozen=True)
class Config:
    length: int  # in rows of pixels
    hidden: int


def initial(config, rng):
    return {
        "cell/w": weight(rng, ROWS, config.hidden),
        "cell/u": weight(rng, config.hidden, config.hidden),
        "cell/b": near(rng, 0, config.hidden),
        "head/w": weight(rng, config.hidden, 10),
        "head/b": near(rng, 0, 10),
    }, {}


def forward(ops, p, x, *, config, train):
    def step(h, row):
        z = ops.add(ops.dense(row, p["cell/w"], p["cell/b"]), ops.dense(h, p["cell/u"]))
        return ops.tanh(z)  # (N, hidden)

    start = ops.constant(np.zeros((ops.shape(x)[0], config.hidden)))
    rows = ops.transpose(x, (1, 0, 2))  # (S, N, 8)
    h = ops.scan(step, start, rows)
    return ops.dense(h, p["head/w"], p["head/b"]), {}  # (N, 10)


MODEL = Model(
    sizes={"tiny": Config(length=8, hidden=16), "small": Config(length=64, hidden=128)},
    batch={"tiny": 8, "small": 32},
    initial=initial,
    example=lambda config, batch: digit_sequence(batch, config.length // ROWS),
    forward=forward,
    recipe="sgd_momentum_clip",
    lengths=(8, 16, 32, 64, 128),
    at_length=rows_at_length,
)
