"""The vocabulary over shapes alone: derives shapes, parameter counts and FLOPs of any model.

A contraction counts 2 FLOPs per multiply-add (the convention of PyTorch's FlopCounterMode and
of MLPerf); everything else counts the arithmetic operations of its formula per element, with
exp, erf, sqrt and division as 1 each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapters.model import Model
from adapters.ops import Array, Ops


@dataclass(frozen=True)
class Shaped:
    """A tensor of which only the shape is known."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class CountingOps(Ops):
    """Propagates shapes and adds up FLOPs by operation in `flops`."""

    def __init__(self) -> None:
        self.flops: Counter[str] = Counter()

    def _made(self, op: str, shape: Sequence[int], *, flops: int = 0) -> Shaped:
        if flops:
            self.flops[op] += flops
        return Shaped(tuple(int(n) for n in shape))

    def constant(self, value: np.ndarray) -> Array:
        return Shaped(np.shape(value))

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        known = math.prod(n for n in shape if n != -1)
        wanted = tuple(x.size // known if n == -1 else n for n in shape)
        if math.prod(wanted) != x.size:
            raise ValueError(f"reshape of {x.shape} to {tuple(shape)} changes the element count")
        return self._made("reshape", wanted)

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return self._made("transpose", [x.shape[a] for a in axes])

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self._made("concat", shape)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        shape = list(x.shape)
        shape[axis] = len(range(*slice(start, stop).indices(shape[axis])))
        return self._made("slice", shape)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return self._made("broadcast_to", np.broadcast_shapes(x.shape, tuple(shape)))

    def _elementwise(self, op: str, a: Array, b: Array) -> Array:
        shape = np.broadcast_shapes(a.shape, b.shape)
        return self._made(op, shape, flops=math.prod(shape))

    def add(self, a: Array, b: Array) -> Array:
        return self._elementwise("add", a, b)

    def multiply(self, a: Array, b: Array) -> Array:
        return self._elementwise("multiply", a, b)

    def relu(self, x: Array) -> Array:
        return self._made("relu", x.shape, flops=x.size)

    def gelu(self, x: Array) -> Array:
        return self._made("gelu", x.shape, flops=5 * x.size)

    def matmul(self, a: Array, b: Array) -> Array:
        shape = (*a.shape[:-1], b.shape[-1])
        return self._made("matmul", shape, flops=2 * math.prod(shape) * a.shape[-1])

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        if x.shape[-1] != w.shape[0]:
            raise ValueError(f"dense of {x.shape} with weights {w.shape}: inner sizes differ")
        shape = (*x.shape[:-1], w.shape[1])
        return self._contraction("dense", shape, terms=w.shape[0], bias=b)

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        h, width, c, out = w.shape
        if x.shape[-1] != c:
            raise ValueError(f"conv2d of {x.shape} with weights {w.shape}: channels differ")
        rows, columns = (
            (n + 2 * padding - k) // stride + 1
            for n, k in zip(x.shape[1:3], (h, width), strict=True)
        )
        shape = (x.shape[0], rows, columns, out)
        return self._contraction("conv2d", shape, terms=h * width * c, bias=b)

    def _contraction(
        self, op: str, shape: Sequence[int], *, terms: int, bias: Array | None
    ) -> Array:
        size = math.prod(shape)
        return self._made(op, shape, flops=2 * size * terms + (size if bias is not None else 0))

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        n, s, heads, d = q.shape
        scores = n * heads * s * k.shape[1]
        return self._made("attention", (n, s, heads, v.shape[-1]), flops=scores * (4 * d + 6))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        axes = {axis} if isinstance(axis, int) else set(axis)
        kept = [n for i, n in enumerate(x.shape) if i not in {a % len(x.shape) for a in axes}]
        return self._made("mean", kept, flops=x.size)

    def softmax(self, x: Array) -> Array:
        return self._made("softmax", x.shape, flops=5 * x.size)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        n, h, w, c = x.shape
        shape = (n, (h - window) // stride + 1, (w - window) // stride + 1, c)
        return self._made("max_pool2d", shape, flops=math.prod(shape) * (window * window - 1))

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        return self._made("layer_norm", x.shape, flops=8 * x.size)

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
        y = self._made("batch_norm", x.shape, flops=(8 if train else 4) * x.size)
        return y, mean, var

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        return self._made("cross_entropy", (), flops=5 * logits.size)


@dataclass(frozen=True)
class Counts:
    """What a model is, counted: parameters (elements) and FLOPs of one forward pass."""

    parameters: int
    flops_per_example: float
    flops_by_op: Mapping[str, int]


def count(model: Model, size: str, *, batch: int = 1) -> Counts:
    """Counts `model` at `size`; FLOPs are those of inference divided by `batch`."""
    config = model.sizes[size]
    params, buffers = model.initial(config, np.random.default_rng(0))
    ops = CountingOps()
    tensors = {name: Shaped(value.shape) for name, value in {**params, **buffers}.items()}
    x = Shaped(model.example(config, batch)["x"].shape)
    model.forward(ops, tensors, x, config=config, train=False)
    return Counts(
        parameters=sum(value.size for value in params.values()),
        flops_per_example=sum(ops.flops.values()) / batch,
        flops_by_op=dict(ops.flops),
    )
