"""Exercises that Hypothesis draws: operations on shapes, strides and arguments in no table."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from adapters.exercise import Call
from numerics.exercises import Exercise

SIDES = st.integers(1, 4)  # small enough for a gradient by every element
SHAPES = st.lists(SIDES, min_size=1, max_size=4).map(tuple)


def _drawn(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values from a drawn seed: shrinking should change shapes, not numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    return np.asarray(rng.normal(size=shape))


def _made(draw: Any, op: str, inputs: dict[str, np.ndarray], **arguments: Any) -> Exercise:
    """An exercise with some of its inputs as non-contiguous views."""
    strided = tuple(name for name, x in inputs.items() if x.ndim > 1 and draw(st.booleans()))
    by = tuple(name for name, x in inputs.items() if x.dtype.kind == "f" and x.size)
    call = Call(op, arguments, strided)
    values = Exercise(op, "", call, inputs, by).digest[:6]  # a name stands for its values
    shapes = {name: x.shape for name, x in inputs.items()}
    name = f"{op}({shapes}, {arguments}, strided {strided}, values {values})"
    return Exercise(op, name.replace(":", " ").replace("/", "|"), call, inputs, by)


@st.composite
def broadcasting(draw: Any) -> Exercise:
    """An elementwise operation of two tensors of different shapes."""
    op = draw(st.sampled_from(["add", "subtract", "multiply", "maximum", "minimum"]))
    shapes = draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4)).input_shapes
    return _made(draw, op, {n: _drawn(draw, s) for n, s in zip("ab", shapes, strict=True)})


@st.composite
def reduction(draw: Any) -> Exercise:
    """A reduction over any axes."""
    op = draw(st.sampled_from(["sum", "mean", "variance"]))
    shape = draw(SHAPES)
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    return _made(draw, op, {"x": _drawn(draw, shape)}, axis=sorted(axes))


@st.composite
def layout(draw: Any) -> Exercise:
    """An operation that moves values."""
    shape = draw(SHAPES)
    x = _drawn(draw, shape)
    axis = draw(st.integers(0, len(shape) - 1))
    op = draw(st.sampled_from(["transpose", "slice", "concat", "pad", "take"]))
    if op == "transpose":
        axes = draw(st.permutations(range(len(shape))))
        return _made(draw, op, {"x": x}, axes=list(axes))
    if op == "slice":
        start = draw(st.integers(0, shape[axis]))
        stop = draw(st.integers(start, shape[axis]))
        return _made(draw, op, {"x": x}, axis=axis, start=start, stop=stop)
    if op == "pad":
        widths = [[draw(st.integers(0, 2)), draw(st.integers(0, 2))] for _ in shape]
        return _made(draw, op, {"x": x}, widths=widths)
    if op == "take":
        wanted = draw(st.lists(st.integers(-2, shape[axis] + 1), min_size=1, max_size=4))
        return _made(draw, op, {"x": x, "indices": np.array(wanted)}, axis=axis)
    other = list(shape)
    other[axis] = draw(SIDES)
    return _made(draw, op, {"xs/0": x, "xs/1": _drawn(draw, tuple(other))}, axis=axis)


@st.composite
def contraction(draw: Any) -> Exercise:
    """A product of matrices, with and without leading axes, or a dense layer."""
    op = draw(st.sampled_from(["matmul", "dense"]))
    rows, inner, columns = (draw(SIDES) for _ in range(3))
    leading = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    left = _drawn(draw, (*leading, rows, inner))
    if op == "matmul":
        return _made(draw, op, {"a": left, "b": _drawn(draw, (*leading, inner, columns))})
    inputs = {"x": left, "w": _drawn(draw, (inner, columns))}
    if draw(st.booleans()):
        inputs["b"] = _drawn(draw, (columns,))
    return _made(draw, op, inputs)


@st.composite
def convolution(draw: Any) -> Exercise:
    """A convolution with any stride, padding, dilation and groups that fit."""
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding, groups = draw(st.integers(0, 2)), draw(st.integers(1, 2))
    least = [max(1, dilation * (k - 1) + 1 - 2 * padding) for k in kernel]
    sides = [draw(st.integers(n, n + 3)) for n in least]
    channels, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    x = _drawn(draw, (draw(st.integers(1, 2)), *sides, channels))
    w = _drawn(draw, (*kernel, channels // groups, outputs))
    return _made(
        draw, "conv2d", {"x": x, "w": w},
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip


@st.composite
def normalisation(draw: Any) -> Exercise:
    """Softmax or a normalisation over the last axis."""
    op = draw(st.sampled_from(["softmax", "layer_norm", "rms_norm"]))
    shape = (*draw(SHAPES)[:3], draw(st.integers(2, 6)))
    inputs = {"x": _drawn(draw, shape)}
    if op == "softmax":
        return _made(draw, op, inputs)
    inputs["scale"] = _drawn(draw, shape[-1:])
    if op == "layer_norm":
        inputs["offset"] = _drawn(draw, shape[-1:])
    return _made(draw, op, inputs, epsilon=1e-3)


#: What a case is called -> what it draws from.
FAMILIES: dict[str, st.SearchStrategy[Exercise]] = {
    "broadcasting": broadcasting(),
    "reduction": reduction(),
    "layout": layout(),
    "contraction": contraction(),
    "convolution": convolution(),
    "normalisation": normalisation(),
}
