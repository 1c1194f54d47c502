"""The vocabulary in NumPy float64: the reference that a newcomer reads first.

Every operation here is also correct for complex numbers with a tiny imaginary part, which
`numerics` uses for the complex-step derivative (Squire and Trapp 1998): no conjugates, and
comparisons look at the real part only. An imaginary part is so tiny that its square is nothing.
Where a formula has a kink, or loses digits in complex arithmetic, `_moved` says what its imaginary
part is: the slope that the vocabulary pins, times that of the argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from adapters.numpy_forms import NumpyForms
from adapters.ops import Array, Ops
from adapters.resizing import matrix


class NumpyOps(NumpyForms, Ops):
    """Float64 (or complex128) reference."""

    # -- data ------------------------------------------------------------------------------

    def constant(self, value: np.ndarray) -> Array:
        return np.asarray(value, np.float64)

    def dtype_of(self, x: Array) -> str:
        return "float64" if np.iscomplexobj(x) else str(np.asarray(x).dtype.name)

    def cast(self, x: Array, dtype: str) -> Array:
        if np.asarray(x).dtype.kind in "biu":
            return x.astype(dtype)
        with np.errstate(over="ignore"):
            rounded = np.real(x).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        return _moved(x, rounded.astype(np.float64), np.ones(np.shape(x)))

    # -- layout ----------------------------------------------------------------------------

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return np.reshape(x, tuple(shape))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return np.transpose(x, tuple(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return np.concatenate(list(xs), axis=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        return x[(slice(None),) * axis + (slice(start, stop),)]

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return np.broadcast_to(x, tuple(shape))

    def pad(self, x: Array, widths: Sequence[Sequence[int]]) -> Array:
        return np.pad(x, [tuple(pair) for pair in widths])

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        return np.take(x, indices, axis=axis, mode="clip")

    def gather(self, x: Array, indices: Array) -> Array:
        return x[np.arange(len(x))[:, None], indices]

    def embedding(self, table: Array, ids: Array, *, padding_index: int | None = None) -> Array:
        if padding_index is not None:
            fixed = np.arange(len(table)) == padding_index
            table = np.where(fixed[:, None], np.real(table), table)
        return table[ids]

    def one_hot(self, ids: Array, classes: int) -> Array:
        return self.constant(np.asarray(ids)[..., None] == np.arange(classes))

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)

    # -- elementwise -----------------------------------------------------------------------

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def subtract(self, a: Array, b: Array) -> Array:
        return a - b

    def divide(self, a: Array, b: Array) -> Array:
        return a / b

    def floor_divide(self, a: Array, b: Array) -> Array:
        return a // b

    def greater(self, a: Array, b: Array) -> Array:
        return np.real(a) > np.real(b)

    def maximum(self, a: Array, b: Array) -> Array:
        larger = np.maximum(np.real(a), np.real(b))
        if not (np.iscomplexobj(a) or np.iscomplexobj(b)):
            return larger
        share = (1 + np.sign(np.real(a) - np.real(b))) / 2  # of a in the gradient: 1, 1/2 or 0
        return larger + 1j * (share * np.imag(a) + (1 - share) * np.imag(b))

    def minimum(self, a: Array, b: Array) -> Array:
        if not (np.iscomplexobj(a) or np.iscomplexobj(b)):
            return np.minimum(a, b)  # of integers the negative may be none
        return -self.maximum(-a, -b)

    def clip(self, x: Array, low: float, high: float) -> Array:
        real = np.real(x)
        return _moved(x, np.clip(real, low, high), (low <= real) & (real <= high))

    def absolute(self, x: Array) -> Array:
        return _moved(x, np.abs(np.real(x)), np.sign(np.real(x)))

    def exp(self, x: Array) -> Array:
        return np.exp(x)

    def log(self, x: Array) -> Array:
        return np.where(np.real(x) < 0, np.nan, np.log(x))

    def sqrt(self, x: Array) -> Array:
        return np.where(np.real(x) < 0, np.nan, np.sqrt(x))

    def sin(self, x: Array) -> Array:
        return np.sin(x)

    def cos(self, x: Array) -> Array:
        return np.cos(x)

    def tanh(self, x: Array) -> Array:
        return np.tanh(x)

    def sigmoid(self, x: Array) -> Array:
        positive = np.real(x) >= 0
        e = np.exp(np.where(positive, -x, x))  # at most 1
        return np.where(positive, 1.0, e) / (1.0 + e)

    def silu(self, x: Array) -> Array:
        return x * self.sigmoid(x)

    def softplus(self, x: Array) -> Array:
        return self.relu(x) + _softplus_tail(x)

    def relu(self, x: Array) -> Array:
        return np.where(np.real(x) <= 0, 0.0, x)

    def leaky_relu(self, x: Array, *, slope: float) -> Array:
        return np.where(np.real(x) > 0, x, slope * x)

    def gelu(self, x: Array) -> Array:
        from scipy.special import erf  # here, so that a worker's interpreter can do without scipy

        return 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))

    def gelu_tanh(self, x: Array) -> Array:
        return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x * x * x)))

    def to_int8(self, x: Array) -> Array:
        return np.clip(np.trunc(np.real(x)), -128, 127).astype(np.int8)

    # -- contractions ----------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        return _biased(x @ w, b)

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
        window = tuple(dilation * (n - 1) + 1 for n in w.shape[:2])
        patches = sliding_window_view(_padded(x, padding), window, axis=(1, 2))
        patches = patches[:, ::stride, ::stride, :, ::dilation, ::dilation]  # (N, H', W', C, h, w)
        outputs = [
            np.tensordot(part, weights, axes=((4, 5, 3), (0, 1, 2)))  # (N, H', W', O / groups)
            for part, weights in zip(
                np.split(patches, groups, axis=3), np.split(w, groups, axis=3), strict=True
            )
        ]
        return _biased(np.concatenate(outputs, axis=-1), b)

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
        return _biased(_spread(x, w, stride, padding, output_padding), b)

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        d, h, width = np.broadcast_to(stride, 3)
        patches = sliding_window_view(_padded(x, padding), w.shape[:3], axis=(1, 2, 3))
        patches = patches[:, ::d, ::h, ::width]  # (N, D', H', W', C, d, h, w)
        return _biased(np.tensordot(patches, w, axes=((5, 6, 7, 4), (0, 1, 2, 3))), b)

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
        return _biased(_spread(x, w, stride, padding, output_padding), b)

    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        q, k, v = (np.transpose(t, (0, 2, 1, 3)) for t in (q, k, v))  # (N, heads, S, D)
        scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])  # (N, heads, S, K)
        if mask is None and not causal:
            return np.transpose(self.softmax(scores) @ v, (0, 2, 1, 3))
        seen = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape)
        if causal:
            seen = np.tril(seen)  # of the last two axes
        top = np.max(np.real(scores), axis=-1, keepdims=True, where=seen, initial=-np.inf)
        blind = ~seen.any(axis=-1, keepdims=True)
        e = np.where(seen, np.exp(np.where(seen, scores - np.where(blind, 0.0, top), 0.0)), 0.0)
        weights = e / np.where(blind, 1.0, e.sum(axis=-1, keepdims=True))
        return np.transpose(weights @ v, (0, 2, 1, 3))

    # -- recurrence ------------------------------------------------------------------------

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        every = []
        for t in range(x.shape[1]):
            i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=-1)
            c = self.sigmoid(f) * c + self.sigmoid(i) * np.tanh(g)
            h = self.sigmoid(o) * np.tanh(c)
            every.append(h)
        return np.stack(every, axis=1), h, c

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        every = []
        for t in range(x.shape[1]):
            a_r, a_z, a_n = np.split(x[:, t] @ w + b, 3, axis=-1)
            s_r, s_z, s_n = np.split(h @ u + b_recurrent, 3, axis=-1)
            r, z = self.sigmoid(a_r + s_r), self.sigmoid(a_z + s_z)
            h = (1 - z) * np.tanh(a_n + r * s_n) + z * h
            every.append(h)
        return np.stack(every, axis=1), h

    # -- reductions and normalisations -----------------------------------------------------

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return np.sum(x, axis=_axes(axis))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return np.mean(x, axis=_axes(axis))

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        centred = x - x.mean(axis=_axes(axis), keepdims=True)
        n = math.prod(x.shape[a] for a in np.atleast_1d(axis))
        return np.sum(centred * centred, axis=_axes(axis)) / (n - correction)

    def max(self, x: Array, *, axis: int) -> Array:
        return _shared(x, np.max(np.real(x), axis=axis), axis=axis)

    def argmax(self, x: Array, *, axis: int) -> Array:
        return np.argmax(np.real(x), axis=axis)

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        real = np.real(x)
        rising = ~real if real.dtype.kind in "iu" else -real  # ~ has no number without a negative
        indices = np.argsort(rising, axis=-1, kind="stable")[..., :k]
        return np.take_along_axis(x, indices, axis=-1), indices

    def median(self, x: Array) -> Array:
        return _shared(x, np.median(np.real(x), axis=-1), axis=-1)

    def norm(self, x: Array, *, axis: int) -> Array:
        zero = (np.real(x) == 0).all(axis=axis)
        square = np.sum(x * x, axis=axis)
        return np.where(zero, 0.0, np.sqrt(np.where(zero, 1.0, square)))

    def softmax(self, x: Array) -> Array:
        e = np.exp(x - np.max(np.real(x), axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        patches = _patches(_padded(x, padding, value=-np.inf), window, stride)
        patches = patches.reshape(*patches.shape[:4], window * window)
        first = np.argmax(np.real(patches), axis=-1)[..., None]  # argmax takes the first on a tie
        return np.take_along_axis(patches, first, axis=-1)[..., 0]

    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        total = _patches(_padded(x, padding), window, stride).sum(axis=(-2, -1))
        if include_padding:
            return total / window**2
        elements = _patches(_padded(np.ones((1, *x.shape[1:3], 1)), padding), window, stride)
        return total / elements.sum(axis=(-2, -1))

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        (_, rows, columns, _), (new_rows, new_columns) = x.shape, size
        down = matrix(rows, new_rows, method=method, antialias=antialias)
        across = matrix(columns, new_columns, method=method, antialias=antialias)
        return np.einsum("ih,jw,nhwc->nijc", down, across, x, optimize=True)

    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * scale

    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        grouped = x.reshape(len(x), math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
        centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
        variance = (centred * centred).mean(axis=(1, 3), keepdims=True)
        return (centred / np.sqrt(variance + epsilon)).reshape(x.shape) * scale + offset

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + epsilon) * scale + offset

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
        if not train:
            return (x - mean) / np.sqrt(var + epsilon) * scale + offset, mean, var
        axes = tuple(range(x.ndim - 1))
        n = x.size // x.shape[-1]
        batch_mean = x.mean(axis=axes)
        batch_var = ((x - batch_mean) * (x - batch_mean)).mean(axis=axes)
        y = (x - batch_mean) / np.sqrt(batch_var + epsilon) * scale + offset
        new_mean = (1 - momentum) * mean + momentum * batch_mean
        new_var = (1 - momentum) * var + momentum * batch_var * (n / (n - 1))
        return y, new_mean, new_var

    # -- losses ----------------------------------------------------------------------------

    def cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        weights: Array | None = None,
        smoothing: float = 0.0,
        ignore: int | None = None,
    ) -> Array:
        if ignore is not None:
            logits, labels = logits[labels != ignore], labels[labels != ignore]
        shifted = logits - np.max(np.real(logits), axis=-1, keepdims=True)
        cost = np.log(np.exp(shifted).sum(axis=-1, keepdims=True)) - shifted  # -log p, (N, classes)
        weights = np.ones(logits.shape[-1]) if weights is None else weights
        own = weights[labels]
        total = np.sum((1 - smoothing) * own * cost[np.arange(len(labels)), labels])
        if smoothing:
            total = total + smoothing * np.sum(weights * cost) / logits.shape[-1]
        return total / np.sum(own)

    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        return np.mean(self.relu(logits) - logits * targets + _softplus_tail(logits))

    def mse(self, x: Array, target: Array) -> Array:
        return np.mean((x - target) * (x - target))

    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        d = x - target
        distance = self.absolute(d)
        near = np.real(distance) < beta
        return np.mean(np.where(near, d * d / (2 * beta), distance - beta / 2))

    # -- chance ----------------------------------------------------------------------------

    def dropout(self, x: Array, *, rate: float, seed: int) -> Array:
        kept = np.random.default_rng(seed).random(np.shape(x)) >= rate
        return np.where(kept, x / (1 - rate), 0.0)


def _moved(x: Array, value: Array, slope: Array) -> Array:
    """`value`, which f has at the real part of `x`, moved by the slope of f times the rest."""
    return value + 1j * (slope * np.imag(x)) if np.iscomplexobj(x) else value


def _softplus_tail(x: Array) -> Array:
    """log1p(e^-|x|), whose slope at 0 is 1/2, as from the left: that of relu is 0."""
    e = np.exp(-np.abs(np.real(x)))
    return _moved(x, np.log1p(e), np.where(np.real(x) > 0, -1.0, 1.0) * e / (1.0 + e))


def _shared(x: Array, value: Array, *, axis: int) -> Array:
    """`value`, which elements of `x` along `axis` have; they move it by their mean."""
    if not np.iscomplexobj(x):
        return value
    tied = np.real(x) == np.expand_dims(value, axis)
    moves = np.where(tied, np.imag(x), 0.0).sum(axis=axis)
    return value + 1j * (moves / np.maximum(tied.sum(axis=axis), 1))


def _axes(axis: int | Sequence[int]) -> int | tuple[int, ...]:
    return axis if isinstance(axis, int) else tuple(axis)


def _biased(y: Array, b: Array | None) -> Array:
    return y if b is None else y + b


def _padded(x: Array, padding: int | Sequence[int], *, value: float = 0.0) -> Array:
    """`value` around all axes but the first and the last."""
    widths = np.broadcast_to(padding, x.ndim - 2)
    return np.pad(x, [(0, 0), *((n, n) for n in widths), (0, 0)], constant_values=value)


def _spread(x: Array, w: Array, stride: int, padding: int, output_padding: int) -> Array:
    """The transposed convolution of (N, ..., C) with (..., C, O), in any number of dimensions."""
    spans = [(size - 1) * stride for size in x.shape[1:-1]]
    window = w.shape[:-2]
    whole = [span + size + output_padding for span, size in zip(spans, window, strict=True)]
    y = np.zeros((len(x), *whole, w.shape[-1]), np.result_type(x, w))
    for at in np.ndindex(window):
        steps = (slice(i, i + span + 1, stride) for i, span in zip(at, spans, strict=True))
        y[(slice(None), *steps)] += x @ w[at]
    return y[(slice(None), *(slice(padding, size - padding) for size in whole))]


def _patches(x: Array, window: int, stride: int) -> Array:
    """(N, H', W', C, window, window)"""
    return sliding_window_view(x, (window, window), axis=(1, 2))[:, ::stride, ::stride]
