"""A GRU (Cho et al. 2014) that reads digits row by row and names the last one."""

from dataclasses import dataclass

import numpy as np

from adapters.data import digit_sequence
from adapters.layers import ROWS, rows_at_length
from adapters.model import Model, Tensors, near, weight


@dataclass(frozen=True)
class Config:
    length: int  # in rows of pixels
    hidden: int
    depth: int


def initial(config, rng):
    p: Tensors = {}
    for i in range(config.depth):
        p |= {
            f"cell{i}/w": weight(rng, config.hidden if i else ROWS, 3 * config.hidden),
            f"cell{i}/u": weight(rng, config.hidden, 3 * config.hidden),
            f"cell{i}/b": near(rng, 0, 3 * config.hidden),
            f"cell{i}/b_recurrent": near(rng, 0, 3 * config.hidden),
        }
    return p | {"head/w": weight(rng, config.hidden, 10), "head/b": near(rng, 0, 10)}, {}


def forward(ops, p, x, *, config, train):
    start = ops.constant(np.zeros((ops.shape(x)[0], config.hidden)))
    for i in range(config.depth):
        cell = f"cell{i}"
        x, last = ops.gru(
            x, start, p[f"{cell}/w"], p[f"{cell}/u"], p[f"{cell}/b"], p[f"{cell}/b_recurrent"]
        )  # (N, S, hidden), (N, hidden)
    return ops.dense(last, p["head/w"], p["head/b"]), {}  # (N, 10)


MODEL = Model(
    sizes={
        "tiny": Config(length=8, hidden=16, depth=1),
        "small": Config(length=32, hidden=128, depth=2),
    },
    batch={"tiny": 8, "small": 16},
    initial=initial,
    example=lambda config, batch: digit_sequence(batch, config.length // ROWS),
    forward=forward,
    recipe="adam",
    lengths=(8, 16, 32, 64, 128),
    at_length=rows_at_length,
)
