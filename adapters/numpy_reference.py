"""The vocabulary in NumPy float64: the reference that a newcomer reads first.

Every operation here is also correct for complex numbers with a tiny imaginary part, which
`numerics.oracle` uses for the complex-step derivative (Squire and Trapp 1998): no absolute
values, no conjugates, and comparisons look at the real part only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from adapters.ops import Array, Ops


class NumpyOps(Ops):
    """Float64 (or complex128) reference."""

    def constant(self, value: np.ndarray) -> Array:
        return np.asarray(value, np.float64)

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

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def relu(self, x: Array) -> Array:
        return np.where(np.real(x) > 0, x, 0.0)

    def gelu(self, x: Array) -> Array:
        from scipy.special import erf  # here, so that a worker's interpreter can do without scipy

        return 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        y = x @ w
        return y if b is None else y + b

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        patches = sliding_window_view(x, w.shape[:2], axis=(1, 2))
        patches = patches[:, ::stride, ::stride]  # (N, H', W', C, h, w)
        y = np.tensordot(patches, w, axes=((4, 5, 3), (0, 1, 2)))  # (N, H', W', O)
        return y if b is None else y + b

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        q, k, v = (np.transpose(t, (0, 2, 1, 3)) for t in (q, k, v))  # (N, heads, S, D)
        scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])  # (N, heads, S, S)
        return np.transpose(self.softmax(scores) @ v, (0, 2, 1, 3))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return np.mean(x, axis=axis if isinstance(axis, int) else tuple(axis))

    def softmax(self, x: Array) -> Array:
        e = np.exp(x - np.max(np.real(x), axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        patches = sliding_window_view(x, (window, window), axis=(1, 2))
        patches = patches[:, ::stride, ::stride].reshape(*_pooled(x, window, stride), -1)
        first = np.argmax(np.real(patches), axis=-1)[..., None]  # argmax takes the first on a tie
        return np.take_along_axis(patches, first, axis=-1)[..., 0]

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

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        shifted = logits - np.max(np.real(logits), axis=-1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=-1))
        return np.mean(log_sum - shifted[np.arange(len(labels)), labels])


def _pooled(x: Array, window: int, stride: int) -> tuple[int, int, int, int]:
    n, h, w, c = x.shape
    return n, (h - window) // stride + 1, (w - window) // stride + 1, c
