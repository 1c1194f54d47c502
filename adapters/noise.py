"""Monte-Carlo arithmetic over any implementation of the vocabulary.

`NoisyOps` wraps a float64 implementation and disturbs it as arithmetic with a significand of
`bits` bits would (Parker 1997): every rounded result is multiplied by 1 + u e, and what enters a
sum over K terms by 1 + u sqrt(K/2) e, where u = 2^-bits and e is uniform in [-1, 1], elementwise
and independent. sqrt(K/2) is the growth of rounding errors in a sum of K terms with random signs,
added one after the other (Higham and Mary 2019). Since the factors are ordinary
multiplications, automatic differentiation carries them into the backward pass too. Operations
that only move values are left alone.

A framework that traces a program sees one draw per trace, an eager one a new draw every step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.ops import EXACT, NAMES, Array, Ops


@dataclass(frozen=True)
class Noise:
    """Asks for rounding noise: of a `bits`-bit significand in every result, and of `input_bits` in
    what enters a contraction (0: `bits` as well)."""

    bits: int
    seed: int
    input_bits: int = 0


class NoisyOps(Ops):
    """`inner` with rounding noise."""

    def __init__(self, inner: Ops, noise: Noise) -> None:
        self._inner = inner
        self._unit = 2.0**-noise.bits
        self._input_unit = 2.0 ** -(noise.input_bits or noise.bits)
        self._rng = np.random.default_rng(noise.seed)

    def shape(self, x: Array) -> tuple[int, ...]:
        return self._inner.shape(x)

    def _rounded(self, x: Array) -> Array:
        return self._disturbed(x, self._unit)

    def _summed(self, x: Array, terms: int) -> Array:
        """`x` as it counts in a sum of `terms` terms."""
        return self._disturbed(x, self._unit * math.sqrt(terms / 2))

    def _disturbed(self, x: Array, size: float) -> Array:
        draw = self._rng.random(self.shape(x), dtype=np.float32)  # 24 bits of noise are plenty
        noise = 1.0 + size * (2.0 * draw.astype(np.float64) - 1.0)
        return self._inner.multiply(x, self._inner.constant(noise))

    # -- contractions and reductions: their inputs are summed --------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        terms = self.shape(a)[-1]
        return self._rounded(self._inner.matmul(self._summed(a, terms), self._summed(b, terms)))

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        terms = self.shape(w)[0]
        return self._rounded(self._inner.dense(self._summed(x, terms), self._summed(w, terms), b))

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        terms = math.prod(self.shape(w)[:-1])
        x, w = self._summed(x, terms), self._summed(w, terms)
        return self._rounded(self._inner.conv2d(x, w, b, stride=stride, padding=padding))

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        features, keys = self.shape(q)[-1], self.shape(k)[1]
        q, k = self._summed(q, features), self._summed(k, features)
        return self._rounded(self._inner.attention(q, k, self._summed(v, keys)))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        shape = self.shape(x)
        terms = math.prod(shape[a] for a in ((axis,) if isinstance(axis, int) else axis))
        return self._rounded(self._inner.mean(self._summed(x, terms), axis=axis))

    def batch_norm(
        self,
        x: Array,
        scale: Array,
        offset: Array,
        mean: Array,
        var: Array,
        *,
        train: bool,
        momentum: float,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        """The batch's statistics are sums per channel, so their noise is one factor per channel,
        which `scale` and `offset` carry."""
        terms = math.prod(self.shape(x)[:-1]) if train else 2
        y, new_mean, new_var = self._inner.batch_norm(
            x,
            self._summed(scale, terms),
            self._summed(offset, terms),
            mean,
            var,
            train=train,
            momentum=momentum,
            epsilon=epsilon,
        )
        return self._rounded(y), self._summed(new_mean, terms), self._summed(new_var, terms)

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        """Takes the logarithm of a sum whose largest term is exp 0 = 1. Rounding this sum to
        s (1 + d) adds d to the loss of an example, however small that loss is."""
        examples, classes = self.shape(logits)
        loss = self._rounded(self._inner.cross_entropy(logits, labels))
        size = self._unit * math.sqrt(classes / 2) / math.sqrt(examples)  # of a mean of such d
        draw = np.asarray(size * (2.0 * self._rng.random() - 1.0))
        return self._inner.add(loss, self._inner.constant(draw))


def _forwarding(name: str) -> Any:
    def op(self: NoisyOps, *arguments: Any, **keywords: Any) -> Any:
        result = getattr(self._inner, name)(*arguments, **keywords)
        return result if name in EXACT else self._rounded(result)

    op.__name__ = name
    return op


for _name in NAMES:
    if _name not in vars(NoisyOps):
        setattr(NoisyOps, _name, _forwarding(_name))
