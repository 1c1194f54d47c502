"""A transformer block whose perceptron is a mixture of experts, each token going to two of them
(GShard, Lepikhin et al. 2021), over the rows of digits; it names the last digit.

An expert has room for so many tokens of an example; those that come later pass it by. First
choices come before second ones, and earlier tokens before later ones. The loss adds, per example,
how unevenly the tokens are spread. GShard counts room and spread over a group of examples and lets
chance drop second choices; here an example is a group, and nothing is left to chance.
"""

import math
from dataclasses import dataclass

import numpy as np

from adapters import layers
from adapters.data import digit_sequence
from adapters.layers import ROWS, rows_at_length
from adapters.model import Model, near, weight

EPSILON = 1e-5  # of every layer normalisation
CHOICES = 2  # experts of a token
SLACK = 1.25  # room for tokens by what an even spread needs
BALANCE = 0.01  # weight in the loss


@dataclass(frozen=True)
class Config:
    length: int  # in rows of pixels
    width: int
    heads: int
    experts: int

    @property
    def room(self):
        """Tokens of an example that an expert takes."""
        return math.ceil(SLACK * CHOICES * self.length / self.experts)


def initial(config, rng):
    d, e = config.width, config.experts
    return {
        **layers.dense_parameters(rng, "row", ROWS, d),
        "position": rng.normal(0.0, 1.0, (config.length, d)),  # so that experts differ in it
        **layers.norm_parameters(rng, "norm1", d),
        **layers.dense_parameters(rng, "attention/qkv", d, 3 * d),
        **layers.dense_parameters(rng, "attention/out", d, d),
        **layers.norm_parameters(rng, "norm2", d),
        "gate/w": weight(rng, d, e),
        "experts/fc1/w": np.stack([weight(rng, d, 4 * d) for _ in range(e)]),
        "experts/fc1/b": near(rng, 0, e, 1, 4 * d),
        "experts/fc2/w": np.stack([weight(rng, 4 * d, d) for _ in range(e)]),
        "experts/fc2/b": near(rng, 0, e, 1, d),
        **layers.norm_parameters(rng, "norm", d),
        **layers.dense_parameters(rng, "head", d, 10),
    }, {}


def forward(ops, p, x, *, config, train):
    gates, x, h = gating(ops, p, x, config=config)
    dispatch, combine, balance = route(ops, gates, config=config)
    x = ops.add(x, _experts(ops, p, h, dispatch, combine, config=config))
    x = layers.norm(ops, p, "norm", x, epsilon=EPSILON)
    logits = layers.dense(ops, p, "head", ops.mean(x, axis=1))  # (N, 10)
    return {"logits": logits, "balance": balance}, {}


def gating(ops, p, x, *, config):
    """How much each token wants each expert (N, S, E), what the experts add to, and what they see,
    both (N, S, D)."""
    x = ops.add(layers.dense(ops, p, "row", x), p["position"])
    h = layers.norm(ops, p, "norm1", x, epsilon=EPSILON)
    x = ops.add(
        x, layers.attention(ops, p, "attention", h, heads=config.heads, attend=ops.attention)
    )
    h = layers.norm(ops, p, "norm2", x, epsilon=EPSILON)
    return ops.softmax(ops.dense(h, p["gate/w"])), x, h


def route(ops, gates, *, config):
    """Which token has which place (N, S, E, R), how much of the result there it gets, likewise, and
    how uneven the spread is (N,). R is the room of an expert."""
    (n, s, e), r = ops.shape(gates), config.room
    best, chosen = ops.top_k(gates, CHOICES)  # (N, S, 2)
    total = ops.reshape(ops.sum(best, axis=2), (n, s, 1))
    share = ops.transpose(ops.divide(best, total), (0, 2, 1))  # (N, 2, S)
    chosen = ops.one_hot(ops.transpose(chosen, (0, 2, 1)), e)  # (N, 2, S, E)

    # A queue of all first choices, then all second ones; `ahead` counts those before in it.
    queue = ops.reshape(chosen, (n, CHOICES * s, e))
    earlier = ops.constant(np.triu(np.ones((CHOICES * s, CHOICES * s)), 1))
    ahead = ops.dense(ops.transpose(queue, (0, 2, 1)), earlier)  # (N, E, 2S)
    ahead = ops.sum(ops.multiply(ops.transpose(ahead, (0, 2, 1)), queue), axis=2)  # (N, 2S)
    distance = ops.subtract(ops.reshape(ahead, (n, CHOICES * s, 1)), ops.constant(np.arange(r)))
    one = ops.constant(np.array(1.0))
    place = ops.relu(ops.subtract(one, ops.absolute(distance)))  # (N, 2S, R): 1 at a whole number

    place = ops.reshape(place, (n, CHOICES, s, 1, r))
    taken = ops.multiply(ops.reshape(chosen, (n, CHOICES, s, e, 1)), place)  # (N, 2, S, E, R)
    share = ops.reshape(share, (n, CHOICES, s, 1, 1))
    dispatch, combine = ops.sum(taken, axis=1), ops.sum(ops.multiply(taken, share), axis=1)
    first = ops.reshape(ops.slice(chosen, axis=1, start=0, stop=1), (n, s, e))
    even = ops.multiply(ops.mean(first, axis=1), ops.mean(gates, axis=1))  # (N, E)
    balance = ops.multiply(ops.sum(even, axis=1), ops.constant(np.array(float(e))))
    return dispatch, combine, balance


def _experts(ops, p, x, dispatch, combine, *, config):
    n, s, e, r = ops.shape(dispatch)
    d = config.width
    places = ops.transpose(ops.reshape(dispatch, (n, s, e * r)), (0, 2, 1))  # (N, E R, S)
    h = ops.reshape(ops.matmul(places, x), (n, e, r, d))
    h = ops.reshape(ops.transpose(h, (1, 0, 2, 3)), (e, n * r, d))
    h = ops.gelu(ops.add(ops.matmul(h, p["experts/fc1/w"]), p["experts/fc1/b"]))  # (E, N R, 4D)
    h = ops.add(ops.matmul(h, p["experts/fc2/w"]), p["experts/fc2/b"])  # (E, N R, D)
    h = ops.transpose(ops.reshape(h, (e, n, r, d)), (1, 0, 2, 3))
    h = ops.reshape(h, (n, e * r, d))
    return ops.matmul(ops.reshape(combine, (n, s, e * r)), h)  # (N, S, D)


def loss(ops, output, y):
    balance = ops.multiply(ops.mean(output["balance"], axis=0), ops.constant(np.array(BALANCE)))
    return ops.add(ops.cross_entropy(output["logits"], y), balance)


MODEL = Model(
    sizes={
        "tiny": Config(length=8, width=16, heads=2, experts=4),
        "small": Config(length=32, width=128, heads=4, experts=8),
    },
    batch={"tiny": 4, "small": 8},
    initial=initial,
    example=lambda config, batch: digit_sequence(batch, config.length // ROWS),
    forward=forward,
    loss=loss,
    recipe="adamw_clip",
    lengths=(8, 16, 32, 64, 128),
    at_length=rows_at_length,
)
