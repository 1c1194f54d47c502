"""The vocabulary in TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from adapters import resizing
from adapters.ops import Array, Ops
from adapters.tf_forms import TensorflowForms


class TensorflowOps(TensorflowForms, Ops):
    """TensorFlow's own layouts are those of the vocabulary: nothing is transposed but heads."""

    def __init__(self, dtype: tf.DType) -> None:
        self._dtype = dtype

    # -- data ------------------------------------------------------------------------------

    def constant(self, value: np.ndarray) -> Array:
        return tf.constant(value, self._dtype)

    def dtype_of(self, x: Array) -> str:
        return str(x.dtype.name)

    def cast(self, x: Array, dtype: str) -> Array:
        return tf.cast(x, dtype)

    # -- layout ----------------------------------------------------------------------------

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

    def pad(self, x: Array, widths: Sequence[Sequence[int]]) -> Array:
        return tf.pad(x, [tuple(pair) for pair in widths])

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        last = tf.constant(x.shape[axis] - 1, indices.dtype)
        inside = tf.clip_by_value(indices, tf.zeros_like(last), last)
        return tf.gather(x, inside, axis=axis)  # which raises for others, or XLA clamps

    def gather(self, x: Array, indices: Array) -> Array:
        return tf.gather(x, indices, axis=1, batch_dims=1)

    def embedding(self, table: Array, ids: Array, *, padding_index: int | None = None) -> Array:
        rows = tf.gather(table, ids)
        if padding_index is None:
            return rows
        padding = tf.expand_dims(tf.equal(ids, padding_index), -1)
        return tf.where(padding, tf.stop_gradient(rows), rows)

    def one_hot(self, ids: Array, classes: int) -> Array:
        return tf.one_hot(ids, classes, dtype=self._dtype)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return tf.where(condition, a, b)

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
        return a > b

    def maximum(self, a: Array, b: Array) -> Array:
        if not a.dtype.is_floating:
            return tf.maximum(a, b)
        # which gives the whole gradient of a tie to `a`. The mean is that of a tie, or NaN.
        return tf.where(a > b, a, tf.where(b > a, b, 0.5 * a + 0.5 * b))

    def minimum(self, a: Array, b: Array) -> Array:
        if not a.dtype.is_floating:
            return tf.minimum(a, b)
        # which gives the whole gradient of a tie to `a`
        return tf.where(a < b, a, tf.where(b < a, b, 0.5 * a + 0.5 * b))

    def clip(self, x: Array, low: float, high: float) -> Array:
        return tf.clip_by_value(x, low, high)

    def absolute(self, x: Array) -> Array:
        return tf.abs(x)

    def exp(self, x: Array) -> Array:
        return tf.exp(x)

    def log(self, x: Array) -> Array:
        return tf.math.log(x)

    def sqrt(self, x: Array) -> Array:
        return tf.sqrt(x)

    def sin(self, x: Array) -> Array:
        return tf.sin(x)

    def cos(self, x: Array) -> Array:
        return tf.cos(x)

    def tanh(self, x: Array) -> Array:
        return tf.tanh(x)

    def sigmoid(self, x: Array) -> Array:
        return tf.sigmoid(x)

    def silu(self, x: Array) -> Array:
        return tf.nn.silu(x)

    def softplus(self, x: Array) -> Array:
        # tf.nn.softplus is linear above -log(epsilon) - 2: below the rounding of float32 and
        # float64, but at 2.9 in bfloat16 and at 4.9 in float16
        wide = tf.cast(x, tf.float32) if self._dtype.size < 4 else x
        return tf.cast(tf.nn.softplus(wide), x.dtype)

    def relu(self, x: Array) -> Array:
        return tf.nn.relu(x)

    def leaky_relu(self, x: Array, *, slope: float) -> Array:
        return tf.where(x > 0, x, slope * x)  # tf.nn.leaky_relu rounds the slope to float32

    def gelu(self, x: Array) -> Array:
        # tf.nn.gelu rounds sqrt(2) to float32 even in float64: an error of 9e-10
        if self._dtype == tf.float64:  # where its erf of infinity is NaN
            return 0.5 * x * tf.math.erfc(x * -math.sqrt(0.5))
        return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))

    def gelu_tanh(self, x: Array) -> Array:
        # tf.nn.gelu rounds its constants to float32 here too
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
        return 0.5 * x * (1.0 + tf.tanh(inner))

    def to_int8(self, x: Array) -> Array:
        # a cast of what is out of range is undefined
        return tf.cast(tf.clip_by_value(x, -128.0, 127.0), tf.int8)

    # -- contractions ----------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        return tf.matmul(a, b)

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        # rows first: the gradient of a broadcast matmul is slower
        y = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), w)
        return tf.reshape(_biased(y, b), (*x.shape[:-1], w.shape[-1]))

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
        if dilation == groups == 1:
            y = tf.nn.conv2d(x, w, stride, _pads(w, stride=stride, padding=padding))
            return _biased(y, b)
        # by `pad`: with an explicit padding the gradients have no kernel on a CPU
        x = _padded(x, padding)
        if groups > 1 and w.shape[2] == 1:
            y = _depthwise(x, w, stride=stride, dilation=dilation)
        elif self._dtype == tf.float64:  # whose gradients have no kernel on a CPU either way
            w = _spread(w, dilation)
            parts = zip(tf.split(x, groups, -1), tf.split(w, groups, -1), strict=True)
            y = tf.concat([tf.nn.conv2d(part, v, stride, "VALID") for part, v in parts], -1)
        else:
            y = tf.nn.conv2d(x, w, stride, "VALID", dilations=dilation)
        return _biased(y, b)

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
        n, *image, _ = x.shape
        kernel, channels = w.shape[:2], w.shape[-1]
        size = [
            (old - 1) * stride - 2 * padding + k + output_padding
            for old, k in zip(image, kernel, strict=True)
        ]
        y = tf.nn.conv2d_transpose(
            x,
            tf.transpose(w, (0, 1, 3, 2)),
            (n, *size, channels),
            stride,
            [[0, 0], [padding, padding], [padding, padding], [0, 0]],
        )
        return _biased(y, b)

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        # it takes no explicit padding
        x, steps = _padded(x, padding), _three(stride)
        if x.shape[0] == 0:  # oneDNN's kernel gives the shape of x
            sizes = zip(x.shape[1:4], w.shape[:3], steps, strict=True)
            image = [(old - k) // step + 1 for old, k, step in sizes]
            return tf.zeros((0, *image, w.shape[-1]), x.dtype)
        return _biased(tf.nn.conv3d(x, w, (1, *steps, 1), "VALID"), b)

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
        # it takes no explicit padding either: what that would take away is cut off
        n, *image, _ = x.shape
        kernel, channels = w.shape[:3], w.shape[-1]
        whole = [
            (old - 1) * stride + k + output_padding for old, k in zip(image, kernel, strict=True)
        ]
        size = (n, *(side - 2 * padding for side in whole), channels)
        if n == 0:  # the gradient is a convolution, whose kernel gives the shape of its input
            return tf.zeros(size, x.dtype)
        w = tf.transpose(w, (0, 1, 2, 4, 3))
        y = tf.nn.conv3d_transpose(x, w, (n, *whole, channels), stride, "VALID")
        if padding:
            y = tf.slice(y, (0, padding, padding, padding, 0), size)
        return _biased(y, b)

    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        q, k, v = (tf.transpose(t, (0, 2, 1, 3)) for t in (q, k, v))  # (N, heads, S, D)
        q = q * (1.0 / math.sqrt(q.shape[-1]))
        scores = tf.matmul(q, k, transpose_b=True)  # (N, heads, S, K)
        if causal:
            past = tf.constant(np.tri(*scores.shape[-2:]) > 0)
            mask = past if mask is None else tf.logical_and(mask, past)
        if mask is None:
            weights = tf.nn.softmax(scores)
        else:
            # finite, so that a query that sees no key gets no NaN; the second choice makes it 0
            weights = tf.nn.softmax(tf.where(mask, scores, self._dtype.min))
            weights = tf.where(mask, weights, tf.zeros_like(weights))
        return tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))

    # -- recurrence ------------------------------------------------------------------------

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        def cell(state: Any, a: Array) -> tuple[Array, Array]:
            h, c = state
            i, f, g, o = tf.split(a + tf.matmul(h, u), 4, -1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            return tf.sigmoid(o) * tf.tanh(c), c

        steps = tf.transpose(self.dense(x, w, b), (1, 0, 2))  # (S, N, 4H)
        hs, cs = tf.scan(cell, steps, (h, c))
        return tf.transpose(hs, (1, 0, 2)), hs[-1], cs[-1]

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        def cell(h: Array, a: Array) -> Array:
            a_r, a_z, a_n = tf.split(a, 3, -1)
            s_r, s_z, s_n = tf.split(self.dense(h, u, b_recurrent), 3, -1)
            z = tf.sigmoid(a_z + s_z)
            return (1.0 - z) * tf.tanh(a_n + tf.sigmoid(a_r + s_r) * s_n) + z * h

        steps = tf.transpose(self.dense(x, w, b), (1, 0, 2))  # (S, N, 3H)
        hs = tf.scan(cell, steps, h)
        return tf.transpose(hs, (1, 0, 2)), hs[-1]

    # -- reductions and normalisations -----------------------------------------------------

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return tf.reduce_sum(x, axis=axis)

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return tf.reduce_mean(x, axis=axis)

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        centred = x - tf.reduce_mean(x, axis, keepdims=True)
        biased = tf.reduce_mean(centred * centred, axis)
        if not correction:
            return biased
        axes = (axis,) if isinstance(axis, int) else axis
        terms = math.prod(x.shape[a] for a in axes)
        # a ratio near 1: of many terms, float16 holds neither their number nor their sum
        return biased * (terms / (terms - correction) if terms != correction else math.inf)

    def max(self, x: Array, *, axis: int) -> Array:
        return tf.reduce_max(x, axis=axis)

    def argmax(self, x: Array, *, axis: int) -> Array:
        return tf.argmax(x, axis=axis)

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        if not x.dtype.is_floating:
            return tf.math.top_k(x, k)
        # XLA's takes 0 for larger than -0: they do not tie
        _, indices = tf.math.top_k(tf.where(x == 0.0, tf.zeros_like(x), x), k)
        return tf.gather(x, indices, batch_dims=len(x.shape) - 1), indices

    def median(self, x: Array) -> Array:
        return _median(x)

    def norm(self, x: Array, *, axis: int) -> Array:
        square = tf.reduce_sum(x * x, axis)
        zero = tf.equal(square, 0.0)  # where the gradient of sqrt is infinite, and 0 * inf NaN
        return tf.where(zero, square, tf.sqrt(tf.where(zero, tf.ones_like(square), square)))

    def softmax(self, x: Array) -> Array:
        return tf.nn.softmax(x)

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        # by `pad`: XLA has no pool with an explicit padding, and elsewhere its gradient is slow
        x = _padded(x, padding, value=-math.inf)
        if x.shape[0] == 0:  # the gradient ends the process
            rows, columns = ((old - window) // stride + 1 for old in x.shape[1:3])
            return x[:, :rows, :columns]
        return tf.nn.max_pool2d(x, window, stride, "VALID")

    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        y = tf.nn.avg_pool2d(_padded(x, padding), window, stride, "VALID")
        if padding == 0 or include_padding:
            return y
        inside = [
            _inside(old, window=window, stride=stride, padding=padding) for old in x.shape[1:3]
        ]
        share = np.outer(*inside) / window**2  # of a patch's elements that are none of the padding
        return y / self.constant(share[..., None])

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        # Not tf.image.resize: it gives float32 for float64, computes positions in float32, so that
        # "nearest" takes a neighbour at some sizes, and reads Keys's kernel from a table
        for axis, new in zip((1, 2), size, strict=True):
            if method == "nearest":
                x = self._nearest(x, new, axis=axis)
            else:
                weights = resizing.matrix(x.shape[axis], new, method=method, antialias=antialias)
                x = _weighted(x, self.constant(weights), axis=axis)
        return x

    def _nearest(self, x: Array, new: int, *, axis: int) -> Array:
        old = x.shape[axis]
        if new % old == 0:  # the gradient of `repeat` is faster than that of `gather`
            return _repeated(x, new // old, axis=axis)
        nearest = resizing.matrix(old, new, method="nearest", antialias=False).argmax(axis=1)
        return tf.gather(x, nearest, axis=axis)

    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        square = tf.reduce_mean(x * x, -1, keepdims=True)
        return x * tf.math.rsqrt(square + epsilon) * scale

    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        grouped = tf.reshape(x, (x.shape[0], -1, groups, x.shape[-1] // groups))
        y = tf.reshape(_normalised(grouped, (1, 3), epsilon), x.shape)
        return y * scale + offset

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        return _normalised(x, -1, epsilon) * scale + offset

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
        # not tf.nn.moments, whose variance takes the mean for a constant: its second derivatives
        # are wrong
        axes = tuple(range(len(x.shape) - 1))
        batch_mean = tf.reduce_mean(x, axes)
        centred = x - batch_mean
        batch_var = tf.reduce_mean(centred * centred, axes)
        y = centred * (tf.math.rsqrt(batch_var + epsilon) * scale) + offset
        n = math.prod(x.shape[:-1])
        new_mean = (1 - momentum) * mean + momentum * batch_mean
        new_var = (1 - momentum) * var + momentum * n / (n - 1) * batch_var
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
        counted = tf.ones_like(labels, tf.bool) if ignore is None else labels != ignore
        labels = labels if ignore is None else tf.where(counted, labels, tf.zeros_like(labels))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if weights is None and ignore is None and not smoothing:
            return tf.reduce_mean(losses)
        every = tf.ones(logits.shape[-1], logits.dtype) if weights is None else weights
        own = tf.gather(every, labels)  # (N,)
        losses = losses * own
        if smoothing:
            spread = -tf.linalg.matvec(tf.nn.log_softmax(logits), every) / logits.shape[-1]
            losses = (1.0 - smoothing) * losses + smoothing * spread
        zeros = tf.zeros_like(losses)
        total = tf.reduce_sum(tf.where(counted, losses, zeros))
        return total / tf.reduce_sum(tf.where(counted, own, zeros))

    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits))

    def mse(self, x: Array, target: Array) -> Array:
        return tf.reduce_mean(tf.math.squared_difference(x, target))

    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        d = x - target
        size = tf.abs(d)
        return tf.reduce_mean(tf.where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta))

    # -- chance ----------------------------------------------------------------------------

    def dropout(self, x: Array, *, rate: float, seed: int) -> Array:
        draw = tf.random.stateless_uniform(x.shape, (seed, 0))  # float32: 16 bits miss the rate
        return tf.where(draw >= rate, x * (1.0 / (1.0 - rate)), tf.zeros_like(x))


def _biased(y: Array, b: Array | None) -> Array:
    return y if b is None else tf.nn.bias_add(y, b)


def _pads(w: Array, *, stride: int, padding: int) -> Any:
    """`padding` zeros on all sides, by a name where there is one: those kernels are faster.
    With a stride "SAME" would pad other sides."""
    if padding == 0:
        return "VALID"
    if stride == 1 and tuple(w.shape[:2]) == (2 * padding + 1, 2 * padding + 1):
        return "SAME"
    return [[0, 0], [padding, padding], [padding, padding], [0, 0]]


def _padded(x: Array, padding: int | Sequence[int], *, value: float = 0.0) -> Array:
    """(N, ..., C) with `value` around the axes between."""
    if not np.any(padding):
        return x
    widths = np.broadcast_to(padding, len(x.shape) - 2)
    return tf.pad(x, [(0, 0), *((n, n) for n in widths), (0, 0)], constant_values=value)


def _three(n: int | Sequence[int]) -> tuple[int, ...]:
    return (n, n, n) if isinstance(n, int) else tuple(n)


def _depthwise(x: Array, w: Array, *, stride: int, dilation: int) -> Array:
    """A convolution with a group per channel: (h, w, 1, O) for C channels."""
    channels = x.shape[-1]
    w = tf.reshape(w, (*w.shape[:2], channels, w.shape[-1] // channels))
    # with a dilation and a stride together it raises
    if stride > 1:
        w, dilation = _spread(w, dilation), 1
    return tf.nn.depthwise_conv2d(
        x, w, (1, stride, stride, 1), "VALID", dilations=(dilation, dilation)
    )


def _spread(w: Array, dilation: int) -> Array:
    """The kernel with zeros between its elements, which makes a convolution a dilated one."""
    if dilation == 1:
        return w
    height, width, *rest = w.shape
    w = tf.reshape(w, (height, 1, width, 1, *rest))
    between = (0, dilation - 1)
    w = tf.pad(w, [(0, 0), between, (0, 0), between, (0, 0), (0, 0)])
    w = tf.reshape(w, (height * dilation, width * dilation, *rest))
    return w[: (height - 1) * dilation + 1, : (width - 1) * dilation + 1]


@tf.custom_gradient
def _median(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Of the last axis; those that equal it share the gradient."""
    middle = tf.math.top_k(x, x.shape[-1] // 2 + 1).values[..., -1:]

    def shared(cotangent: Array) -> Array:
        equal = tf.cast(tf.equal(x, middle), x.dtype)
        return equal * (cotangent[..., None] / tf.reduce_sum(equal, -1, keepdims=True))

    return middle[..., 0], shared


def _inside(old: int, *, window: int, stride: int, padding: int) -> np.ndarray:
    """How many elements of each patch along an axis are none of the padding's."""
    starts = np.arange(0, old + 2 * padding - window + 1, stride) - padding
    return np.minimum(starts + window, old) - np.maximum(starts, 0)


def _weighted(x: Array, weights: Array, *, axis: int) -> Array:
    """(new, old) times an `axis` of `x`, which must not be the last."""
    *before, old = x.shape[: axis + 1]
    after = x.shape[axis + 1 :]
    columns = tf.reshape(x, (math.prod(before), old, math.prod(after)))
    return tf.reshape(tf.matmul(weights, columns), (*before, weights.shape[0], *after))


def _repeated(x: Array, times: int, *, axis: int) -> Array:
    """Every element `times` times in a row."""
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    x = tf.broadcast_to(tf.expand_dims(x, axis + 1), (*before, times, *after))
    return tf.reshape(x, (*before[:-1], before[-1] * times, *after))


def _normalised(x: Array, axes: int | tuple[int, ...], epsilon: float) -> Array:
    """x with mean 0 and a biased variance of about 1 over `axes`."""
    centred = x - tf.reduce_mean(x, axes, keepdims=True)
    var = tf.reduce_mean(centred * centred, axes, keepdims=True)
    return centred * tf.math.rsqrt(var + epsilon)
