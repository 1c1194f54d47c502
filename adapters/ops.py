"""The vocabulary: every operation a model may use, with its signature, shapes and semantics.

This file is the specification. A model is a function over these operations
(`adapters/models/`), and an adapter implements them in its framework, so that all
frameworks run the very same model. What a framework does *by default* does not matter
here; what is written here does.

Conventions
    N batch, H height, W width, C channels, S sequence length, D features of one head.
    Images are NHWC, convolution weights HWIO, dense weights (in, out). Padding is explicit
    and symmetric. An operation never changes its inputs.
    Floating-point tensors have the program's dtype; labels are integers.
    A parameter's name is a path. Its last part tells what it is: `w` a weight of a
    contraction, `b` a bias, `scale` and `offset` of a normalisation, `mean` and `var`
    running statistics. Adapters may use the name to choose a memory layout, never a meaning.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.forms import Array, Forms, Unsupported

__all__ = ["Array", "Ops", "Unsupported"]


class Ops(Forms):
    """Base class of every implementation. An operation left out is `Unsupported` by name."""

    # -- data ------------------------------------------------------------------------------

    def shape(self, x: Array) -> tuple[int, ...]:
        """The static shape of `x`."""
        return tuple(int(n) for n in x.shape)

    def constant(self, value: np.ndarray) -> Array:
        """A tensor with the values of `value`, in the program's floating-point dtype."""
        raise self._missing("constant")

    def dtype_of(self, x: Array) -> str:
        """The name of the dtype of `x`, such as "float32", "bfloat16" or "int64"."""
        raise self._missing("dtype_of")

    def cast(self, x: Array, dtype: str) -> Array:
        """A floating-point tensor in another floating-point dtype, to the nearest, ties to even;
        above the largest is infinity. The gradient is cast back to the dtype of `x`. Or integers
        and booleans in another such dtype, which holds their values: True is 1, and all but 0 is
        True."""
        raise self._missing("cast")

    # -- layout: these move values and never round -------------------------------------------

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """The elements of `x` in row-major order under a new shape; one entry may be -1."""
        raise self._missing("reshape")

    def flatten(self, x: Array) -> Array:
        """(N, ...) -> (N, product of the rest)."""
        examples, *rest = self.shape(x)
        return self.reshape(x, (examples, math.prod(rest)))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        """Axis i of the result is axis `axes[i]` of `x`."""
        raise self._missing("transpose")

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        """Joins tensors along an existing axis, `axis` >= 0."""
        raise self._missing("concat")

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        """Elements start (included) to stop (excluded) along `axis` >= 0; the axis stays."""
        raise self._missing("slice")

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        """`x` repeated to `shape` by NumPy's broadcasting rules."""
        raise self._missing("broadcast_to")

    def pad(self, x: Array, widths: Sequence[Sequence[int]]) -> Array:
        """`x` with zeros around it: `widths` has (before, after) >= 0 for every axis."""
        raise self._missing("pad")

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        """x[..., indices, ...] along `axis` >= 0, for integer `indices` of any shape, which take
        the place of that axis. An index below 0 or behind the end is clamped to the range."""
        raise self._missing("take")

    def gather(self, x: Array, indices: Array) -> Array:
        """x[n, indices[n, k], ...]: every example of (N, M, ...) by its own integers (N, K) in
        0..M-1 -> (N, K, ...)."""
        raise self._missing("gather")

    def embedding(self, table: Array, ids: Array, *, padding_index: int | None = None) -> Array:
        """(V, D), integers (...) in 0..V-1 -> (..., D): rows of the table. Row `padding_index` is
        looked up like any other, and gets no gradient."""
        raise self._missing("embedding")

    def one_hot(self, ids: Array, classes: int) -> Array:
        """Integers (...) -> (..., classes) of the program's dtype: 1 at ids[...], else 0. An id
        below 0 or behind the end gives zeros alone."""
        raise self._missing("one_hot")

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        """`a` where the boolean `condition` holds, else `b`, with NumPy broadcasting. What is not
        chosen gets a gradient of 0."""
        raise self._missing("where")

    # -- elementwise -------------------------------------------------------------------------

    def add(self, a: Array, b: Array) -> Array:
        """a + b with NumPy broadcasting."""
        raise self._missing("add")

    def multiply(self, a: Array, b: Array) -> Array:
        """a * b with NumPy broadcasting."""
        raise self._missing("multiply")

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b with NumPy broadcasting."""
        raise self._missing("subtract")

    def divide(self, a: Array, b: Array) -> Array:
        """a / b with NumPy broadcasting, for floating-point tensors; x / 0 as IEEE 754 has it."""
        raise self._missing("divide")

    def floor_divide(self, a: Array, b: Array) -> Array:
        """The quotient of integers, rounded towards minus infinity: -7 by 2 is -4."""
        raise self._missing("floor_divide")

    def greater(self, a: Array, b: Array) -> Array:
        """a > b, boolean, with NumPy broadcasting; False beside NaN."""
        raise self._missing("greater")

    def maximum(self, a: Array, b: Array) -> Array:
        """The larger of a and b, with NumPy broadcasting; NaN if either is. Where they are equal
        each gets half of the gradient."""
        raise self._missing("maximum")

    def minimum(self, a: Array, b: Array) -> Array:
        """The smaller of a and b, with NumPy broadcasting; NaN if either is. Where they are equal
        each gets half of the gradient."""
        raise self._missing("minimum")

    def clip(self, x: Array, low: float, high: float) -> Array:
        """x, but at least `low` and at most `high`; NaN stays. The gradient at both edges is 1."""
        raise self._missing("clip")

    def absolute(self, x: Array) -> Array:
        """|x|; the gradient at 0 is 0."""
        raise self._missing("absolute")

    def exp(self, x: Array) -> Array:
        """e^x."""
        raise self._missing("exp")

    def log(self, x: Array) -> Array:
        """The natural logarithm; minus infinity at 0, NaN below."""
        raise self._missing("log")

    def sqrt(self, x: Array) -> Array:
        """The square root; NaN below 0."""
        raise self._missing("sqrt")

    def sin(self, x: Array) -> Array:
        """The sine of an angle in radians; NaN at infinity."""
        raise self._missing("sin")

    def cos(self, x: Array) -> Array:
        """The cosine of an angle in radians; NaN at infinity."""
        raise self._missing("cos")

    def tanh(self, x: Array) -> Array:
        """The hyperbolic tangent."""
        raise self._missing("tanh")

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + e^-x), without overflow."""
        raise self._missing("sigmoid")

    def silu(self, x: Array) -> Array:
        """x * sigmoid(x) (Hendrycks and Gimpel 2016)."""
        raise self._missing("silu")

    def softplus(self, x: Array) -> Array:
        """log(1 + e^x) = max(x, 0) + log1p(e^-|x|), everywhere; its gradient is sigmoid(x). No
        threshold above which it is called linear."""
        raise self._missing("softplus")

    def relu(self, x: Array) -> Array:
        """max(x, 0); the gradient at 0 is 0; NaN stays."""
        raise self._missing("relu")

    def leaky_relu(self, x: Array, *, slope: float) -> Array:
        """x where x > 0, else slope * x; the gradient at 0 is `slope`."""
        raise self._missing("leaky_relu")

    def gelu(self, x: Array) -> Array:
        """x * Phi(x), Phi the normal distribution function through erf (Hendrycks and Gimpel
        2016); not the tanh approximation."""
        raise self._missing("gelu")

    def gelu_tanh(self, x: Array) -> Array:
        """The tanh approximation of gelu:
        x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))."""
        raise self._missing("gelu_tanh")

    def to_int8(self, x: Array) -> Array:
        """int8 of a floating-point tensor: rounded towards zero; what is out of range becomes -128
        or 127. NaN is not allowed. Has no gradient."""
        raise self._missing("to_int8")

    # -- contractions ------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        """(..., M, K) x (..., K, N) -> (..., M, N); leading axes are equal."""
        raise self._missing("matmul")

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        """(..., I) x (I, O) + (O,) -> (..., O)."""
        raise self._missing("dense")

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
        """Cross-correlation of (N, H, W, C) with (h, w, C / groups, O), plus (O,); `padding` zeros
        on all four sides (use `pad` for others). With `groups` > 1 output channel o sees the input
        channels of group o // (O / groups) alone. Result (N, H', W', O), where
        H' = (H + 2 padding - dilation (h - 1) - 1) // stride + 1."""
        raise self._missing("conv2d")

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
        """Transposed convolution of (N, H, W, C) with (h, w, C, O), plus (O,): every input value
        adds its multiple of the kernel, y[n, i stride + a - padding, ..., o] += x[n, i, ..., c]
        w[a, ..., c, o]. Result (N, (H - 1) stride - 2 padding + h + output_padding, ..., O)."""
        raise self._missing("conv_transpose2d")

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        """`conv2d` in three dimensions: (N, D, H, W, C) with (d, h, w, C, O), plus (O,). `stride`
        and `padding` are one number, or three for D, H and W."""
        raise self._missing("conv3d")

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
        """`conv_transpose2d` in three dimensions: (N, D, H, W, C) with (d, h, w, C, O), plus
        (O,)."""
        raise self._missing("conv_transpose3d")

    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        """Scaled dot-product attention (Vaswani et al. 2017), q (N, S, heads, D), k and v
        (N, K, heads, D): softmax(q k^T / sqrt(D)) v per head. Result (N, S, heads, D).

        Query i sees key j where the boolean `mask`, which broadcasts to (N, heads, S, K), is True
        and, if `causal`, j <= i. A query that sees no key gets zeros, and its gradients are 0."""
        raise self._missing("attention")

    # -- recurrence --------------------------------------------------------------------------

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        """LSTM (Hochreiter and Schmidhuber 1997, with forget gate) over x (N, S, I) from h and c,
        each (N, H), with w (I, 4H), u (H, 4H), b (4H), whose quarters are the gates i, f, g, o:

        z = x_t w + h u + b;  c' = sigmoid(z_f) c + sigmoid(z_i) tanh(z_g);
        h' = sigmoid(z_o) tanh(c').  Returns (every h (N, S, H), the last h, the last c)."""
        raise self._missing("lstm")

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        """GRU (Cho et al. 2014, in the form that resets after the product) over x (N, S, I) from
        h (N, H), with w (I, 3H), u (H, 3H), b and b_recurrent (3H), thirds r, z, n:

        a = x_t w + b;  s = h u + b_recurrent;  r = sigmoid(a_r + s_r);  z = sigmoid(a_z + s_z);
        h' = (1 - z) tanh(a_n + r s_n) + z h.  Returns (every h (N, S, H), the last h)."""
        raise self._missing("gru")

    # -- reductions and normalisations -------------------------------------------------------

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        """The sum over `axis`; the axis is removed. Of nothing it is 0."""
        raise self._missing("sum")

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        """Arithmetic mean over `axis`; the axis is removed."""
        raise self._missing("mean")

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        """The mean squared distance from the mean over `axis`, which is removed: a sum divided by
        n - correction."""
        raise self._missing("variance")

    def max(self, x: Array, *, axis: int) -> Array:
        """The maximum along `axis`, which is removed; NaN if there is one. Elements that tie share
        the gradient evenly."""
        raise self._missing("max")

    def argmax(self, x: Array, *, axis: int) -> Array:
        """The index of the first maximum along `axis`, which is removed; an integer."""
        raise self._missing("argmax")

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        """The `k` largest values over the last axis, in descending order, and their indices, which
        are integers: both (..., k). Of equal values (0 and -0 are) the lower index comes first.
        The gradient goes to the chosen. NaN is not allowed."""
        raise self._missing("top_k")

    def median(self, x: Array) -> Array:
        """The middle value over the last axis, whose length is odd; the axis is removed. Elements
        that equal it share the gradient evenly."""
        raise self._missing("median")

    def norm(self, x: Array, *, axis: int) -> Array:
        """sqrt(sum x^2) along `axis`, which is removed. Where it is 0, so is its gradient."""
        raise self._missing("norm")

    def softmax(self, x: Array) -> Array:
        """exp(x) / sum(exp(x)) over the last axis, with the maximum subtracted first."""
        raise self._missing("softmax")

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        """Maximum over window x window patches of (N, H, W, C) with `padding` <= window / 2 on all
        four sides, which never wins; incomplete patches are dropped. On a tie the gradient goes to
        the first element in row-major order; where all are minus infinity it is not pinned."""
        raise self._missing("max_pool2d")

    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        """Mean over window x window patches of (N, H, W, C) with `padding` zeros on all four sides;
        incomplete patches are dropped. Zeros of the padding count as elements, or do not."""
        raise self._missing("avg_pool2d")

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        """(N, H, W, C) to (N, *size, C). Output pixel i lies at (i + 1/2) old / new - 1/2.

        method      "nearest": input floor((i + 1/2) old / new); "bilinear": the triangle kernel;
                    "bicubic": Keys's kernel (1981) with coefficient -1/2
        antialias   shrinking stretches the kernel by old / new; of no effect for "nearest"

        Inputs outside of the image do not count: the weights of the others are scaled to sum 1.
        `adapters.resizing` has the weights as matrices."""
        raise self._missing("resize")

    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        """x / sqrt(mean(x^2) + epsilon) * scale over the last axis (Zhang and Sennrich 2019)."""
        raise self._missing("rms_norm")

    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        """(x - mean) / sqrt(var + epsilon) * scale + offset of (N, ..., C), where mean and biased
        variance are those of an example's group of C / groups neighbouring channels (Wu and He
        2018); scale and offset (C,)."""
        raise self._missing("group_norm")

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        """(x - mean) / sqrt(var + epsilon) * scale + offset over the last axis, with the biased
        variance (Ba et al. 2016)."""
        raise self._missing("layer_norm")

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
        """Batch normalisation over all axes but the last (Ioffe and Szegedy 2015), functional.

        Returns (y, new_mean, new_var). With `train` the batch's mean and biased variance
        normalise; the running values become (1 - momentum) * old + momentum * batch, where the
        batch's variance is the unbiased one (n - 1). Without, `mean` and `var` normalise and
        come back unchanged. `epsilon` is added to the variance. Running values are constants to
        differentiation, old and new.
        """
        raise self._missing("batch_norm")

    # -- losses ------------------------------------------------------------------------------

    def cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        weights: Array | None = None,
        smoothing: float = 0.0,
        ignore: int | None = None,
    ) -> Array:
        """-log softmax(logits)[label], (N, classes) and integers (N,), as a mean over N -> scalar.

        weights     (classes,): the mean is weighted by weights[label], and divided by their sum
        smoothing   each label is mixed with the uniform distribution (Szegedy et al. 2016):
                    (1 - smoothing) w[label] (-log p[label]) + smoothing / classes *
                    sum_k w[k] (-log p[k]); the divisor stays sum w[label]
        ignore      examples with this label do not count at all; one at least has to remain"""
        raise self._missing("cross_entropy")

    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        """The mean of max(x, 0) - x t + log1p(e^-|x|), which is the binary cross-entropy of
        sigmoid(x) against t, without its overflow. Both of one shape -> scalar."""
        raise self._missing("bce_with_logits")

    def mse(self, x: Array, target: Array) -> Array:
        """The mean of (x - target)^2. Both of one shape -> scalar."""
        raise self._missing("mse")

    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        """The mean of d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, of d = x - target
        (Girshick 2015). Both of one shape -> scalar."""
        raise self._missing("smooth_l1")

    # -- chance ------------------------------------------------------------------------------

    def dropout(self, x: Array, *, rate: float, seed: int) -> Array:
        """Every element is 0 with probability `rate`, else x / (1 - rate) (Srivastava et al. 2014,
        inverted). The same `seed` gives the same zeros in one framework, not across frameworks:
        it is judged by statistics."""
        raise self._missing("dropout")


#: Functions of tensors, and what takes functions as arguments (`adapters.forms`).
NAMES: tuple[str, ...] = tuple(name for name in vars(Ops) if not name.startswith("_"))
FORMS: tuple[str, ...] = tuple(name for name in vars(Forms) if not name.startswith("_"))

#: Operations that move or select values and never round.
EXACT: frozenset[str] = frozenset(
    "shape constant dtype_of cast reshape flatten transpose concat slice broadcast_to pad take "
    "gather embedding one_hot where floor_divide greater maximum minimum clip absolute relu "
    "to_int8 max argmax top_k median max_pool2d".split()
)

#: Operations that are linear in each of their tensors: exact on integers while sums stay small.
LINEAR: frozenset[str] = frozenset(
    "add subtract multiply matmul dense conv2d conv_transpose2d conv3d conv_transpose3d sum".split()
)

#: Operations with a body above, which an implementation may leave as they are.
DERIVED: frozenset[str] = frozenset({"shape", "flatten"})


def missing(implementation: type[Ops]) -> list[str]:
    """The operations that `implementation` leaves out, in the order of the vocabulary."""
    return [
        name
        for name in NAMES + FORMS
        if name not in DERIVED and getattr(implementation, name) is getattr(Ops, name)
    ]


def misshapen(implementation: type[Ops]) -> list[str]:
    """The operations whose parameters differ from the specification's, as readable lines."""
    lines = []
    for name in NAMES + FORMS:
        given = _parameters(getattr(implementation, name))
        wanted = _parameters(getattr(Ops, name))
        if given != wanted:
            lines.append(f"{name}({', '.join(given)}), but should be {name}({', '.join(wanted)})")
    return lines


def _parameters(function: Any) -> list[str]:
    return [
        ("*" if p.kind is p.KEYWORD_ONLY else "") + p.name
        for p in inspect.signature(function).parameters.values()
    ]
