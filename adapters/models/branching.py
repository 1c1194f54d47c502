"""A perceptron that branches on its data: its hidden layer goes through softmax where the mean of
that layer over the batch is above 0, else through sigmoid.

One branch is taken for the whole batch. So an example's result depends on its neighbours here, as
in no other model: by the branch, and by nothing else.
"""

from dataclasses import dataclass

import numpy as np

from adapters.data import digits
from adapters.model import Model, near, weight


@dataclass(frozen=True)
class Config:
    side: int
    hidden: int


def initial(config, rng):
    return {
        "fc1/w": weight(rng, config.side**2, config.hidden),
        "fc1/b": near(rng, 0, config.hidden),
        "fc2/w": weight(rng, config.hidden, 10),
        "fc2/b": near(rng, 0, 10),
    }, {}


def example(config, batch):
    """Digits, their labels as rows with a single 1."""
    images = digits(config.side, batch)
    return {"x": images["x"], "y": np.eye(10)[images["y"]]}


def hidden(ops, p, x):
    return ops.dense(ops.flatten(x), p["fc1/w"], p["fc1/b"])  # (N, hidden)


def forward(ops, p, x, *, config, train):
    h = hidden(ops, p, x)
    above = ops.greater(ops.mean(h, axis=(0, 1)), ops.constant(np.zeros(())))  # ()
    h = ops.cond(above, ops.softmax, ops.sigmoid, h)  # (N, hidden)
    return ops.dense(h, p["fc2/w"], p["fc2/b"]), {}  # (N, 10)


MODEL = Model(
    sizes={"tiny": Config(side=14, hidden=32), "small": Config(side=28, hidden=1024)},
    batch={"tiny": 8, "small": 256},
    initial=initial,
    example=example,
    forward=forward,
    loss=lambda ops, output, y: ops.mse(output, y),
    recipe="sgd_momentum",
)
