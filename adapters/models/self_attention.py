"""One head of self-attention (Vaswani et al. 2017) over the rows of digits, and a dense layer that
names the last digit.

The attention is spelled out, softmax(q k^T / sqrt(D)) v, and left to a compiler to fuse; other
models use the vocabulary's `attention`, for which frameworks have kernels.
"""

import math
from dataclasses import dataclass

import numpy as np

from adapters import layers
from adapters.data import digit_sequence
from adapters.layers import ROWS, rows_at_length
from adapters.model import Model, near, weight

EPSILON = 1e-5


@dataclass(frozen=True)
class Config:
    length: int  # in rows of pixels
    width: int


def initial(config, rng):
    d = config.width
    p = {
        **layers.dense_parameters(rng, "row", ROWS, d),
        "position": near(rng, 0, config.length, d),
        **layers.norm_parameters(rng, "norm1", d),
    }
    for name in ("query", "value", "out"):
        p |= layers.dense_parameters(rng, name, d, d)
    p["key/w"] = weight(rng, d, d)  # no bias: softmax would cancel it
    p |= layers.norm_parameters(rng, "norm2", d)
    return p | layers.dense_parameters(rng, "head", d, 10), {}


def forward(ops, p, x, *, config, train):
    x = ops.add(layers.dense(ops, p, "row", x), p["position"])  # (N, S, D)
    x = layers.norm(ops, p, "norm1", x, epsilon=EPSILON)
    q, k = layers.dense(ops, p, "query", x), ops.dense(x, p["key/w"])
    scale = ops.constant(np.array(1 / math.sqrt(config.width)))
    scores = ops.multiply(ops.matmul(q, ops.transpose(k, (0, 2, 1))), scale)  # (N, S, S)
    h = ops.matmul(ops.softmax(scores), layers.dense(ops, p, "value", x))  # (N, S, D)
    x = ops.add(x, layers.dense(ops, p, "out", h))
    x = layers.norm(ops, p, "norm2", x, epsilon=EPSILON)
    return layers.dense(ops, p, "head", ops.mean(x, axis=1)), {}  # (N, 10)


MODEL = Model(
    sizes={"tiny": Config(length=8, width=16), "small": Config(length=64, width=128)},
    batch={"tiny": 8, "small": 16},
    initial=initial,
    example=lambda config, batch: digit_sequence(batch, config.length // ROWS),
    forward=forward,
    recipe="adamw",
    lengths=(8, 16, 32, 64, 128, 256),
    at_length=rows_at_length,
)
