"""The vocabulary in JAX."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adapters import resizing
from adapters.jax_forms import JaxForms
from adapters.ops import Array, Ops


def _widely(op: Callable[..., Any]) -> Callable[..., Any]:
    """`op` in float32 for tensors of 16 bits, and its results rounded once: several roundings to 8
    bits in a row are worth no name."""

    @functools.wraps(op)
    def wide(self: JaxOps, *tensors: Array, **keywords: Any) -> Any:
        if jnp.finfo(self._dtype).bits > 16:
            return op(self, *tensors, **keywords)
        tensors, keywords = _cast((tensors, keywords), self._dtype, jnp.float32)
        return _cast(op(self, *tensors, **keywords), jnp.float32, self._dtype)

    return wide


def _cast(tree: Any, old: Any, new: Any) -> Any:
    """`tree` with its tensors of dtype `old` in dtype `new`."""
    return jax.tree.map(lambda x: x.astype(new) if getattr(x, "dtype", "") == old else x, tree)


class JaxOps(JaxForms, Ops):
    """XLA's own layouts are those of the vocabulary: nothing is transposed but heads."""

    def __init__(self, dtype: str) -> None:
        self._dtype = jnp.dtype(dtype)

    def constant(self, value: np.ndarray) -> Array:
        return jnp.asarray(value, self._dtype)

    def dtype_of(self, x: Array) -> str:
        return str(x.dtype.name)

    def cast(self, x: Array, dtype: str) -> Array:
        return x.astype(dtype)

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

    def pad(self, x: Array, widths: Sequence[Sequence[int]]) -> Array:
        return jnp.pad(x, [tuple(width) for width in widths])

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        return jnp.take(x, indices, axis=axis, mode="clip")

    def gather(self, x: Array, indices: Array) -> Array:
        rows = functools.partial(jnp.take, axis=0, mode="clip")
        return jax.vmap(rows)(x, indices)

    def embedding(self, table: Array, ids: Array, *, padding_index: int | None = None) -> Array:
        rows = jnp.take(table, ids, axis=0, mode="clip")
        if padding_index is None:
            return rows
        return jnp.where((ids == padding_index)[..., None], lax.stop_gradient(rows), rows)

    def one_hot(self, ids: Array, classes: int) -> Array:
        return jax.nn.one_hot(ids, classes, dtype=self._dtype)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return jnp.where(condition, a, b)

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def subtract(self, a: Array, b: Array) -> Array:
        return a - b

    def divide(self, a: Array, b: Array) -> Array:
        return a / b

    def floor_divide(self, a: Array, b: Array) -> Array:
        return jnp.floor_divide(a, b)  # lax.div rounds towards zero

    def greater(self, a: Array, b: Array) -> Array:
        return jnp.greater(a, b)

    def maximum(self, a: Array, b: Array) -> Array:
        return jnp.maximum(a, b)

    def minimum(self, a: Array, b: Array) -> Array:
        return jnp.minimum(a, b)

    def clip(self, x: Array, low: float, high: float) -> Array:
        # the gradient of jnp.clip at an edge is 1/2
        return jnp.where(x < low, low, jnp.where(x > high, high, x))

    def absolute(self, x: Array) -> Array:
        return x * jnp.sign(x)  # the gradient of jnp.abs at 0 is 1

    def exp(self, x: Array) -> Array:
        return jnp.exp(x)

    def log(self, x: Array) -> Array:
        return jnp.log(x)

    def sqrt(self, x: Array) -> Array:
        return jnp.sqrt(x)

    def sin(self, x: Array) -> Array:
        return jnp.sin(x)

    def cos(self, x: Array) -> Array:
        return jnp.cos(x)

    def tanh(self, x: Array) -> Array:
        return jnp.tanh(x)

    def sigmoid(self, x: Array) -> Array:
        return jax.nn.sigmoid(x)

    def silu(self, x: Array) -> Array:
        return jax.nn.silu(x)

    def softplus(self, x: Array) -> Array:
        return jax.nn.softplus(x)

    def relu(self, x: Array) -> Array:
        return jax.nn.relu(x)

    def leaky_relu(self, x: Array, *, slope: float) -> Array:
        return jnp.where(x > 0, x, slope * x)  # the gradient of jax.nn.leaky_relu at 0 is 1

    def gelu(self, x: Array) -> Array:
        return jax.nn.gelu(x, approximate=False)

    def gelu_tanh(self, x: Array) -> Array:
        return jax.nn.gelu(x, approximate=True)

    def to_int8(self, x: Array) -> Array:
        return jnp.clip(x, -128, 127).astype(jnp.int8)

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        # rows first: XLA's CPU gradient of w is slower when it contracts two axes
        y = x.reshape(-1, x.shape[-1]) @ w
        y = y if b is None else y + b
        return y.reshape(*x.shape[:-1], w.shape[-1])

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
        y = lax.conv_general_dilated(
            x,
            w,
            window_strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y if b is None else y + b

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
        y = _conv_transpose(
            x, w, ("NHWC", "HWIO", "NHWC"),
            stride=stride, padding=padding, output_padding=output_padding,
        )  # fmt: skip
        return y if b is None else y + b

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        y = lax.conv_general_dilated(
            x,
            w,
            window_strides=_three(stride),
            padding=[(width, width) for width in _three(padding)],
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        )
        return y if b is None else y + b

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
        y = _conv_transpose(
            x, w, ("NDHWC", "DHWIO", "NDHWC"),
            stride=stride, padding=padding, output_padding=output_padding,
        )  # fmt: skip
        return y if b is None else y + b

    @_widely
    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(q.shape[-1])
        visible = _visible(scores.shape, mask, causal=causal)
        weights = jax.nn.softmax(scores) if visible is None else _masked_softmax(scores, visible)
        return jnp.einsum("nhqk,nkhd->nqhd", weights, v)

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        def step(state: tuple[Array, Array], a: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = state
            i, f, g, o = jnp.split(a + h @ u, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        inputs = jnp.swapaxes(self.dense(x, w, b), 0, 1)  # (S, N, 4H), of all steps at once
        (h, c), every = lax.scan(step, (h, c), inputs)
        return jnp.swapaxes(every, 0, 1), h, c

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        def step(h: Array, a: Array) -> tuple[Array, Array]:
            (ar, az, an), (sr, sz, sn) = (
                jnp.split(t, 3, axis=-1) for t in (a, h @ u + b_recurrent)
            )
            z = jax.nn.sigmoid(az + sz)
            h = (1 - z) * jnp.tanh(an + jax.nn.sigmoid(ar + sr) * sn) + z * h
            return h, h

        inputs = jnp.swapaxes(self.dense(x, w, b), 0, 1)  # (S, N, 3H), of all steps at once
        h, every = lax.scan(step, h, inputs)
        return jnp.swapaxes(every, 0, 1), h

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return jnp.sum(x, axis=_axes(axis))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return jnp.mean(x, axis=_axes(axis))

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        return jnp.var(x, axis=_axes(axis), ddof=correction)

    def max(self, x: Array, *, axis: int) -> Array:
        return jnp.max(x, axis=axis)

    def argmax(self, x: Array, *, axis: int) -> Array:
        return jnp.argmax(x, axis=axis)

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        # lax.top_k takes 0 for larger than -0: they do not tie
        _, indices = lax.top_k(jnp.where(x == 0, 0, x), k)
        return jnp.take_along_axis(x, indices, axis=-1, mode="clip"), indices

    def median(self, x: Array) -> Array:
        # jnp.median gives one of those that tie the whole gradient, jnp.max shares it
        middle = jnp.sort(lax.stop_gradient(x))[..., x.shape[-1] // 2, None]
        return jnp.max(jnp.where(x > middle, -jnp.inf, x), axis=-1)

    @_widely
    def norm(self, x: Array, *, axis: int) -> Array:
        squared = jnp.sum(x * x, axis=axis)
        zero = squared == 0  # where the slope of the root is infinite
        return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))

    @_widely
    def softmax(self, x: Array) -> Array:
        return jax.nn.softmax(x)

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        sizes, strides = (1, window, window, 1), (1, stride, stride, 1)
        widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))  # of -inf
        return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, widths)

    @_widely
    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        sizes, strides = (1, window, window, 1), (1, stride, stride, 1)
        widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        add = functools.partial(
            lax.reduce_window,
            init_value=0.0,
            computation=lax.add,
            window_dimensions=sizes,
            window_strides=strides,
            padding=widths,
        )
        return add(x) / (window**2 if include_padding else add(jnp.ones_like(x)))

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        # jax.image.resize has its positions in float32: "nearest" takes the wrong neighbour at
        # times, and float32 weights lose digits as the image grows
        rows, columns = (
            resizing.matrix(old, new, method=method, antialias=antialias)
            for old, new in zip(x.shape[1:3], size, strict=True)
        )
        if method == "nearest":
            return x[:, rows.argmax(1)][:, :, columns.argmax(1)]
        return self._resized(x, self.constant(rows), self.constant(columns))

    @_widely
    def _resized(self, x: Array, rows: Array, columns: Array) -> Array:
        return jnp.einsum("nhwc,ih,jw->nijc", x, rows, columns)

    @_widely
    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        squared = (x * x).mean(-1, keepdims=True)
        return x * lax.rsqrt(squared + epsilon) * scale

    @_widely
    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        n, *places, c = x.shape
        grouped = x.reshape(n, math.prod(places), groups, c // groups)
        mean, var = _moments(grouped, axes=(1, 3))
        return ((grouped - mean) * lax.rsqrt(var + epsilon)).reshape(x.shape) * scale + offset

    @_widely
    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        mean, var = _moments(x, axes=(-1,))
        return (x - mean) / jnp.sqrt(var + epsilon) * scale + offset

    @_widely
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
        y, batch_mean, batch_var = _over_batch(x, scale, offset, epsilon)
        new_mean = (1 - momentum) * mean + momentum * batch_mean
        new_var = (1 - momentum) * var + momentum * n / (n - 1) * batch_var
        return y, new_mean, new_var

    @_widely
    def cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        weights: Array | None = None,
        smoothing: float = 0.0,
        ignore: int | None = None,
    ) -> Array:
        kept = None if ignore is None else labels != ignore
        if kept is not None:  # zeros in place of what does not count, for NaN may stand there
            labels, logits = jnp.where(kept, labels, 0), jnp.where(kept[:, None], logits, 0)
        peak = lax.stop_gradient(logits.max(-1, keepdims=True))  # (N, 1)
        log_sum = jnp.log(jnp.exp(logits - peak).sum(-1, keepdims=True))  # (N, 1)
        # out of the logits: out of log_softmax, the step back takes 1.8 times as long
        label_logits = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        chosen = (log_sum - (label_logits - peak))[:, 0]
        if kept is None and weights is None and not smoothing:
            return chosen.mean()
        classes = logits.shape[-1]
        weights = jnp.ones(classes, logits.dtype) if weights is None else weights
        weight = weights[labels] if kept is None else jnp.where(kept, weights[labels], 0)
        total = (1 - smoothing) * weight * chosen
        if smoothing:
            uniform = smoothing / classes * ((log_sum - (logits - peak)) * weights).sum(-1)
            total += uniform if kept is None else jnp.where(kept, uniform, 0)
        return total.sum() / weight.sum()

    @_widely
    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        # the same as the formula: softplus(x) = max(x, 0) + log1p(e^-|x|); smooth at 0
        softplus = jax.nn.softplus
        return ((1 - targets) * softplus(logits) + targets * softplus(-logits)).mean()

    @_widely
    def mse(self, x: Array, target: Array) -> Array:
        return jnp.square(x - target).mean()

    @_widely
    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        d = x - target
        near = jnp.abs(d) < beta
        return jnp.where(near, d * d / (2 * beta), self.absolute(d) - beta / 2).mean()

    def dropout(self, x: Array, *, rate: float, seed: int) -> Array:
        # drawn in float32, so that a seed gives the same zeros in every precision
        kept = jax.random.bernoulli(jax.random.key(seed), np.float32(1 - rate), x.shape)
        return jnp.where(kept, x / (1 - rate), 0)


def _axes(axis: int | Sequence[int]) -> int | tuple[int, ...]:
    return axis if isinstance(axis, int) else tuple(axis)


def _three(n: int | Sequence[int]) -> tuple[int, ...]:
    return (n, n, n) if isinstance(n, int) else tuple(n)


def _conv_transpose(
    x: Array, w: Array, layouts: Any, *, stride: int, padding: int, output_padding: int
) -> Array:
    # lax.conv_transpose neither flips the kernel of this layout nor pads one side more
    spatial = range(w.ndim - 2)
    before = [w.shape[a] - 1 - padding for a in spatial]
    return lax.conv_general_dilated(
        x,
        jnp.flip(w, spatial),
        window_strides=[1 for _ in spatial],
        padding=[(width, width + output_padding) for width in before],
        lhs_dilation=[stride for _ in spatial],
        dimension_numbers=layouts,
    )


def _moments(x: Array, *, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance, axes kept."""
    mean = x.mean(axes, keepdims=True)
    centred = x - mean
    return mean, (centred * centred).mean(axes, keepdims=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _over_batch(
    x: Array, scale: Array, offset: Array, epsilon: float
) -> tuple[Array, Array, Array]:
    """`x` normalised over all axes but the last, its mean and its biased variance. These two are
    constants to differentiation, as running values are.

    The gradient is that of Ioffe and Szegedy (2015): what JAX derives has one more pass over the
    tensor, for the derivative of the variance by the mean, which is zero."""
    return _over_batch_forward(x, scale, offset, epsilon)[0]


def _over_batch_forward(x: Array, scale: Array, offset: Array, epsilon: float) -> Any:
    mean, var = _moments(x, axes=tuple(range(x.ndim - 1)))
    inverse = lax.rsqrt(var + epsilon)
    y = (x - mean) * (inverse * scale) + offset
    return (y, mean.reshape(-1), var.reshape(-1)), (x, mean, inverse, scale)


def _over_batch_backward(epsilon: float, kept: Any, cotangents: Any) -> Any:
    (x, mean, inverse, scale), g = kept, cotangents[0]
    axes, n = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
    centred = x - mean
    total, along = g.sum(axes), (g * centred).sum(axes)  # both (C,)
    factor = inverse * scale
    # with a product of two tensors at the end: a tensor and a channel's number XLA adds again in
    # the transposition of what comes out, for the gradient of a convolution's weights
    pulled = centred * (factor * inverse**2 * (along / n))
    return (g * factor - factor * (total / n)) - pulled, along * inverse.reshape(-1), total


_over_batch.defvjp(_over_batch_forward, _over_batch_backward)


def _visible(shape: Sequence[int], mask: Array | None, *, causal: bool) -> Array | None:
    """Which key every query sees, to be broadcast to (N, heads, S, K); None for all."""
    if not causal:
        return mask
    earlier = jnp.tri(shape[-2], shape[-1], dtype=bool)
    return earlier if mask is None else mask & earlier


def _masked_softmax(scores: Array, visible: Array) -> Array:
    """Softmax over the keys that are visible. Where there is none: zeros, with a gradient of 0;
    jax.nn.dot_product_attention gives the mean of all values there."""
    peak = jnp.max(scores, axis=-1, keepdims=True, where=visible, initial=-jnp.inf)
    peak = lax.stop_gradient(jnp.where(peak == -jnp.inf, 0, peak))
    e = jnp.where(visible, jnp.exp(jnp.where(visible, scores - peak, 0)), 0)
    total = e.sum(-1, keepdims=True)
    return e / jnp.where(total == 0, 1, total)
