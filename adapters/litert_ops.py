"""The vocabulary in TensorFlow, in forms of which LiteRT's converter makes the most."""

from __future__ import annotations

import tensorflow as tf

from adapters.ops import Array
from adapters.tf_ops import TensorflowOps
from adapters.unfused import Unfused


class LiteRTOps(Unfused, TensorflowOps):
    """The same operations in every precision.

    Recurrences go position by position: nothing in a loop is quantized, and in float32 a loop takes
    several times as long.
    """

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        # of `(x - mean) ... * scale + offset` the converter folds both into the next layer, whose
        # weights would not be the parameters then
        mean = tf.reduce_mean(x, -1, keepdims=True)
        below = mean - x
        var = tf.reduce_mean(below * below, -1, keepdims=True)
        return offset - below * (tf.math.rsqrt(var + epsilon) * scale)

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        # its ends once more, which are in the same windows: minus infinity around the image would
        # be part of the range of integers
        around = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
        x = tf.pad(x, around, "SYMMETRIC") if padding else x
        return tf.nn.max_pool2d(x, window, stride, "VALID")

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
        # without an explicit padding, which LiteRT lacks: what it would take away is cut off
        n, *image, _ = x.shape
        kernel, channels = w.shape[:2], w.shape[-1]
        whole = [
            (old - 1) * stride + k + output_padding for old, k in zip(image, kernel, strict=True)
        ]
        w = tf.transpose(w, (0, 1, 3, 2))
        y = tf.nn.conv2d_transpose(x, w, (n, *whole, channels), stride, "VALID")
        if padding:
            size = (n, *(side - 2 * padding for side in whole), channels)
            y = tf.slice(y, (0, padding, padding, 0), size)
        return y if b is None else tf.nn.bias_add(y, b)
