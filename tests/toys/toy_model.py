"""A toy model in one file: a linear classifier of handwritten digits."""

from adapters.data import digits
from adapters.model import Model, near, weight


def initial(config, rng):
    return {"fc/w": weight(rng, config * config, 10), "fc/b": near(rng, 0, 10)}, {}


def forward(ops, p, x, *, config, train):
    return ops.dense(ops.flatten(x), p["fc/w"], p["fc/b"]), {}


MODEL = Model(
    sizes={"tiny": 8},
    batch={"tiny": 4},
    initial=initial,
    example=lambda config, batch: digits(config, batch),
    forward=forward,
    recipe="sgd_momentum",
)
