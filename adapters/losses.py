"""Losses made of the vocabulary's operations. Logits and targets have one shape (N, ...); targets
are floats 0 or 1, or between. Each is a mean over the batch -> scalar."""

from __future__ import annotations

import numpy as np

from adapters.ops import Array, Ops


def dice(ops: Ops, logits: Array, targets: Array) -> Array:
    """1 - (2 sum p t + 1) / (sum p^2 + sum t^2 + 1) of an example, p = sigmoid(logits) (Milletari
    et al. 2016). The ones, which are usual, define it where there is nothing to find."""
    p, t = ops.flatten(ops.sigmoid(logits)), ops.flatten(targets)  # (N, elements)
    one = ops.constant(np.asarray(1.0))
    common = ops.sum(ops.multiply(p, t), axis=1)  # (N,)
    both = ops.sum(ops.add(ops.multiply(p, p), ops.multiply(t, t)), axis=1)  # (N,)
    overlap = ops.divide(ops.add(ops.add(common, common), one), ops.add(both, one))
    return ops.subtract(one, ops.mean(overlap, axis=0))


def focal(
    ops: Ops, logits: Array, targets: Array, *, gamma: float = 2.0, alpha: float = 0.25
) -> Array:
    """The mean of a (1 - p)^gamma (-log p), where p is the probability given to the target, 0 or
    1, and a is alpha where it is 1 and 1 - alpha where it is 0 (Lin et al. 2017).

    With z = logits or, where the target is 0, -logits: -log p = softplus(-z), and
    1 - p = e^-softplus(z), so that nothing overflows and no logarithm meets a 0."""
    positive = ops.greater(targets, ops.constant(np.asarray(0.5)))
    z = ops.where(positive, logits, ops.subtract(ops.constant(np.asarray(0.0)), logits))
    a = ops.where(positive, ops.constant(np.asarray(alpha)), ops.constant(np.asarray(1.0 - alpha)))
    modulated = ops.exp(ops.multiply(ops.constant(np.asarray(-gamma)), ops.softplus(z)))
    surprise = ops.softplus(ops.subtract(ops.constant(np.asarray(0.0)), z))
    cost = ops.multiply(ops.multiply(a, modulated), surprise)
    return ops.mean(ops.mean(ops.flatten(cost), axis=1), axis=0)


def balanced_bce(ops: Ops, logits: Array, positive: Array, negative: Array) -> Array:
    """Binary cross-entropy of logits (N, A): the mean over those that are `positive` and the mean
    over those that are `negative`, half of each. The masks are floats 0 or 1; an example has some
    of both. What is in neither does not count."""

    def among(mask: Array, cost: Array) -> Array:
        total = ops.sum(ops.multiply(mask, cost), axis=1)  # (N,)
        return ops.mean(ops.divide(total, ops.sum(mask, axis=1)), axis=0)

    unlikely = ops.softplus(ops.subtract(ops.constant(np.asarray(0.0)), logits))  # -log p
    likely = ops.softplus(logits)  # -log(1 - p)
    halves = (among(positive, unlikely), among(negative, likely))
    return weighted_sum(ops, (0.5, halves[0]), (0.5, halves[1]))


def weighted_sum(ops: Ops, *terms: tuple[float, Array]) -> Array:
    """The sum of weight * loss over the `terms`, in their order."""
    weight, total = terms[0]
    total = ops.multiply(ops.constant(np.asarray(weight)), total)
    for weight, loss in terms[1:]:
        total = ops.add(total, ops.multiply(ops.constant(np.asarray(weight)), loss))
    return total
