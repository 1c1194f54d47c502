"""Vision Transformer (Dosovitskiy et al. 2020): patches, class token, pre-norm blocks, GELU."""

import math
from dataclasses import dataclass, replace

from adapters import layers
from adapters.data import digits, digits_split, photographs
from adapters.model import Goal, Model, Published, accuracy, near, weight

EPSILON = 1e-6  # of every layer normalisation, as published


@dataclass(frozen=True)
class Config:
    side: int
    patch: int
    width: int
    depth: int
    heads: int
    channels: int = 1
    classes: int = 10

    @property
    def tokens(self):
        return (self.side // self.patch) ** 2 + 1


def at_length(config, length):
    """The configuration whose images make `length` tokens: a square of patches and one more."""
    side = math.isqrt(length - 1)
    if side * side != length - 1 or not side:
        raise ValueError(f"{length} tokens, but should be a square number and 1")
    return replace(config, side=side * config.patch)


def initial(config, rng):
    d = config.width
    p = {
        "class_token": near(rng, 0, 1, 1, d),
        "position": near(rng, 0, 1, config.tokens, d),
        "patch/w": weight(rng, config.patch, config.patch, config.channels, d),
        "patch/b": near(rng, 0, d),
    }
    for i in range(config.depth):
        p |= layers.block_parameters(rng, f"block{i}", d, 4 * d)
    p |= layers.norm_parameters(rng, "norm", d)
    return p | layers.dense_parameters(rng, "head", d, config.classes), {}


def example(config, batch):
    """Digits in grey, or photographs in colour, of which there are two classes."""
    return (digits if config.channels == 1 else photographs)(config.side, batch)


def forward(ops, p, x, *, config, train):
    n, d = ops.shape(x)[0], config.width
    x = ops.conv2d(x, p["patch/w"], p["patch/b"], stride=config.patch)  # (N, h, w, D)
    x = ops.reshape(x, (n, config.tokens - 1, d))  # (N, S - 1, D)
    x = ops.concat([ops.broadcast_to(p["class_token"], (n, 1, d)), x], axis=1)  # (N, S, D)
    x = ops.add(x, p["position"])
    for i in range(config.depth):
        x = layers.pre_norm(
            ops, p, f"block{i}", x, heads=config.heads, attend=ops.attention,
            activation=ops.gelu, epsilon=EPSILON,
        )  # fmt: skip
    x = layers.norm(ops, p, "norm", x, epsilon=EPSILON)
    x = ops.reshape(ops.slice(x, axis=1, start=0, stop=1), (n, d))  # the class token
    return layers.dense(ops, p, "head", x), {}  # (N, classes)


MODEL = Model(
    sizes={
        "tiny": Config(side=14, patch=7, width=16, depth=2, heads=2),
        "small": Config(side=28, patch=4, width=128, depth=4, heads=4),
        "full": Config(side=224, patch=16, width=768, depth=12, heads=12, channels=3, classes=1000),
    },
    batch={"tiny": 4, "small": 8, "full": 2},
    initial=initial,
    example=example,
    forward=forward,
    recipe="adamw_clip",
    goal=Goal(
        data=lambda config: digits_split(config.side),
        score=accuracy,
        name="accuracy",
        target=0.9,
        steps=800,
        batch=32,
        recipe="adamw_fast",
        every=20,
    ),
    long=100,
    lengths=(10, 17, 37, 65, 145, 257),
    at_length=at_length,
    published={
        "full": Published(
            parameters=86_567_656, gmac=17.6, source="Dosovitskiy et al. 2020, ViT-B/16"
        )
    },
)
