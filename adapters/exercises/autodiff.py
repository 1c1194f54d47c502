"""What differentiation is asked: functions (ops, tensors...) whose gradients are the results.

Shapes are those of the exercises in `suites/conformance/autodiff.py`: a perceptron with x (N, I),
w (I, H), b (H) and u (H), or vectors.
"""

from __future__ import annotations

import numpy as np

from adapters import model as models
from adapters.ops import Array, Ops


def _energy(ops: Ops, x: Array, w: Array, b: Array, u: Array) -> Array:
    """sum of tanh(x w + b) u squared: smooth, and of every argument in every order."""
    h = ops.tanh(ops.dense(x, w, b))  # (N, H)
    y = ops.multiply(h, u)  # (N, H)
    return ops.sum(ops.multiply(y, y), axis=(0, 1))


def first_order(ops: Ops, x: Array, w: Array, b: Array, u: Array) -> tuple[Array, ...]:
    """The gradient by every argument."""
    return ops.gradient(lambda *all_: _energy(ops, *all_), x, w, b, u)


def second_order(ops: Ops, x: Array) -> Array:
    """The gradient of the squared norm of a gradient: needs second derivatives everywhere."""

    def slope(y: Array) -> Array:
        (g,) = ops.gradient(lambda z: _quartic(ops, z), y)
        return ops.sum(ops.multiply(g, g), axis=0)

    return ops.gradient(slope, x)[0]


def _quartic(ops: Ops, x: Array) -> Array:
    """sum x^4 + (sum x_i x_(i+1))^2: its Hessian is no diagonal matrix."""
    squares = ops.multiply(x, x)
    n = ops.shape(x)[0]
    left = ops.slice(x, axis=0, start=0, stop=n - 1)
    right = ops.slice(x, axis=0, start=1, stop=n)
    mixed = ops.sum(ops.multiply(left, right), axis=0)
    return ops.add(ops.sum(ops.multiply(squares, squares), axis=0), ops.multiply(mixed, mixed))


def hessian(ops: Ops, x: Array) -> Array:
    """All second derivatives, a row per unit vector. (n,) -> (n, n)"""
    n = ops.shape(x)[0]
    rows = []
    for i in range(n):
        unit = ops.constant(np.eye(n)[i])

        def slope(y: Array, unit: Array = unit) -> Array:
            (g,) = ops.gradient(lambda z: _quartic(ops, z), y)
            return ops.sum(ops.multiply(g, unit), axis=0)

        rows.append(ops.reshape(ops.gradient(slope, x)[0], (1, n)))
    return ops.concat(rows, axis=0)


def hessian_vector(ops: Ops, x: Array, w: Array, b: Array, u: Array, v: Array) -> Array:
    """The Hessian of the energy by w, times v: the gradient of <gradient, v> (Pearlmutter 1994)."""

    def along(weights: Array) -> Array:
        (g,) = ops.gradient(lambda z: _energy(ops, x, z, b, u), weights)
        return ops.sum(ops.multiply(g, v), axis=(0, 1))

    return ops.gradient(along, w)[0]


def third_order(ops: Ops, x: Array) -> Array:
    """d^3/dx^3 of sum x^4 / 24, which is x."""

    def first(y: Array) -> Array:
        return ops.sum(ops.multiply(ops.multiply(y, y), ops.multiply(y, y)), axis=0)

    def second(y: Array) -> Array:
        return ops.sum(ops.gradient(first, y)[0], axis=0)

    def third(y: Array) -> Array:
        return ops.sum(ops.gradient(second, y)[0], axis=0)

    return ops.multiply(ops.gradient(third, x)[0], ops.constant(np.asarray(1 / 24)))


def per_example_gradients(ops: Ops, x: Array, w: Array, b: Array, u: Array) -> Array:
    """The gradient by w of every example alone. (N, I), (I, H) -> (N, I, H)"""

    def of_one(example: Array) -> Array:
        row = ops.reshape(example, (1, -1))
        return ops.gradient(lambda z: _energy(ops, row, z, b, u), w)[0]

    return ops.per_example(of_one, x)


def stopped(ops: Ops, x: Array) -> Array:
    """The gradient of sum x * stop(x^2), which is x^2 and not 3 x^2."""

    def f(y: Array) -> Array:
        return ops.sum(ops.multiply(y, ops.stop_gradient(ops.multiply(y, y))), axis=0)

    return ops.gradient(f, x)[0]


def straight_through(ops: Ops, x: Array) -> tuple[Array, Array]:
    """clip with the identity's gradient (Bengio et al. 2013): the value, and the gradient of the
    sum of its squares."""

    def f(y: Array) -> Array:
        return ops.custom_gradient(
            lambda z: ops.clip(z, low=-1.0, high=1.0), lambda z, cotangent: cotangent, y
        )

    def total(y: Array) -> Array:
        return ops.sum(ops.multiply(f(y), f(y)), axis=0)

    return f(x), ops.gradient(total, x)[0]


def custom_uses_input(ops: Ops, x: Array) -> Array:
    """A custom gradient that depends on the input: of exp, declared to be 2 x cotangent."""

    def f(y: Array) -> Array:
        two = ops.constant(np.asarray(2.0))
        return ops.custom_gradient(ops.exp, lambda z, g: ops.multiply(ops.multiply(two, z), g), y)

    return ops.gradient(lambda y: ops.sum(f(y), axis=0), x)[0]


def used_twice(ops: Ops, x: Array) -> Array:
    """The gradient of sum h * tanh(h) + h, h = x^2: a value with three uses."""

    def f(y: Array) -> Array:
        h = ops.multiply(y, y)
        return ops.sum(ops.add(ops.multiply(h, ops.tanh(h)), h), axis=0)

    return ops.gradient(f, x)[0]


def unused(ops: Ops, x: Array, w: Array) -> tuple[Array, ...]:
    """The gradients by an argument that counts and by one that does not, which is zero."""
    return ops.gradient(lambda y, _: ops.sum(ops.multiply(y, y), axis=0), x, w)


def through_branch(ops: Ops, x: Array) -> Array:
    """The gradient of a branch that the data choose: the one that ran counts."""

    def f(y: Array) -> Array:
        positive = ops.greater(ops.sum(y, axis=0), ops.constant(np.asarray(0.0)))
        return ops.cond(
            positive,
            lambda z: ops.sum(ops.multiply(z, z), axis=0),
            lambda z: ops.sum(ops.exp(z), axis=0),
            y,
        )

    return ops.gradient(f, x)[0]


def through_loop(ops: Ops, x: Array, w: Array) -> tuple[Array, ...]:
    """The gradients of a recurrence h <- tanh(h w + x_t) over the rows of x, summed."""

    def f(xs: Array, weights: Array) -> Array:
        def step(h: Array, row: Array) -> Array:
            product = ops.matmul(ops.reshape(h, (1, -1)), weights)
            return ops.tanh(ops.add(ops.reshape(product, (-1,)), row))

        start = ops.multiply(ops.slice(xs, axis=0, start=0, stop=1), ops.constant(np.asarray(0.0)))
        return ops.sum(ops.scan(step, ops.reshape(start, (-1,)), xs), axis=0)

    return ops.gradient(f, x, w)


def integrated_gradients(
    ops: Ops, x: Array, *, steps: int, target: int, **p: Array
) -> tuple[Array, Array]:
    """Integrated gradients (Sundararajan et al. 2017) of a logit of the convnet in inference, from
    a black image, by the midpoint rule over `steps` points.

    Returns the attribution (N, H, W, C) and its sum, which by the axiom of completeness is the
    logit's difference between the image and black, but for the rule's error."""

    def logit(image: Array) -> Array:
        return convnet_logit(ops, image, target=target, **p)

    scales = ops.constant((np.arange(steps) + 0.5) / steps)
    slopes = ops.per_example(lambda at: ops.gradient(logit, ops.multiply(x, at))[0], scales)
    attribution = ops.multiply(ops.mean(slopes, axis=0), x)
    return attribution, ops.sum(attribution, axis=(0, 1, 2, 3))


def completeness(ops: Ops, x: Array, *, steps: int, target: int, **p: Array) -> Array:
    """The sum of the attribution alone."""
    return integrated_gradients(ops, x, steps=steps, target=target, **p)[1]


def convnet_logit(ops: Ops, x: Array, *, target: int, **p: Array) -> Array:
    """One logit of the tiny convnet, summed over the batch. Parameters have | for / in their
    names."""
    network = models.get("convnet")
    tensors = {name.replace("|", "/"): value for name, value in p.items()}
    config = network.config("tiny", 0)
    output, _ = network.forward(ops, tensors, x, config=config, train=False)
    return ops.sum(ops.slice(output, axis=1, start=target, stop=target + 1), axis=(0, 1))
