"""Two 3x3 convolutions with batch normalisation and max pooling, and a dense head."""

from dataclasses import dataclass

from adapters.data import digits, digits_split
from adapters.model import Goal, Model, accuracy, near, weight

MOMENTUM = 0.1
EPSILON = 1e-5


@dataclass(frozen=True)
class Config:
    side: int
    channels: tuple[int, int]


def initial(config, rng):
    first, second = config.channels
    features = (config.side // 4) ** 2 * second
    params = {
        "conv1/w": weight(rng, 3, 3, 1, first),
        "norm1/scale": near(rng, 1, first),
        "norm1/offset": near(rng, 0, first),
        "conv2/w": weight(rng, 3, 3, first, second),
        "norm2/scale": near(rng, 1, second),
        "norm2/offset": near(rng, 0, second),
        "head/w": weight(rng, features, 10),
        "head/b": near(rng, 0, 10),
    }
    buffers = {
        "norm1/mean": near(rng, 0, first),
        "norm1/var": near(rng, 1, first),
        "norm2/mean": near(rng, 0, second),
        "norm2/var": near(rng, 1, second),
    }
    return params, buffers


def forward(ops, p, x, *, config, train):
    buffers = {}
    for i in ("1", "2"):
        # no bias: batch normalisation would cancel it
        x = ops.conv2d(x, p[f"conv{i}/w"], padding=1)  # (N, side, side, channels)
        x, buffers[f"norm{i}/mean"], buffers[f"norm{i}/var"] = ops.batch_norm(
            x,
            p[f"norm{i}/scale"],
            p[f"norm{i}/offset"],
            p[f"norm{i}/mean"],
            p[f"norm{i}/var"],
            train=train,
            momentum=MOMENTUM,
            epsilon=EPSILON,
        )
        x = ops.max_pool2d(ops.relu(x), window=2, stride=2)  # (N, side/2, side/2, channels)
    return ops.dense(ops.flatten(x), p["head/w"], p["head/b"]), buffers  # (N, 10)


MODEL = Model(
    sizes={"tiny": Config(side=14, channels=(4, 8)), "small": Config(side=28, channels=(32, 64))},
    batch={"tiny": 8, "small": 32},
    initial=initial,
    example=lambda config, batch: digits(config.side, batch),
    forward=forward,
    recipe="sgd_momentum_clip",
    goal=Goal(
        data=lambda config: digits_split(config.side),
        score=accuracy,
        name="accuracy",
        target=0.95,
        steps=800,
        batch=32,
        recipe="adamw_fast",
    ),
    long=100,
)
