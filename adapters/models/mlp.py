"""The 784-128-10 multilayer perceptron on handwritten digits."""

from dataclasses import dataclass

from adapters.data import digits, digits_split
from adapters.model import Goal, Model, accuracy, near, weight


@dataclass(frozen=True)
class Config:
    side: int
    hidden: int


def initial(config, rng):
    inputs = config.side**2
    return {
        "fc1/w": weight(rng, inputs, config.hidden),
        "fc1/b": near(rng, 0, config.hidden),
        "fc2/w": weight(rng, config.hidden, 10),
        "fc2/b": near(rng, 0, 10),
    }, {}


def forward(ops, p, x, *, config, train):
    h = ops.relu(ops.dense(ops.flatten(x), p["fc1/w"], p["fc1/b"]))  # (N, hidden)
    return ops.dense(h, p["fc2/w"], p["fc2/b"]), {}  # (N, 10)


MODEL = Model(
    sizes={"tiny": Config(side=14, hidden=32), "small": Config(side=28, hidden=128)},
    batch={"tiny": 8, "small": 64},
    initial=initial,
    example=lambda config, batch: digits(config.side, batch),
    forward=forward,
    recipe="sgd_momentum",
    goal=Goal(
        data=lambda config: digits_split(config.side),
        score=accuracy,
        name="accuracy",
        target=0.95,
        steps=800,
        batch=32,
        recipe="adamw_fast",
    ),
    long=300,
)
