"""Two convolutions with max pooling, dropout, and two dense layers.

The dropout mask comes with the batch, so that every framework drops the same units. It holds 0 or
1 / (1 - rate) (Srivastava et al. 2014, inverted), and nothing is dropped but in training.
"""

from dataclasses import dataclass

from adapters.data import digits, keep_mask
from adapters.model import Model, near, weight

RATE = 0.25
SEED = 0


@dataclass(frozen=True)
class Config:
    side: int
    channels: tuple[int, int]
    hidden: int

    @property
    def features(self):
        return (self.side // 4) ** 2 * self.channels[1]


def initial(config, rng):
    first, second = config.channels
    return {
        "conv1/w": weight(rng, 3, 3, 1, first),
        "conv1/b": near(rng, 0, first),
        "conv2/w": weight(rng, 3, 3, first, second),
        "conv2/b": near(rng, 0, second),
        "fc1/w": weight(rng, config.features, config.hidden),
        "fc1/b": near(rng, 0, config.hidden),
        "fc2/w": weight(rng, config.hidden, 10),
        "fc2/b": near(rng, 0, 10),
    }, {}


def example(config, batch):
    images = digits(config.side, batch)
    keep = keep_mask((batch, config.features), RATE, SEED)
    return {"x/image": images["x"], "x/keep": keep, "y": images["y"]}


def forward(ops, p, x, *, config, train):
    h = x["image"]  # (N, side, side, 1)
    for i in ("1", "2"):
        h = ops.relu(ops.conv2d(h, p[f"conv{i}/w"], p[f"conv{i}/b"], padding=1))
        h = ops.max_pool2d(h, window=2, stride=2)  # (N, side / 2^i, side / 2^i, channels)
    h = ops.flatten(h)  # (N, features)
    if train:
        h = ops.multiply(h, x["keep"])
    h = ops.relu(ops.dense(h, p["fc1/w"], p["fc1/b"]))  # (N, hidden)
    return ops.dense(h, p["fc2/w"], p["fc2/b"]), {}  # (N, 10)


MODEL = Model(
    sizes={
        "tiny": Config(side=14, channels=(4, 8), hidden=16),
        "small": Config(side=28, channels=(32, 64), hidden=128),
    },
    batch={"tiny": 8, "small": 32},
    initial=initial,
    example=example,
    forward=forward,
    recipe="sgd_momentum",
)
