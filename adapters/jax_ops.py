"""The vocabulary in JAX."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from adapters.ops import Array, Ops


class JaxOps(Ops):
    """XLA's own layouts are those of the vocabulary: nothing is transposed but heads."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype

    def constant(self, value: np.ndarray) -> Array:
        return jnp.asarray(value, self._dtype)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return jnp.reshape(x, tuple(shape))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return jnp.transpose(x, tuple(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return jnp.concatenate(list(xs), axis=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        return lax.slice_in_dim(x, start, stop, axis=axis)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return jnp.broadcast_to(x, tuple(shape))

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def relu(self, x: Array) -> Array:
        return jax.nn.relu(x)

    def gelu(self, x: Array) -> Array:
        return jax.nn.gelu(x, approximate=False)

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        # rows first: XLA's CPU gradient of w is slower when it contracts two axes
        y = x.reshape(-1, x.shape[-1]) @ w
        y = y if b is None else y + b
        return y.reshape(*x.shape[:-1], w.shape[-1])

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        y = lax.conv_general_dilated(
            x,
            w,
            window_strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y if b is None else y + b

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(q.shape[-1])
        return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return jnp.mean(x, axis=axis if isinstance(axis, int) else tuple(axis))

    def softmax(self, x: Array) -> Array:
        return jax.nn.softmax(x)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        sizes, strides = (1, window, window, 1), (1, stride, stride, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, "VALID")

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        mean, var = _moments(x, axes=(-1,))
        return (x - mean) / jnp.sqrt(var + epsilon) * scale + offset

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
            return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + offset, mean, var
        n = math.prod(x.shape[:-1])
        batch_mean, batch_var = _moments(x, axes=tuple(range(x.ndim - 1)))
        y = (x - batch_mean) * (lax.rsqrt(batch_var + epsilon) * scale) + offset
        new_mean = (1 - momentum) * mean + momentum * batch_mean.reshape(-1)
        new_var = (1 - momentum) * var + momentum * n / (n - 1) * batch_var.reshape(-1)
        return y, new_mean, new_var

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _moments(x: Array, *, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance, axes kept."""
    mean = x.mean(axes, keepdims=True)
    centred = x - mean
    return mean, (centred * centred).mean(axes, keepdims=True)
