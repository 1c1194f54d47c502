"""A perceptron whose layers halve, 64-32-16-8-10, with ReLU between, on 8 x 8 digits."""

from dataclasses import dataclass

from adapters.data import digits
from adapters.model import Model, Tensors, near, weight


@dataclass(frozen=True)
class Config:
    side: int
    hidden: int  # layers before the last, each half as wide as what it sees

    @property
    def widths(self):
        return [self.side**2 >> i for i in range(self.hidden + 1)] + [10]


def initial(config, rng):
    p: Tensors = {}
    for i, (inputs, outputs) in enumerate(zip(config.widths, config.widths[1:], strict=False)):
        p |= {f"fc{i + 1}/w": weight(rng, inputs, outputs), f"fc{i + 1}/b": near(rng, 0, outputs)}
    return p, {}


def forward(ops, p, x, *, config, train):
    h = ops.flatten(x)  # (N, side^2)
    for i in range(1, config.hidden + 1):
        h = ops.relu(ops.dense(h, p[f"fc{i}/w"], p[f"fc{i}/b"]))  # (N, side^2 / 2^i)
    last = f"fc{config.hidden + 1}"
    return ops.dense(h, p[f"{last}/w"], p[f"{last}/b"]), {}  # (N, 10)


MODEL = Model(
    sizes={"tiny": Config(side=8, hidden=3), "small": Config(side=32, hidden=3)},
    batch={"tiny": 8, "small": 256},
    initial=initial,
    example=lambda config, batch: digits(config.side, batch),
    forward=forward,
    recipe="sgd_momentum",
)
