"""The vocabulary in TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from adapters.ops import Array, Ops


class TensorflowOps(Ops):
    """TensorFlow's own layouts are those of the vocabulary: nothing is transposed but heads."""

    def __init__(self, dtype: tf.DType) -> None:
        self._dtype = dtype

    def constant(self, value: np.ndarray) -> Array:
        return tf.constant(value, self._dtype)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return tf.reshape(x, tuple(shape))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return tf.transpose(x, tuple(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return tf.concat(list(xs), axis=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        begin, size = [0] * len(x.shape), list(x.shape)
        begin[axis], size[axis] = start, stop - start
        return tf.slice(x, begin, size)  # the gradient of x[...] is slower

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return tf.broadcast_to(x, tuple(shape))

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def relu(self, x: Array) -> Array:
        return tf.nn.relu(x)

    def gelu(self, x: Array) -> Array:
        # tf.nn.gelu rounds sqrt(2) to float32 even in float64: an error of 9e-10
        return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))

    def matmul(self, a: Array, b: Array) -> Array:
        return tf.matmul(a, b)

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        # rows first: the gradient of a broadcast matmul is slower
        y = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), w)
        y = y if b is None else tf.nn.bias_add(y, b)
        return tf.reshape(y, (*x.shape[:-1], w.shape[-1]))

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        y = tf.nn.conv2d(x, w, stride, _pads(w, stride=stride, padding=padding))
        return y if b is None else tf.nn.bias_add(y, b)

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        q, k, v = (tf.transpose(t, (0, 2, 1, 3)) for t in (q, k, v))  # (N, heads, S, D)
        q = q * (1.0 / math.sqrt(q.shape[-1]))
        weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))  # (N, heads, S, S)
        return tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return tf.reduce_mean(x, axis=axis)

    def softmax(self, x: Array) -> Array:
        return tf.nn.softmax(x)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        return tf.nn.max_pool2d(x, window, stride, "VALID")

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        var = tf.reduce_mean(centred * centred, -1, keepdims=True)
        return centred * tf.math.rsqrt(var + epsilon) * scale + offset

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
        if self._dtype == tf.float32 and len(x.shape) == 4:  # all that the fused kernel takes
            y, new_mean, new_var, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=scale,
                offset=offset,
                mean=mean,
                variance=var,
                epsilon=epsilon,
                exponential_avg_factor=momentum if train else 1.0,
                is_training=train,
            )
            return (y, new_mean, new_var) if train else (y, mean, var)
        if not train:
            return tf.nn.batch_normalization(x, mean, var, offset, scale, epsilon), mean, var
        batch_mean, batch_var = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        y = tf.nn.batch_normalization(x, batch_mean, batch_var, offset, scale, epsilon)
        n = math.prod(x.shape[:-1])
        new_mean = (1 - momentum) * mean + momentum * batch_mean
        new_var = (1 - momentum) * var + momentum * n / (n - 1) * batch_var
        return y, new_mean, new_var

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_mean(losses)


def _pads(w: Array, *, stride: int, padding: int) -> Any:
    """`padding` zeros on all sides, by a name where there is one: those kernels are faster.
    With a stride "SAME" would pad other sides."""
    if padding == 0:
        return "VALID"
    if stride == 1 and tuple(w.shape[:2]) == (2 * padding + 1, 2 * padding + 1):
        return "SAME"
    return [[0, 0], [padding, padding], [padding, padding], [0, 0]]
