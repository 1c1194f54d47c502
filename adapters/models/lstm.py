"""An LSTM (Hochreiter and Schmidhuber 1997) that reads digits row by row and names the last one."""

from dataclasses import dataclass

import numpy as np

from adapters.data import digit_rows_split, digit_sequence
from adapters.layers import ROWS, rows_at_length
from adapters.model import Goal, Model, Tensors, accuracy, near, weight


@dataclass(frozen=True)
class Config:
    length: int  # in rows of pixels
    hidden: int
    depth: int


def initial(config, rng):
    p: Tensors = {}
    for i in range(config.depth):
        p |= {
            f"cell{i}/w": weight(rng, config.hidden if i else ROWS, 4 * config.hidden),
            f"cell{i}/u": weight(rng, config.hidden, 4 * config.hidden),
            f"cell{i}/b": near(rng, 0, 4 * config.hidden),
        }
    return p | {"head/w": weight(rng, config.hidden, 10), "head/b": near(rng, 0, 10)}, {}


def forward(ops, p, x, *, config, train):
    start = ops.constant(np.zeros((ops.shape(x)[0], config.hidden)))
    for i in range(config.depth):
        cell = f"cell{i}"
        x, last, _ = ops.lstm(
            x, start, start, p[f"{cell}/w"], p[f"{cell}/u"], p[f"{cell}/b"]
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
    goal=Goal(
        data=lambda config: digit_rows_split(),
        score=accuracy,
        name="accuracy",
        target=0.9,
        steps=800,
        batch=32,
        recipe="adamw_fast",
        every=20,
    ),
    lengths=(8, 16, 32, 64, 128),
    at_length=rows_at_length,
)
