"""Vision Transformer (Dosovitskiy et al. 2020): patches, class token, pre-norm blocks, GELU."""

import math
from dataclasses import dataclass, replace

from adapters.data import digits
from adapters.model import Model, near, weight

EPSILON = 1e-6  # of every layer normalisation, as published


@dataclass(frozen=True)
class Config:
    side: int
    patch: int
    width: int
    depth: int
    heads: int

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
        "patch/w": weight(rng, config.patch, config.patch, 1, d),
        "patch/b": near(rng, 0, d),
    }
    for i in range(config.depth):
        block = f"block{i}"
        p |= {
            f"{block}/norm1/scale": near(rng, 1, d),
            f"{block}/norm1/offset": near(rng, 0, d),
            f"{block}/attention/qkv/w": weight(rng, d, 3 * d),
            f"{block}/attention/qkv/b": near(rng, 0, 3 * d),
            f"{block}/attention/out/w": weight(rng, d, d),
            f"{block}/attention/out/b": near(rng, 0, d),
            f"{block}/norm2/scale": near(rng, 1, d),
            f"{block}/norm2/offset": near(rng, 0, d),
            f"{block}/mlp/fc1/w": weight(rng, d, 4 * d),
            f"{block}/mlp/fc1/b": near(rng, 0, 4 * d),
            f"{block}/mlp/fc2/w": weight(rng, 4 * d, d),
            f"{block}/mlp/fc2/b": near(rng, 0, d),
        }
    return p | {
        "norm/scale": near(rng, 1, d),
        "norm/offset": near(rng, 0, d),
        "head/w": weight(rng, d, 10),
        "head/b": near(rng, 0, 10),
    }, {}


def forward(ops, p, x, *, config, train):
    n, d = ops.shape(x)[0], config.width
    x = ops.conv2d(x, p["patch/w"], p["patch/b"], stride=config.patch)  # (N, h, w, D)
    x = ops.reshape(x, (n, config.tokens - 1, d))  # (N, S - 1, D)
    x = ops.concat([ops.broadcast_to(p["class_token"], (n, 1, d)), x], axis=1)  # (N, S, D)
    x = ops.add(x, p["position"])
    for i in range(config.depth):
        block = f"block{i}"
        h = _norm(ops, p, f"{block}/norm1", x)
        x = ops.add(x, _attention(ops, p, f"{block}/attention", h, heads=config.heads))
        h = _norm(ops, p, f"{block}/norm2", x)
        h = ops.gelu(ops.dense(h, p[f"{block}/mlp/fc1/w"], p[f"{block}/mlp/fc1/b"]))  # (N, S, 4D)
        x = ops.add(x, ops.dense(h, p[f"{block}/mlp/fc2/w"], p[f"{block}/mlp/fc2/b"]))
    x = _norm(ops, p, "norm", x)
    x = ops.reshape(ops.slice(x, axis=1, start=0, stop=1), (n, d))  # the class token
    return ops.dense(x, p["head/w"], p["head/b"]), {}  # (N, 10)


def _norm(ops, p, name, x):
    return ops.layer_norm(x, p[f"{name}/scale"], p[f"{name}/offset"], epsilon=EPSILON)


def _attention(ops, p, name, x, *, heads):
    n, s, d = ops.shape(x)
    qkv = ops.dense(x, p[f"{name}/qkv/w"], p[f"{name}/qkv/b"])  # (N, S, 3D)
    q, k, v = (
        ops.reshape(
            ops.slice(qkv, axis=2, start=i * d, stop=(i + 1) * d), (n, s, heads, d // heads)
        )
        for i in range(3)
    )
    y = ops.reshape(ops.attention(q, k, v), (n, s, d))  # (N, S, D)
    return ops.dense(y, p[f"{name}/out/w"], p[f"{name}/out/b"])


MODEL = Model(
    sizes={
        "tiny": Config(side=14, patch=7, width=16, depth=2, heads=2),
        "small": Config(side=28, patch=4, width=128, depth=4, heads=4),
    },
    batch={"tiny": 4, "small": 8},
    initial=initial,
    example=lambda config, batch: digits(config.side, batch),
    forward=forward,
    recipe="adamw_clip",
    lengths=(10, 17, 37, 65, 145, 257),
    at_length=at_length,
)
