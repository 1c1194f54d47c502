"""What of the traps is more than one operation: functions (ops, tensors...)."""

from __future__ import annotations

import numpy as np

from adapters.ops import Array, Ops

SIGMAS = 5  # by which a count may be off before chance is no longer believed


def softplus_above(ops: Ops, x: Array) -> Array:
    """softplus(x) - x, which is log1p(e^-x) for x > 0 and 0 where it is called linear."""
    return ops.subtract(ops.softplus(x), x)


def same_convolution(ops: Ops, x: Array, w: Array) -> Array:
    """A 3 x 3 convolution with stride 2 of an even size as TensorFlow pads it: (0, 1)."""
    return ops.conv2d(ops.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)]), w, stride=2)


def two_slopes(ops: Ops, x: Array, zero: Array) -> tuple[Array, Array]:
    """relu(x) and max(x, 0), which are one function with two gradients at 0."""
    return ops.relu(x), ops.maximum(x, zero)


def above_one(ops: Ops, x: Array) -> Array:
    """x - 1, of which float32 keeps nothing where x is 1 + 2^-40."""
    return ops.subtract(x, ops.constant(np.asarray(1.0)))


def named_layers(ops: Ops, x: Array, fc2: Array, fc10: Array) -> Array:
    """tanh(x fc2) fc10: two parameters of one shape, the first of which sorts behind the other."""
    return ops.matmul(ops.tanh(ops.matmul(x, fc2)), fc10)


def reductions(ops: Ops, x: Array, target: Array, labels: Array) -> tuple[Array, ...]:
    """The three losses that frameworks reduce in different ways, each a mean."""
    return (
        ops.mse(x, target),
        ops.smooth_l1(x, target, beta=1.0),
        ops.cross_entropy(x, labels),
    )


# -- dropout: x has no 0, and 1 / (1 - rate) is a power of two, so that products are exact ---------


def dropout_scale(ops: Ops, x: Array, *, rate: float) -> Array:
    """y (y - x / (1 - rate)), which is 0 where y is 0 or scaled as it should be."""
    y = ops.dropout(x, rate=rate, seed=1)
    scaled = ops.multiply(x, ops.constant(np.asarray(1 / (1 - rate))))
    return ops.multiply(y, ops.subtract(y, scaled))


def dropout_again(ops: Ops, x: Array, *, rate: float) -> Array:
    """The difference between two dropouts with one seed: 0."""
    return ops.subtract(ops.dropout(x, rate=rate, seed=3), ops.dropout(x, rate=rate, seed=3))


def dropout_gradient(ops: Ops, x: Array, *, rate: float) -> Array:
    """x dy/dx - y, which is 0 where the gradient passes what the result has kept."""
    (slope,) = ops.gradient(lambda z: ops.sum(ops.dropout(z, rate=rate, seed=5), axis=0), x)
    return ops.subtract(ops.multiply(x, slope), ops.dropout(x, rate=rate, seed=5))


def dropout_rate(ops: Ops, x: Array, *, rate: float) -> Array:
    """Whether as many elements are kept as chance allows."""
    (n,) = ops.shape(x)
    off = ops.sum(_centred(ops, x, rate=rate, seed=7), axis=0)
    return _small(ops, off, float(np.sqrt(n * rate * (1 - rate))))


def dropout_mean(ops: Ops, x: Array, *, rate: float) -> Array:
    """Whether the sum stays, as far as chance allows: inverted dropout needs no other scale later.
    The variance of an element is x^2 rate / (1 - rate)."""
    off = ops.sum(ops.subtract(ops.dropout(x, rate=rate, seed=9), x), axis=0)
    squares = ops.sum(ops.multiply(x, x), axis=0)
    variance = ops.multiply(squares, ops.constant(np.asarray(rate / (1 - rate))))
    bound = ops.multiply(ops.sqrt(variance), ops.constant(np.asarray(float(SIGMAS))))
    return ops.greater(bound, ops.absolute(off))


def dropout_neighbours(ops: Ops, x: Array, *, rate: float) -> Array:
    """Whether neighbours are kept independently: the sum of products of what is centred."""
    (n,) = ops.shape(x)
    kept = _centred(ops, x, rate=rate, seed=11)
    left = ops.slice(kept, axis=0, start=0, stop=n - 1)
    right = ops.slice(kept, axis=0, start=1, stop=n)
    total = ops.sum(ops.multiply(left, right), axis=0)
    return _small(ops, total, float(np.sqrt(n - 1) * rate * (1 - rate)))


def dropout_seeds(ops: Ops, x: Array, *, rate: float) -> Array:
    """Whether another seed is another draw, independent of the first."""
    (n,) = ops.shape(x)
    one, other = (_centred(ops, x, rate=rate, seed=seed) for seed in (13, 14))
    total = ops.sum(ops.multiply(one, other), axis=0)
    return _small(ops, total, float(np.sqrt(n) * rate * (1 - rate)))


def _centred(ops: Ops, x: Array, *, rate: float, seed: int) -> Array:
    """1 where an element was kept and 0 elsewhere, minus the mean of that, 1 - rate."""
    kept = ops.greater(ops.absolute(ops.dropout(x, rate=rate, seed=seed)), _zero(ops))
    return ops.where(kept, ops.constant(np.asarray(rate)), ops.constant(np.asarray(rate - 1)))


def _small(ops: Ops, off: Array, sigma: float) -> Array:
    return ops.greater(ops.constant(np.asarray(SIGMAS * sigma)), ops.absolute(off))


def _zero(ops: Ops) -> Array:
    return ops.constant(np.asarray(0.0))
