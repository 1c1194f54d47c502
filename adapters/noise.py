"""Monte-Carlo arithmetic over any implementation of the vocabulary.

`NoisyOps` wraps a float64 implementation and disturbs it as arithmetic with a significand of
`bits` bits would (Parker 1997): every rounded result is multiplied by 1 + u e, and what enters a
sum over K terms by 1 + u sqrt(K/2) e, where u = 2^-bits and e is uniform in [-1, 1], elementwise
and independent. sqrt(K/2) is the growth of rounding errors in a sum of K terms with random signs,
added one after the other (Higham and Mary 2019). Where a contraction rounds its inputs, as in
TF32, these are multiplied by 1 + 2^-input_bits e as well, and its result by 1 + 2^-result_bits e
where that is stored in fewer bits, as in mixed precision. Since the factors are ordinary
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

from adapters.ops import EXACT, FORMS, NAMES, Array, Ops
from adapters.resizing import matrix

#: What moves values, and what runs functions, which are over the noisy operations already.
UNROUNDED = EXACT | frozenset(FORMS)


@dataclass(frozen=True)
class Noise:
    """Asks for rounding noise: of a `bits`-bit significand in every result, of `input_bits` in what
    enters a contraction, and of `result_bits` in what comes out of it (0: `bits` as well), or out
    of any operation of the forward and backward pass: `throughout`."""

    bits: int
    seed: int
    input_bits: int = 0
    result_bits: int = 0
    throughout: bool = False


class NoisyOps(Ops):
    """`inner` with rounding noise."""

    def __init__(self, inner: Ops, noise: Noise) -> None:
        self._inner = inner
        self._unit = 2.0**-noise.bits
        self._input_unit = 2.0 ** -(noise.input_bits or noise.bits)
        self._result_unit = 2.0 ** -(noise.result_bits or noise.bits)
        if noise.throughout:
            self._unit = self._result_unit
        self._rng = np.random.default_rng(noise.seed)

    def shape(self, x: Array) -> tuple[int, ...]:
        return self._inner.shape(x)

    def _rounded(self, x: Array) -> Array:
        return self._disturbed(x, self._unit)

    def _contracted(self, x: Array) -> Array:
        """The result of a contraction."""
        return self._disturbed(x, max(self._unit, self._result_unit))

    def _summed(self, x: Array, terms: int) -> Array:
        """`x` as it counts in a sum of `terms` terms."""
        return self._disturbed(x, self._unit * math.sqrt(terms / 2))

    def _disturbed(self, x: Array, size: float) -> Array:
        draw = self._rng.random(self.shape(x), dtype=np.float32)  # 24 bits of noise are plenty
        noise = 1.0 + size * (2.0 * draw.astype(np.float64) - 1.0)
        return self._inner.multiply(x, self._inner.constant(noise))

    def _entering(self, x: Array, terms: int) -> Array:
        """`x` as it counts in a contraction of `terms` terms, which may round its inputs first."""
        x = self._summed(x, terms)
        return self._disturbed(x, self._input_unit) if self._input_unit > self._unit else x

    def _scaled(self, x: Array, shape: Sequence[int], terms: int) -> Array:
        """`x`, divided by a statistic of `terms` terms. `shape`, which broadcasts to that of `x`,
        has an element for every one of them."""
        size = self._unit * math.sqrt(terms / 2)
        noise = 1.0 + size * (2.0 * self._rng.random(tuple(shape)) - 1.0)
        return self._inner.multiply(x, self._inner.constant(noise))

    def _terms(self, x: Array, axis: int | Sequence[int]) -> int:
        shape = self.shape(x)
        return math.prod(shape[a] for a in ((axis,) if isinstance(axis, int) else axis))

    # -- contractions: their inputs are summed, and may be rounded ----------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        terms = self.shape(a)[-1]
        return self._contracted(
            self._inner.matmul(self._entering(a, terms), self._entering(b, terms))
        )

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        terms = self.shape(w)[0]
        x, w = self._entering(x, terms), self._entering(w, terms)
        return self._contracted(self._inner.dense(x, w, b))

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> Array:
        terms = math.prod(self.shape(w)[:-1])
        x, w = self._entering(x, terms), self._entering(w, terms)
        y = self._inner.conv2d(
            x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        return self._contracted(y)

    def conv_transpose2d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> Array:
        terms = _reaching(self.shape(w), stride)
        x, w = self._entering(x, terms), self._entering(w, terms)
        y = self._inner.conv_transpose2d(
            x, w, b, stride=stride, padding=padding, output_padding=output_padding
        )
        return self._contracted(y)

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        terms = math.prod(self.shape(w)[:-1])
        x, w = self._entering(x, terms), self._entering(w, terms)
        return self._contracted(self._inner.conv3d(x, w, b, stride=stride, padding=padding))

    def conv_transpose3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> Array:
        terms = _reaching(self.shape(w), stride)
        x, w = self._entering(x, terms), self._entering(w, terms)
        y = self._inner.conv_transpose3d(
            x, w, b, stride=stride, padding=padding, output_padding=output_padding
        )
        return self._contracted(y)

    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        features, keys = self.shape(q)[-1], self.shape(k)[1]
        q, k, v = (
            self._entering(t, terms) for t, terms in ((q, features), (k, features), (v, keys))
        )
        return self._contracted(self._inner.attention(q, k, v, mask=mask, causal=causal))

    # -- recurrence: every step is disturbed ---------------------------------------------------

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        every = []
        for x_t in self._steps(x):
            z = self.add(self.dense(x_t, w), self.dense(h, u, b))
            i, f, g, o = self._parts(z, 4)
            kept = self.multiply(self.sigmoid(f), c)
            c = self.add(kept, self.multiply(self.sigmoid(i), self.tanh(g)))
            h = self.multiply(self.sigmoid(o), self.tanh(c))
            every.append(h)
        return self._stacked(every), h, c

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        one = self._inner.constant(np.ones(()))
        every = []
        for x_t in self._steps(x):
            a_r, a_z, a_n = self._parts(self.dense(x_t, w, b), 3)
            s_r, s_z, s_n = self._parts(self.dense(h, u, b_recurrent), 3)
            r, z = self.sigmoid(self.add(a_r, s_r)), self.sigmoid(self.add(a_z, s_z))
            new = self.tanh(self.add(a_n, self.multiply(r, s_n)))
            h = self.add(self.multiply(self.subtract(one, z), new), self.multiply(z, h))
            every.append(h)
        return self._stacked(every), h

    def _steps(self, x: Array) -> list[Array]:
        """(N, S, I) -> S times (N, I)"""
        n, length, features = self.shape(x)
        steps = [self._inner.slice(x, axis=1, start=t, stop=t + 1) for t in range(length)]
        return [self._inner.reshape(step, (n, features)) for step in steps]

    def _stacked(self, steps: Sequence[Array]) -> Array:
        """S times (N, H) -> (N, S, H)"""
        n, features = self.shape(steps[0])
        return self._inner.concat(
            [self._inner.reshape(step, (n, 1, features)) for step in steps], axis=1
        )

    def _parts(self, x: Array, parts: int) -> list[Array]:
        size = self.shape(x)[1] // parts
        return [
            self._inner.slice(x, axis=1, start=i * size, stop=(i + 1) * size) for i in range(parts)
        ]

    # -- reductions and normalisations: sums --------------------------------------------------

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return self._rounded(self._inner.sum(self._summed(x, self._terms(x, axis)), axis=axis))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return self._rounded(self._inner.mean(self._summed(x, self._terms(x, axis)), axis=axis))

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        """In two passes, so that an error of the mean counts as its square."""
        axes = (axis,) if isinstance(axis, int) else tuple(axis)
        kept = [1 if i in axes else n for i, n in enumerate(self.shape(x))]
        centred = self.subtract(x, self._inner.reshape(self.mean(x, axis=axes), kept))
        total = self.sum(self.multiply(centred, centred), axis=axes)
        divisor = np.asarray(float(self._terms(x, axes) - correction))
        return self.divide(total, self._inner.constant(divisor))

    def norm(self, x: Array, *, axis: int) -> Array:
        return self._rounded(self._inner.norm(self._summed(x, self._terms(x, axis)), axis=axis))

    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        y = self._inner.avg_pool2d(
            self._summed(x, window**2),
            window=window,
            stride=stride,
            padding=padding,
            include_padding=include_padding,
        )
        return self._rounded(y)

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        """A contraction with both axes' weights; "nearest" moves values."""
        resized = self._inner.resize
        if method == "nearest":
            return resized(x, size, method=method, antialias=antialias)
        terms = 1
        for old, new in zip(self.shape(x)[1:3], size, strict=True):
            weights = matrix(old, new, method=method, antialias=antialias)
            terms *= int(np.count_nonzero(weights, axis=1).max(initial=0))
        x = self._entering(x, terms)
        return self._rounded(resized(x, size, method=method, antialias=antialias))

    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        *examples, features = self.shape(x)
        y = self._inner.rms_norm(x, scale, epsilon=epsilon)
        return self._rounded(self._scaled(y, (*examples, 1), features))

    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        """What normalises with a scale of 1 carries the error of the deviation, and `x` itself
        that of the mean."""
        n, *spatial, channels = self.shape(x)
        ones, zeros = (self._inner.constant(np.full(channels, v)) for v in (1.0, 0.0))
        x = self._rounded(x)
        y = self._inner.group_norm(x, ones, zeros, groups=groups, epsilon=epsilon)
        each = (n, *(1 for _ in spatial), groups, 1)
        grouped = self._inner.reshape(y, (n, *spatial, groups, channels // groups))
        grouped = self._scaled(grouped, each, math.prod(spatial) * channels // groups)
        y = self._inner.reshape(grouped, (n, *spatial, channels))
        return self.add(self.multiply(y, scale), offset)

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        """The mean's error is one of `x`, and counts where `x` is far from 0."""
        y = self._inner.layer_norm(self._rounded(x), scale, offset, epsilon=epsilon)
        return self._rounded(y)

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

    # -- losses --------------------------------------------------------------------------------

    def cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        weights: Array | None = None,
        smoothing: float = 0.0,
        ignore: int | None = None,
    ) -> Array:
        """Takes the logarithm of a sum whose largest term is exp 0 = 1. Rounding this sum to
        s (1 + d) adds d to the loss of an example, however small that loss is."""
        examples, classes = self.shape(logits)
        loss = self._inner.cross_entropy(
            logits, labels, weights=weights, smoothing=smoothing, ignore=ignore
        )
        return self._logarithmic(self._rounded(loss), classes, examples)

    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        """Takes the logarithm of a sum as well, of 1 and e^-|x|."""
        losses = self.subtract(self.softplus(logits), self.multiply(logits, targets))
        axes = tuple(range(len(self.shape(losses))))
        return self._logarithmic(self.mean(losses, axis=axes), 2, math.prod(self.shape(losses)))

    def _logarithmic(self, loss: Array, terms: int, examples: int) -> Array:
        """A mean of logarithms of sums that are 1 or more."""
        size = self._unit * math.sqrt(terms / 2) / math.sqrt(examples)  # of a mean of such d
        draw = np.asarray(size * (2.0 * self._rng.random() - 1.0))
        return self._inner.add(loss, self._inner.constant(draw))

    def mse(self, x: Array, target: Array) -> Array:
        return self._rounded(self._inner.mse(*self._difference(x, target)))

    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        return self._rounded(self._inner.smooth_l1(*self._difference(x, target), beta=beta))

    def _difference(self, x: Array, target: Array) -> tuple[Array, Array]:
        """x - target and zeros: the same to a loss, and rounded."""
        shape = self.shape(x)
        difference = self._summed(self.subtract(x, target), math.prod(shape))
        return difference, self._inner.constant(np.zeros(shape))


def _reaching(w: Sequence[int], stride: int) -> int:
    """How many products an element of a transposed convolution sums at most."""
    *kernel, channels, _ = w
    return channels * math.prod(math.ceil(size / stride) for size in kernel)


def _forwarding(name: str) -> Any:
    def op(self: NoisyOps, *arguments: Any, **keywords: Any) -> Any:
        result = getattr(self._inner, name)(*arguments, **keywords)
        return result if name in UNROUNDED else self._rounded(result)

    op.__name__ = name
    return op


for _name in NAMES + FORMS:
    if _name not in vars(NoisyOps):
        setattr(NoisyOps, _name, _forwarding(_name))
