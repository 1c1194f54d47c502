"""Exercises that Hypothesis draws: operations on shapes, strides and arguments in no table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from adapters.exercise import LAYOUTS, Call
from numerics.exercises import Exercise

SMALL = 4  # a side of what is differentiated by every element
LARGE = 80  # a side of what is run forward only
ELEMENTS = 2**14  # of a tensor
WITHOUT_BROADCAST = ("variance", "softmax", "layer_norm", "rms_norm")  # of equal numbers: noise


class Sides:
    """Draws sides: small ones, or large ones for the forward pass alone."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self.large = draw(st.booleans())

    def one(self, most: int = LARGE, least: int = 1) -> int:
        return self._draw(st.integers(least, most if self.large else max(least, SMALL)))

    def shape(self, most_axes: int = 4) -> tuple[int, ...]:
        """Sides of at most ELEMENTS elements."""
        sides: list[int] = []
        for _ in range(self._draw(st.integers(1, most_axes))):
            sides.append(self.one(min(LARGE, ELEMENTS // math.prod(sides))))
        return tuple(sides)


def _drawn(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values from a drawn seed: shrinking should change shapes, not numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    return np.asarray(rng.normal(size=shape))


def _made(
    draw: Any, sides: Sides, op: str, inputs: dict[str, np.ndarray], **arguments: Any
) -> Exercise:
    """An exercise with some of its inputs as views; without gradients, where sides are large."""
    layouts = {name: _layout(draw, op, x) for name, x in inputs.items()}
    views = {name: (layout, inputs[name].shape) for name, layout in layouts.items() if layout}
    floats = tuple(name for name, x in inputs.items() if x.dtype.kind == "f" and x.size)
    by = () if sides.large else floats
    call = Call(op, arguments, views)
    values = Exercise(op, "", call, inputs, by).digest[:6]  # a name stands for its values
    shapes = {name: x.shape for name, x in inputs.items()}
    seen = {name: layout for name, (layout, _) in views.items()}
    name = f"{op}({shapes}, {arguments}, views {seen}, values {values})"
    return Exercise(op, name.replace(":", " ").replace("/", "|"), call, inputs, by)


def _layout(draw: Any, op: str, x: np.ndarray) -> str:
    """How an input lies in memory; empty: densely."""
    able = {"reversed": x.ndim > 1, "broadcast": x.ndim > 0 and op not in WITHOUT_BROADCAST}
    return draw(st.sampled_from(["", *(name for name in LAYOUTS if able.get(name, True))]))


@st.composite
def broadcasting(draw: Any) -> Exercise:
    """An elementwise operation of two tensors of different shapes."""
    op = draw(st.sampled_from(["add", "subtract", "multiply", "maximum", "minimum"]))
    sides = Sides(draw)
    axes, side = (2, LARGE) if sides.large else (3, SMALL)
    shapes = draw(
        mutually_broadcastable_shapes(num_shapes=2, max_dims=axes, max_side=side)
    ).input_shapes
    return _made(draw, sides, op, {n: _drawn(draw, s) for n, s in zip("ab", shapes, strict=True)})


@st.composite
def reduction(draw: Any) -> Exercise:
    """A reduction over any axes."""
    op = draw(st.sampled_from(["sum", "mean", "variance"]))
    sides = Sides(draw)
    shape = sides.shape()
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    return _made(draw, sides, op, {"x": _drawn(draw, shape)}, axis=sorted(axes))


@st.composite
def layout(draw: Any) -> Exercise:
    """An operation that moves values."""
    sides = Sides(draw)
    shape = sides.shape()
    x = _drawn(draw, shape)
    axis = draw(st.integers(0, len(shape) - 1))
    op = draw(st.sampled_from(["transpose", "slice", "concat", "pad", "take"]))
    if op == "transpose":
        axes = draw(st.permutations(range(len(shape))))
        return _made(draw, sides, op, {"x": x}, axes=list(axes))
    if op == "slice":
        start = draw(st.integers(0, shape[axis]))
        stop = draw(st.integers(start, shape[axis]))
        return _made(draw, sides, op, {"x": x}, axis=axis, start=start, stop=stop)
    if op == "pad":
        widths = [[draw(st.integers(0, 2)), draw(st.integers(0, 2))] for _ in shape]
        return _made(draw, sides, op, {"x": x}, widths=widths)
    if op == "take":
        wanted = draw(st.lists(st.integers(-2, shape[axis] + 1), min_size=1, max_size=4))
        return _made(draw, sides, op, {"x": x, "indices": np.array(wanted)}, axis=axis)
    other = list(shape)
    other[axis] = sides.one()
    return _made(draw, sides, op, {"xs/0": x, "xs/1": _drawn(draw, tuple(other))}, axis=axis)


@st.composite
def contraction(draw: Any) -> Exercise:
    """A product of matrices, with and without leading axes, or a dense layer."""
    op = draw(st.sampled_from(["matmul", "dense"]))
    sides = Sides(draw)
    rows, inner, columns = (sides.one() for _ in range(3))
    leading = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    left = _drawn(draw, (*leading, rows, inner))
    if op == "matmul":
        return _made(draw, sides, op, {"a": left, "b": _drawn(draw, (*leading, inner, columns))})
    inputs = {"x": left, "w": _drawn(draw, (inner, columns))}
    if draw(st.booleans()):
        inputs["b"] = _drawn(draw, (columns,))
    return _made(draw, sides, op, inputs)


@st.composite
def convolution(draw: Any) -> Exercise:
    """A convolution with any stride, padding, dilation and groups that fit."""
    sides = Sides(draw)
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding, groups = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    least = [max(1, dilation * (k - 1) + 1 - 2 * padding) for k in kernel]
    image = [draw(st.integers(n, LARGE if sides.large else n + 3)) for n in least]
    channels, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    x = _drawn(draw, (draw(st.integers(1, 2)), *image, channels))
    w = _drawn(draw, (*kernel, channels // groups, outputs))
    return _made(
        draw, sides, "conv2d", {"x": x, "w": w},
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip


@st.composite
def normalisation(draw: Any) -> Exercise:
    """Softmax or a normalisation over the last axis."""
    op = draw(st.sampled_from(["softmax", "layer_norm", "rms_norm"]))
    sides = Sides(draw)
    shape = (*sides.shape(3 if not sides.large else 1), sides.one(LARGE, least=2))
    inputs = {"x": _drawn(draw, shape)}
    if op == "softmax":
        return _made(draw, sides, op, inputs)
    inputs["scale"] = _drawn(draw, shape[-1:])
    if op == "layer_norm":
        inputs["offset"] = _drawn(draw, shape[-1:])
    return _made(draw, sides, op, inputs, epsilon=1e-3)


#: What a case is called -> what it draws from.
FAMILIES: dict[str, st.SearchStrategy[Exercise]] = {
    "broadcasting": broadcasting(),
    "reduction": reduction(),
    "layout": layout(),
    "contraction": contraction(),
    "convolution": convolution(),
    "normalisation": normalisation(),
}
