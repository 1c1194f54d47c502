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
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any  # a framework's tensor: torch.Tensor, tf.Tensor, jax.Array, np.ndarray, a graph value


class Unsupported(Exception):
    """What was asked for cannot be done here. Its text is the reason that users read."""


class Ops:
    """Base class of every implementation. An operation left out is `Unsupported` by name."""

    # -- data ------------------------------------------------------------------------------

    def shape(self, x: Array) -> tuple[int, ...]:
        """The static shape of `x`."""
        return tuple(int(n) for n in x.shape)

    def constant(self, value: np.ndarray) -> Array:
        """A tensor with the values of `value`, in the program's floating-point dtype."""
        raise self._missing("constant")

    # -- layout: these move values and never round -------------------------------------------

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """The elements of `x` in row-major order under a new shape; one entry may be -1."""
        raise self._missing("reshape")

    def flatten(self, x: Array) -> Array:
        """(N, ...) -> (N, product of the rest)."""
        return self.reshape(x, (self.shape(x)[0], -1))

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

    # -- elementwise -------------------------------------------------------------------------

    def add(self, a: Array, b: Array) -> Array:
        """a + b with NumPy broadcasting."""
        raise self._missing("add")

    def multiply(self, a: Array, b: Array) -> Array:
        """a * b with NumPy broadcasting."""
        raise self._missing("multiply")

    def relu(self, x: Array) -> Array:
        """max(x, 0); the gradient at 0 is 0."""
        raise self._missing("relu")

    def gelu(self, x: Array) -> Array:
        """x * Phi(x), Phi the normal distribution function through erf (Hendrycks and Gimpel
        2016); not the tanh approximation."""
        raise self._missing("gelu")

    # -- contractions ------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        """(..., M, K) x (..., K, N) -> (..., M, N); leading axes are equal."""
        raise self._missing("matmul")

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        """(..., I) x (I, O) + (O,) -> (..., O)."""
        raise self._missing("dense")

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        """Cross-correlation of (N, H, W, C) with (h, w, C, O), plus (O,); `padding` zeros on
        all four sides. Result (N, (H + 2 padding - h) // stride + 1, ..., O)."""
        raise self._missing("conv2d")

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        """Scaled dot-product attention (Vaswani et al. 2017), every argument (N, S, heads, D):
        softmax(q k^T / sqrt(D)) v per head. Result (N, S, heads, D)."""
        raise self._missing("attention")

    # -- reductions and normalisations -------------------------------------------------------

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        """Arithmetic mean over `axis`; the axis is removed."""
        raise self._missing("mean")

    def softmax(self, x: Array) -> Array:
        """exp(x) / sum(exp(x)) over the last axis, with the maximum subtracted first."""
        raise self._missing("softmax")

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        """Maximum over window x window patches of (N, H, W, C), no padding; incomplete patches
        are dropped. On a tie the gradient goes to the first element in row-major order."""
        raise self._missing("max_pool2d")

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
        come back unchanged. `epsilon` is added to the variance.
        """
        raise self._missing("batch_norm")

    # -- losses ------------------------------------------------------------------------------

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        """Mean over N of -log softmax(logits)[label]: (N, classes), integers (N,) -> scalar."""
        raise self._missing("cross_entropy")

    # ------------------------------------------------------------------------------------------

    def _missing(self, op: str) -> Unsupported:
        return Unsupported(f"{type(self).__module__}.{type(self).__name__} has no op {op!r}")


NAMES: tuple[str, ...] = tuple(name for name in vars(Ops) if not name.startswith("_"))

#: Operations that move or select values and never round.
EXACT: frozenset[str] = frozenset(
    "shape constant reshape flatten transpose concat slice broadcast_to relu max_pool2d".split()
)

#: Operations with a body above, which an implementation may leave as they are.
DERIVED: frozenset[str] = frozenset({"shape", "flatten"})


def missing(implementation: type[Ops]) -> list[str]:
    """The operations that `implementation` leaves out, in the order of the vocabulary."""
    return [
        name
        for name in NAMES
        if name not in DERIVED and getattr(implementation, name) is getattr(Ops, name)
    ]


def misshapen(implementation: type[Ops]) -> list[str]:
    """The operations whose parameters differ from the specification's, as readable lines."""
    lines = []
    for name in NAMES:
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
