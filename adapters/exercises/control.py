"""Control flow that depends on data or on shapes, in each framework's native construct."""

from __future__ import annotations

import numpy as np

from adapters.ops import Array, Ops


def branch(ops: Ops, x: Array) -> Array:
    """x^2 or -x, by the sign of its sum: one branch for a whole tensor."""
    positive = ops.greater(ops.sum(x, axis=0), ops.constant(np.asarray(0.0)))
    return ops.cond(
        positive,
        lambda y: ops.multiply(y, y),
        lambda y: ops.subtract(ops.multiply(y, ops.constant(np.asarray(0.0))), y),
        x,
    )


def loop_over_sequence(ops: Ops, x: Array) -> Array:
    """h <- tanh(h / 2 + x_t) over the rows of x (S, D), whose number differs from call to call."""
    half = ops.constant(np.asarray(0.5))
    start = ops.reshape(ops.slice(x, axis=0, start=0, stop=1), (-1,))  # (D,)
    return ops.scan(lambda h, row: ops.tanh(ops.add(ops.multiply(h, half), row)), start, x)


def halve_until_small(ops: Ops, x: Array) -> Array:
    """Halves x until the sum of its squares is at most 1: how often, only the data know."""
    half = ops.constant(np.asarray(0.5))
    one = ops.constant(np.asarray(1.0))

    def large(y: Array) -> Array:
        return ops.greater(ops.sum(ops.multiply(y, y), axis=0), one)

    return ops.while_loop(large, lambda y: ops.multiply(y, half), x)


def built_from_shape(ops: Ops, x: Array) -> Array:
    """A network as deep as its input is wide: halves (N, D) by averaging neighbours until D is 1.
    Python's own loop over static shapes; a new width is a new network."""
    while ops.shape(x)[-1] > 1:
        n, d = ops.shape(x)
        x = ops.tanh(ops.mean(ops.reshape(x, (n, d // 2, 2)), axis=2))
    return x


def plain(ops: Ops, x: Array) -> Array:
    """No control flow at all, for comparison: what a new shape alone costs."""
    return ops.tanh(ops.multiply(x, x))
