"""The table of sizes: every operation along each of its axes, at the sizes of a covering design.

An exercise is one program: the operation at every size, on tensors that are filled from the front
of flat ones. The result that is furthest off is told, with its size. Gradients are by the operand
that is named first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from adapters.exercise import Call
from numerics.exercises import PRECISIONS, Exercise
from suites.conformance.covering import covering, few
from suites.conformance.tables.making import SMALLEST

LONG, MEDIUM, SHORT = 2**17 + 1, 2**10 + 1, 2**7 + 2
ROWS = 2**15 + 1  # of several elements
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Axis:
    """An axis of an operation. `shapes` are those of its tensors where the axis has `n` elements,
    the one that is differentiated by first; `arguments` what else it is given there."""

    operation: str
    name: str
    limit: int
    shapes: Callable[[int], Shapes]
    arguments: Callable[[int], dict[str, Any]] = lambda n: {}


@cache
def exercises() -> tuple[Exercise, ...]:
    """A few sizes of every axis, in fp64 and fp32, and all sizes, in every precision."""
    return tuple(exercise for axis in axes() for exercise in _of(axis))


def in_quick(exercise: Exercise) -> bool:
    """Whether preset quick asks for it."""
    return exercise.name.startswith("few ")


def _of(axis: Axis) -> Iterator[Exercise]:
    for name, sizes, precisions in (
        (f"few sizes of {axis.name}", few(axis.limit), ("fp64", "fp32")),
        (f"sizes of {axis.name}", covering(axis.limit), PRECISIONS),
    ):
        shapes = {f"n={n}": axis.shapes(n) for n in sizes}
        arguments = {f"n={n}": axis.arguments(n) for n in sizes}
        first = next(iter(axis.shapes(1)))
        largest = {
            tensor: max(math.prod(of[tensor]) for of in shapes.values())
            for tensor in axis.shapes(1)
        }
        seed = hashlib.sha256(f"{axis.operation}/{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
        inputs = {t: _drawn(rng, axis, t, size) for t, size in largest.items()}
        call = Call(
            "sizes:each",
            {
                "operation": axis.operation,
                "sizes": {
                    n: {t: list(shape) for t, shape in of.items()} for n, of in shapes.items()
                },
                "arguments": arguments,
            },
        )
        differentiable = inputs[first].dtype.kind == "f" and axis.operation not in _NO_GRADIENT
        yield Exercise(
            axis.operation, name, call, inputs,
            (first,) if differentiable else (), precisions=precisions, worst=True,
        )  # fmt: skip


#: What has none, or is judged without: running values, which batch normalisation returns as well,
#: are constants to frameworks and not to NumPy.
_NO_GRADIENT = ("greater", "argmax", "one_hot", "to_int8", "floor_divide", "batch_norm")
_POSITIVE, _DIVISOR = ("log", "sqrt"), ("divide", "b")


def _drawn(rng: np.random.Generator, axis: Axis, tensor: str, size: int) -> np.ndarray:
    """Numbers away from 0, where 16 bits end; positive where the operation wants that. Integers are
    0 and 1: rows that there are at any size."""
    if tensor in ("labels", "ids", "indices"):
        return rng.integers(0, 2, size)
    if tensor == "condition":
        return rng.integers(0, 2, size).astype(bool)
    if axis.operation == "floor_divide":
        return rng.integers(1, 9, size)
    if tensor == "targets":
        return rng.uniform(size=size)
    x = rng.normal(size=size)
    if axis.operation in _POSITIVE or tensor == "var" or (axis.operation, tensor) == _DIVISOR:
        return np.abs(x) + 0.25
    return np.copysign(np.maximum(np.abs(x), SMALLEST), x)


def axes() -> Iterator[Axis]:
    """Of all operations."""
    yield from _elementwise()
    yield from _reductions()
    yield from _normalisations()
    yield from _contractions()
    yield from _images()
    yield from _sequences()
    yield from _losses()
    yield from _layouts()


def _always(**arguments: Any) -> Callable[[int], dict[str, Any]]:
    return lambda n: arguments


def _at(**shapes: tuple[int, ...]) -> Callable[[int], Shapes]:
    """Shapes in which -1 stands for the number of elements."""

    def made(n: int) -> Shapes:
        filled = {t: tuple(n if side < 0 else side for side in of) for t, of in shapes.items()}
        return {tensor.replace("__", "/"): of for tensor, of in filled.items()}

    return made


N = -1
_UNARY = (
    *("absolute", "exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "silu", "softplus"),
    *("relu", "gelu", "gelu_tanh", "to_int8"),
)
_BINARY = (
    *("add", "multiply", "subtract", "divide", "maximum", "minimum", "greater", "floor_divide"),
)


def _elementwise() -> Iterator[Axis]:
    for op in _UNARY:
        yield Axis(op, "elements", LONG, _at(x=(N,)))
    yield Axis("leaky_relu", "elements", LONG, _at(x=(N,)), _always(slope=0.125))
    yield Axis("clip", "elements", LONG, _at(x=(N,)), _always(low=-0.5, high=0.75))
    for op in _BINARY:
        yield Axis(op, "elements", LONG, _at(a=(N,), b=(N,)))
    yield Axis("add", "columns beside a row", MEDIUM, _at(a=(5, N), b=(N,)))
    yield Axis("multiply", "rows beside a column", MEDIUM, _at(a=(N, 5), b=(N, 1)))
    yield Axis("where", "elements", LONG, _at(a=(N,), b=(N,), condition=(N,)))


def _reductions() -> Iterator[Axis]:
    for op in ("sum", "mean", "variance", "norm", "max", "argmax"):
        yield Axis(op, "terms", LONG, _at(x=(1, N)), _always(axis=1))
        yield Axis(op, "rows", ROWS, _at(x=(N, 5)), _always(axis=1))
        yield Axis(op, "columns", MEDIUM, _at(x=(5, N)), _always(axis=0))
    yield Axis("top_k", "columns", MEDIUM, _at(x=(3, N)), lambda n: {"k": min(n, 3)})
    yield Axis("top_k", "rows", MEDIUM, _at(x=(N, 5)), _always(k=2))
    yield Axis("median", "columns", MEDIUM, lambda n: {"x": (3, n | 1)})  # the length is odd


def _normalisations() -> Iterator[Axis]:
    yield Axis("softmax", "columns", LONG, _at(x=(1, N)))
    yield Axis("softmax", "rows", ROWS, _at(x=(N, 5)))
    given = _always(epsilon=1e-3)
    yield Axis("rms_norm", "columns", ROWS, _at(x=(3, N), scale=(N,)), given)
    yield Axis("rms_norm", "rows", ROWS, _at(x=(N, 5), scale=(5,)), given)
    yield Axis("layer_norm", "columns", ROWS, _at(x=(3, N), scale=(N,), offset=(N,)), given)
    yield Axis("layer_norm", "rows", ROWS, _at(x=(N, 5), scale=(5,), offset=(5,)), given)
    given = _always(groups=1, epsilon=1e-3)
    yield Axis("group_norm", "channels", MEDIUM, _at(x=(2, 3, N), scale=(N,), offset=(N,)), given)
    yield Axis("group_norm", "examples", SHORT, _at(x=(N, 3, 4), scale=(4,), offset=(4,)), given)
    given = _always(train=True, momentum=0.1, epsilon=1e-3)
    for name, limit, batch in (
        ("examples", 2**12 + 1, (N, 2, 2, 3)), ("channels", MEDIUM, (3, 2, 2, N)),
    ):  # fmt: skip
        channels = dict.fromkeys(("scale", "offset", "mean", "var"), batch[3:])
        yield Axis("batch_norm", name, limit, _at(x=batch, **channels), given)


def _contractions() -> Iterator[Axis]:
    yield Axis("matmul", "rows", ROWS, _at(b=(3, 5), a=(N, 3)))
    yield Axis("matmul", "terms", ROWS, _at(a=(3, N), b=(N, 5)))
    yield Axis("matmul", "columns", ROWS, _at(a=(5, 3), b=(3, N)))
    yield Axis("matmul", "matrices", MEDIUM, _at(a=(N, 3, 4), b=(N, 4, 5)))
    yield Axis("matmul", "sides", SHORT, _at(a=(N, N), b=(N, N)))
    yield Axis("dense", "rows", ROWS, _at(w=(3, 5), x=(N, 3), b=(5,)))
    yield Axis("dense", "inputs", ROWS, _at(x=(3, N), w=(N, 5), b=(5,)))
    yield Axis("dense", "outputs", ROWS, _at(x=(5, 3), w=(3, N), b=(N,)))


def _images() -> Iterator[Axis]:
    for op in ("conv2d", "conv_transpose2d"):
        yield Axis(op, "examples", SHORT, _at(w=(2, 2, 3, 2), x=(N, 3, 4, 3)))
        yield Axis(op, "rows", MEDIUM, lambda n: {"w": (2, 2, 3, 2), "x": (2, n + 1, 4, 3)})
        yield Axis(op, "columns", MEDIUM, lambda n: {"w": (2, 2, 3, 2), "x": (2, 3, n + 1, 3)})
        yield Axis(op, "input channels", SHORT, _at(w=(2, 2, N, 2), x=(2, 3, 4, N)))
        yield Axis(op, "output channels", SHORT, _at(w=(2, 2, 3, N), x=(2, 3, 4, 3)))
    for op in ("conv3d", "conv_transpose3d"):
        yield Axis(op, "examples", 66, _at(w=(2, 2, 2, 3, 2), x=(N, 3, 2, 4, 3)))
        yield Axis(op, "depth", 66, lambda n: {"w": (2, 2, 2, 3, 2), "x": (2, n + 1, 2, 4, 3)})
        yield Axis(op, "input channels", 66, _at(w=(2, 2, 2, N, 2), x=(2, 3, 2, 4, N)))
        yield Axis(op, "output channels", 66, _at(w=(2, 2, 2, 3, N), x=(2, 3, 2, 4, 3)))
    strided = _at(w=(1, 1, N, 9), x=(3, 7, 7, N))
    yield Axis("conv2d", "input channels, strided 1x1", SHORT, strided, _always(stride=2))
    depthwise = _at(w=(3, 3, 1, N), x=(2, 5, 4, N))
    yield Axis("conv2d", "channels, each its own group", SHORT, depthwise, lambda n: {"groups": n})
    for op in ("max_pool2d", "avg_pool2d"):
        given = _always(window=2, stride=2)
        yield Axis(op, "examples", MEDIUM, _at(x=(N, 3, 4, 2)), given)
        yield Axis(op, "columns", MEDIUM, lambda n: {"x": (1, 2, n + 1, 3)}, given)
        yield Axis(op, "channels", MEDIUM, _at(x=(2, 4, 2, N)), given)
    linear = {"method": "bilinear"}
    yield Axis("resize", "channels", MEDIUM, _at(x=(1, 2, 3, N)), _always(size=[3, 5], **linear))
    yield Axis("resize", "columns", SHORT, _at(x=(1, 2, N, 2)),
               lambda n: {"size": [3, 2 * n], **linear})  # fmt: skip


def _sequences() -> Iterator[Axis]:
    for name, limit, q, k in (
        ("examples", SHORT, (N, 3, 2, 4), (N, 4, 2, 4)),
        ("queries", MEDIUM, (1, N, 2, 4), (1, 4, 2, 4)),
        ("keys", MEDIUM, (1, 3, 2, 4), (1, N, 2, 4)),
        ("heads", SHORT, (1, 3, N, 4), (1, 4, N, 4)),
        ("features", SHORT, (1, 3, 2, N), (1, 4, 2, N)),
    ):
        yield Axis("attention", name, limit, _at(q=q, k=k, v=k))
    causal = _at(q=(1, N, 2, 4), k=(1, N, 2, 4), v=(1, N, 2, 4))
    yield Axis("attention", "positions, causal", SHORT, causal, _always(causal=True))
    for name, limit, sizes in (
        ("examples", SHORT, (N, 3, 3, 4)), ("positions", 70, (2, N, 3, 4)),
        ("inputs", SHORT, (2, 3, N, 4)), ("units", SHORT, (2, 3, 3, N)),
    ):  # fmt: skip
        yield Axis("lstm", name, limit, _recurrent(4, sizes))
        yield Axis("gru", name, limit, _recurrent(3, sizes))


def _recurrent(gates: int, sizes: tuple[int, ...]) -> Callable[[int], Shapes]:
    """Of `sizes` (examples, positions, inputs, units)."""

    def shapes(n: int) -> Shapes:
        batch, s, i, h = (n if size < 0 else size for size in sizes)
        made: dict[str, tuple[int, ...]] = {"x": (batch, s, i), "h": (batch, h)}
        made |= {"c": (batch, h)} if gates == 4 else {"b_recurrent": (gates * h,)}
        return {**made, "w": (i, gates * h), "u": (h, gates * h), "b": (gates * h,)}

    return shapes


def _losses() -> Iterator[Axis]:
    yield Axis("cross_entropy", "rows", ROWS, _at(logits=(N, 5), labels=(N,)))
    yield Axis("cross_entropy", "classes", ROWS,
               lambda n: {"logits": (3, n + 1), "labels": (3,)})  # fmt: skip
    yield Axis("bce_with_logits", "elements", LONG, _at(logits=(N,), targets=(N,)))
    yield Axis("mse", "elements", LONG, _at(x=(N,), target=(N,)))
    yield Axis("smooth_l1", "elements", LONG, _at(x=(N,), target=(N,)), _always(beta=0.5))


def _layouts() -> Iterator[Axis]:
    yield Axis("reshape", "rows", ROWS, _at(x=(N, 4)), _always(shape=[2, -1]))
    yield Axis("flatten", "examples", ROWS, _at(x=(N, 2, 2)))
    yield Axis("transpose", "rows", ROWS, _at(x=(N, 5)), _always(axes=[1, 0]))
    yield Axis("transpose", "columns", ROWS, _at(x=(5, N)), _always(axes=[1, 0]))
    yield Axis("concat", "rows", ROWS, _at(xs__0=(N, 3), xs__1=(2, 3)), _always(axis=0))
    yield Axis("concat", "columns", MEDIUM, _at(xs__0=(3, N), xs__1=(3, N)), _always(axis=1))
    yield Axis("slice", "columns", MEDIUM, lambda n: {"x": (5, n + 2)},
               lambda n: {"axis": 1, "start": 1, "stop": n + 1})  # fmt: skip
    yield Axis("pad", "columns", MEDIUM, _at(x=(3, N)), _always(widths=[[0, 1], [2, 1]]))
    yield Axis("broadcast_to", "columns", MEDIUM, _at(x=(N,)), lambda n: {"shape": [5, n]})
    yield Axis("take", "indices", MEDIUM, _at(x=(3, 5), indices=(N,)), _always(axis=0))
    yield Axis("take", "columns", MEDIUM, _at(x=(3, N), indices=(4,)), _always(axis=0))
    yield Axis("gather", "indices", MEDIUM, _at(x=(2, 3, 5), indices=(2, N)))
    yield Axis("embedding", "ids", ROWS, _at(table=(3, 5), ids=(N,)))
    yield Axis("embedding", "features", MEDIUM, _at(table=(3, N), ids=(7,)))
    yield Axis("one_hot", "ids", MEDIUM, _at(ids=(N,)), _always(classes=5))
    yield Axis("one_hot", "classes", MEDIUM, _at(ids=(5,)), lambda n: {"classes": n})
