"""Operations that act on every element alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numerics.exercises import Exercise
from suites.conformance.tables.making import (
    CLOSE,
    FINE,
    INF,
    NAN,
    WIDE,
    case,
    floats,
    integers,
)

ARITHMETIC = ("add", "subtract", "multiply", "divide")
#: Smooth functions of one argument -> (what they are given, their arguments, extreme values).
SMOOTH: dict[str, tuple[str, dict[str, Any], list[float]]] = {
    "exp": ("normal", {}, [-80.0, -20.0, 0.0, 20.0, 80.0]),
    "log": ("positive", {}, [1e-12, 1e-6, 1.0, 1e6, 1e30]),
    "sqrt": ("positive", {}, [1e-12, 1e-6, 1.0, 1e6, 1e30]),
    # an angle far from 0 has to be reduced without losing digits
    "sin": ("normal", {}, [-1e4, -100.0, -1e-10, 0.0, 1e-10, 3.0, 100.0, 1e4]),
    "cos": ("normal", {}, [-1e4, -100.0, -1e-10, 0.0, 1e-10, 3.0, 100.0, 1e4]),
    "tanh": ("normal", {}, [-1e4, -10.0, -1e-10, 1e-10, 10.0, 1e4]),
    "sigmoid": ("normal", {}, [-1e4, -80.0, -10.0, 0.0, 10.0, 1e4]),
    "silu": ("normal", {}, [-1e4, -80.0, -10.0, 0.0, 10.0, 1e4]),
    "softplus": ("normal", {}, [-1e3, -80.0, -15.0, 0.0, 15.0, 30.0, 1e3]),
    "gelu": ("normal", {}, [-1e4, -10.0, -3.0, 0.0, 10.0, 1e4]),
    "gelu_tanh": ("normal", {}, [-1e4, -10.0, -3.0, 0.0, 10.0, 1e4]),
}
_FAR_BELOW, _BELOW = [-80.0, -79.0, -78.5], [-23.0, -22.0, -20.5, -21.0]
_NEAR = [1e-10, -2e-10, 3e-10, -1e-11]
#: Values of one magnitude: beside e^80 nothing is seen of e^-80, and normwise a gradient is judged
#: by its largest elements. None is where the gradient's formula cancels, as 1 - tanh^2 does.
MAGNITUDES: dict[str, dict[str, list[float]]] = {
    "exp": {"far below 0": _FAR_BELOW, "below 0": _BELOW, "near 0": _NEAR, "above 0": [78.0, 80.0]},
    "log": {"small": [1e-12, 2e-12, 7e-13], "large": [1e30, 3e29], "near 1": [1.0625, 0.9375]},
    "sqrt": {"small": [1e-12, 2e-12, 7e-13], "large": [1e30, 3e29]},
    "sin": {"near 0": _NEAR, "large": [1e4, -9984.0, 9920.0]},
    "cos": {"near 0": _NEAR, "large": [1e4, -9984.0, 9920.0]},
    "tanh": {"near 0": _NEAR, "above 0": [2.0, 3.0, -2.5]},
    "sigmoid": {"far below 0": _FAR_BELOW, "below 0": _BELOW, "near 0": _NEAR},
    "silu": {"far below 0": _FAR_BELOW, "below 0": _BELOW, "near 0": _NEAR},
    "softplus": {"far below 0": _FAR_BELOW, "below 0": _BELOW, "near 0": _NEAR},
    "gelu": {"near 0": _NEAR, "above 0": [8.0, 10.0]},
    "gelu_tanh": {"near 0": _NEAR, "above 0": [8.0, 10.0]},
}
#: Functions with kinks -> (their arguments, points at the kinks and beside them).
KINKED: dict[str, tuple[dict[str, Any], list[float]]] = {
    "relu": ({}, [0.0, -0.0, 1.0, -1.0, 0.0]),
    "leaky_relu": ({"slope": 0.25}, [0.0, -0.0, 1.0, -1.0, 0.0]),
    "absolute": ({}, [0.0, -0.0, 1.0, -1.0, 0.0]),
    "clip": ({"low": -1.0, "high": 2.0}, [-1.0, 2.0, -1.5, 2.5, 0.0]),
}
LIMITS = floats([-INF, INF, NAN, 0.0], [1.0, -1.0, 2.0, -0.0])
NO_MINUS = floats([2.0, INF, NAN, 0.0], [1.0, -1.0, 2.0, -0.0])  # for x * f(x): -inf * 0 is NaN


def exercises() -> Iterator[Exercise]:
    for op in ARITHMETIC:
        yield from _arithmetic(op)
    yield from _special_arithmetic()
    yield from _comparing()
    for op, (draw, arguments, extreme) in SMOOTH.items():
        yield from _sizes(op, draw, arguments)
        yield case(op, "extreme values", {"x": floats(*extreme)}, precisions=WIDE, **arguments)
        for name, values in MAGNITUDES[op].items():
            yield case(op, f"{name} alone", {"x": floats(*values)}, precisions=WIDE, **arguments)
        limits = NO_MINUS if op in ("silu", "gelu", "gelu_tanh") else LIMITS
        yield case(op, "NaN and infinities", {"x": limits}, by=(), **arguments)
    tail = floats(*-np.arange(0.5, 3.25, 0.25))  # a sum of near 1 and near -1: results are small
    for op in ("gelu", "gelu_tanh", "silu"):
        yield case(op, "negative tail", {"x": tail})
    yield case("softplus", "where others call it linear", {"x": floats(19.0, 20.0, 21.0, 30.0)})
    for op, (arguments, kinks) in KINKED.items():
        yield from _sizes(op, "normal", arguments)
        yield case(op, "ties", {"x": floats(*kinks)}, exact=True, **arguments)
        yield case(op, "NaN and infinities", {"x": LIMITS}, by=(), **arguments)
        far = floats(-1e30, -1e-30, 1e-30, 1e30)
        yield case(op, "extreme values", {"x": far}, precisions=WIDE, **arguments)
        yield case(op, "integers", {"x": (3, 4)}, exact=True, **arguments)
    yield case("exp", "scalar", {"x": ()})
    yield case("relu", "scalar", {"x": ()})
    yield case("add", "broadcast to empty", {"a": (0, 3), "b": (1, 3)})
    yield case("leaky_relu", "slope 0.01", {"x": (3, 4)}, slope=0.01)
    yield case("clip", "one point", {"x": floats(0.0, 1.0, 2.0)}, exact=True, low=1.0, high=1.0)
    yield from _integer_results()


def _sizes(op: str, draw: str, arguments: dict[str, Any]) -> Iterator[Exercise]:
    yield case(op, "usual", {"x": (3, 4)}, draw=draw, **arguments)
    yield case(op, "odd sizes", {"x": (7, 13)}, draw=draw, **arguments)
    yield case(op, "size one", {"x": (1, 1)}, draw=draw, **arguments)
    yield case(op, "empty", {"x": (0, 3)}, draw=draw, **arguments)
    yield case(op, "non-contiguous", {"x": (3, 5)}, draw=draw, layout="reversed", **arguments)


def _arithmetic(op: str) -> Iterator[Exercise]:
    yield case(op, "usual", {"a": (3, 4), "b": (3, 4)})
    yield case(op, "odd sizes", {"a": (5, 7), "b": (5, 7)})
    yield case(op, "size one", {"a": (1, 1), "b": (1, 1)})
    yield case(op, "empty", {"a": (0, 3), "b": (0, 3)})
    yield case(op, "broadcast rows", {"a": (3, 4), "b": (4,)})
    yield case(op, "broadcast both", {"a": (3, 1), "b": (1, 5)})
    yield case(op, "broadcast scalar", {"a": (), "b": (2, 3)})
    yield case(op, "non-contiguous", {"a": (3, 5), "b": (3, 5)}, layout="reversed")


def _special_arithmetic() -> Iterator[Exercise]:
    a, b = floats([INF, INF, NAN], [-INF, 0.0, 1.0]), floats([1.0, -INF, 1.0], [0.0, INF, 2.0])
    for op in ("add", "subtract", "multiply"):
        yield case(op, "NaN and infinities", {"a": a, "b": b}, by=())
        yield case(op, "integers", {"a": (3, 4), "b": (3, 4)}, exact=True)
        yield case(op, "integers, broadcast", {"a": (3, 4), "b": (4,)}, exact=True)
        large, tiny = floats(1e15, -1e15, 1e-15), floats(1e15, 1e-15, 1e-15)
        yield case(op, "extreme values", {"a": large, "b": tiny}, precisions=WIDE)
        yield case(op, "large reduction", {"a": (4096, 3), "b": (3,)}, by=("b",))
    zeros = floats([1.0, -1.0, 0.0, 1.0, INF], [1.0, INF, 0.0, NAN, 5.0])
    below = floats([0.0, 0.0, 0.0, -0.0, INF], [INF, 0.0, 2.0, 1.0, NAN])
    yield case("divide", "NaN and infinities", {"a": zeros, "b": below}, by=())
    huge, small = floats(1e15, -1e-15, 1e-15), floats(1e-15, 1e15, 1e-15)
    # The gradient by b, -a / b^2, would leave the range of float32 on the way.
    yield case("divide", "extreme values", {"a": huge, "b": small}, by=("a",), precisions=WIDE)
    powers = {"a": floats(3.0, -6.0, 5.0, 0.0), "b": floats(2.0, 4.0, -8.0, 1.0)}
    yield case("divide", "powers of two", powers, exact=True)


def _comparing() -> Iterator[Exercise]:
    tied = {"a": floats([0.0, 1.0, -2.0], [3.0, 1.0, 1.0])}
    other = {"b": floats([0.0, 1.0, 2.0], [3.0, 0.0, 1.0])}
    a, b = floats(NAN, 1.0, INF, -INF, NAN), floats(1.0, NAN, 2.0, -3.0, NAN)
    far = {"a": floats(1e30, -1e30, 1e-30), "b": floats(1.0, 2.0, 0.0)}
    for op in ("maximum", "minimum"):
        yield from _arithmetic(op)
        yield case(op, "ties", tied | other, exact=True)
        yield case(op, "ties with a scalar", tied | {"b": np.array(1.0)}, exact=True)
        yield case(op, "NaN and infinities", {"a": a, "b": b}, by=())
        yield case(op, "extreme values", far, precisions=WIDE)
        yield case(op, "integers", {"a": (3, 4), "b": (3, 4)}, exact=True)

    yield case("greater", "usual", {"a": (3, 4), "b": (3, 4)}, by=())
    yield case("greater", "odd sizes", {"a": (5, 7), "b": (5, 7)}, by=())
    yield case("greater", "size one", {"a": (1,), "b": (1,)}, by=())
    yield case("greater", "empty", {"a": (0, 3), "b": (0, 3)}, by=())
    yield case("greater", "broadcast both", {"a": (3, 1), "b": (1, 5)}, by=())
    yield case("greater", "non-contiguous", {"a": (3, 5), "b": (3, 5)}, layout="reversed", by=())
    signed = {"a": floats(0.0, -0.0, 1.0), "b": floats(-0.0, 0.0, 1.0)}
    yield case("greater", "ties", signed, by=(), exact=True)
    yield case("greater", "NaN and infinities", {"a": a, "b": b}, by=())
    close = {"a": np.array([1 + CLOSE, 1.0, 1.0]), "b": np.array([1.0, 1 + CLOSE, 1.0])}
    yield case("greater", "nearly equal", close, by=(), exact=True, precisions=FINE)
    yield case("greater", "integers", {"a": (3, 4), "b": (3, 4)}, by=(), exact=True)


def _casts() -> Iterator[Exercise]:
    def cast(name: str, x: Any, dtype: str = "bfloat16", **given: Any) -> Exercise:
        body = "cast_and_back"
        return case("cast", f"{name}, {dtype}", {"x": x}, body=body, dtype=dtype, **given)

    step = 2.0**-7  # of bfloat16 above 1; 2^-10 is that of float16
    ties = 1 + step * np.array([1 / 2, 3 / 2, 3 / 4, 1 / 4])
    for dtype in ("bfloat16", "float16", "float32"):
        # a gradient is rounded on its way back as well: it is asked for where that is exact
        yield cast("usual", (3, 4), dtype, by=())
        yield cast("ties to even", np.append(ties, -ties), dtype, exact=True, precisions=WIDE)
        yield cast("NaN and infinities", floats(NAN, INF, -INF, 0.0), dtype, by=())
    fine = 1 + step / 8 * np.array([1 / 2, 3 / 2, 3 / 4, 1 / 4])
    yield cast("ties to even, fine", fine, "float16", exact=True, precisions=WIDE)
    yield cast("above the largest", np.array([65504.0, 65519.0, 65520.0, -1e6]), "float16", by=(),
               precisions=WIDE)  # fmt: skip
    yield cast("subnormal", np.array([2.0**-15, 3 * 2.0**-25, 2.0**-26]), "float16",
               by=(), precisions=WIDE)  # fmt: skip
    yield cast("odd sizes", (5, 7), by=())
    yield cast("size one", (1,), by=())
    yield cast("empty", (0, 3))
    yield cast("non-contiguous", (3, 5), layout="reversed", by=())
    yield cast("integers", np.arange(-128.0, 128.0), exact=True)


def _integer_results() -> Iterator[Exercise]:
    signs = {"a": integers(7, -7, 7, -7, 0, 6, -6), "b": integers(2, 2, -2, -2, 3, 3, 3)}
    yield case(
        "floor_divide", "usual", {"a": integers(9, 8, 7), "b": integers(2, 3, 7)}, exact=True
    )
    yield case("floor_divide", "negative", signs, exact=True)
    prime = np.arange(-17, 18).reshape(5, 7)
    yield case("floor_divide", "odd sizes", {"a": prime, "b": prime[:, ::-1] * 2 + 1}, exact=True)
    yield case("floor_divide", "size one", {"a": integers(-1), "b": integers(2)}, exact=True)
    none = np.zeros((0, 3), np.int64)
    yield case("floor_divide", "empty", {"a": none, "b": none + 1}, exact=True)
    yield case("floor_divide", "broadcast", {"a": prime, "b": np.array(-3)}, exact=True)
    yield case(
        "floor_divide", "non-contiguous", {"a": prime, "b": np.full((5, 7), 3)},
        layout="reversed", exact=True,
    )  # fmt: skip
    large = {"a": integers(2**30 + 1, -(2**30) - 1), "b": integers(3, 7)}
    yield case("floor_divide", "extreme values", large, exact=True)  # above 2^24: not in float32
    yield case("floor_divide", "integers", {"a": prime, "b": np.full(7, 4)}, exact=True)

    yield from _casts()

    def rounded(name: str, x: Any, **given: Any) -> Exercise:
        return case("to_int8", name, {"x": x}, by=(), **given)

    yield rounded("usual", floats(0.5, -0.5, 1.5, -1.5, 2.75, -2.75))
    yield rounded("odd sizes", (5, 7))
    yield rounded("size one", (1,))
    yield rounded("empty", (0, 3))
    yield rounded("non-contiguous", (3, 5), layout="reversed")
    yield rounded("edges", floats(127.0, 127.5, -127.5, -128.0, 126.5), exact=True)
    yield rounded("overflow", floats(128.0, 200.0, 256.0, 1e4, -129.0, -200.0, -256.0, -1e4))
    yield rounded("extreme values", floats(1e9, -1e9, 3e9, -3e9, 1e30, -1e30), precisions=WIDE)
    below = np.array([3 - CLOSE, -3 + CLOSE, 3.0, -3.0])
    yield rounded("nearly an integer", below, exact=True, precisions=FINE)
    yield rounded("infinities", floats(INF, -INF))
    yield rounded("integers", np.arange(-128.0, 128.0), exact=True)
