"""Operations that make one number of many, and those that resample an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numerics.exercises import Exercise
from suites.conformance.tables.making import (
    CLOSE,
    FINE,
    INF,
    LONG,
    NAN,
    WIDE,
    case,
    floats,
    shuffled,
)

ROWS = floats([1.0, NAN, 2.0], [1.0, INF, 2.0], [INF, -INF, 0.0], [1.0, -2.0, 3.0])


def exercises() -> Iterator[Exercise]:
    for op in ("sum", "mean", "variance"):
        yield from _over_axes(op)
    yield from _integer_sums()
    yield from _norm()
    yield from _max()
    yield from _argmax()
    yield from _top_k()
    yield from _median()
    yield from _softmax()
    yield from _max_pool2d()
    yield from _avg_pool2d()
    yield from _resize()


def _over_axes(op: str) -> Iterator[Exercise]:
    yield case(op, "usual", {"x": (3, 4)}, axis=1)
    yield case(op, "first axis", {"x": (3, 4)}, axis=0)
    yield case(op, "odd sizes", {"x": (3, 7, 5)}, axis=1)
    yield case(op, "two axes", {"x": (2, 3, 4)}, axis=[0, 2])
    yield case(op, "all axes", {"x": (3, 5)}, axis=[0, 1])
    # The variance of one number is 0, and so is its gradient.
    yield case(op, "size one", {"x": (1, 1)}, by=() if op == "variance" else None, axis=1)
    yield case(op, "empty", {"x": (0, 3)}, axis=1)
    yield case(op, "non-contiguous", {"x": (3, 4, 2)}, layout="reversed", axis=1)
    yield case(op, "batch of 33", {"x": (33, 7)}, by=(), axis=1)
    yield case(op, "large reduction", {"x": (2, 4096)}, by=(), axis=1)
    yield case(op, "NaN and infinities", {"x": ROWS}, by=(), axis=1)
    if op == "variance":
        yield case(op, "correction", {"x": (3, 5)}, axis=1, correction=1)
        yield case(op, "correction, two axes", {"x": (2, 3, 4)}, axis=[1, 2], correction=1)
        yield case(op, "far from 0", {"x": floats([100.0, 101.0, 103.0, 102.0])}, axis=1)
        yield case(op, "all equal", {"x": floats([3.0, 3.0, 3.0, 3.0])}, exact=True, axis=1)
    else:
        large = floats([1e30, 1e-30, -2e30], [3e-30, 1e-30, 0.0])
        yield case(op, "extreme values", {"x": large}, precisions=WIDE, axis=1)


def _integer_sums() -> Iterator[Exercise]:
    yield case("sum", "sum of nothing", {"x": (0, 3)}, axis=0)
    yield case("sum", "integers", {"x": (5, 8)}, exact=True, axis=1)
    yield case("sum", "integers, two axes", {"x": (3, 4, 5)}, exact=True, axis=[0, 2])
    yield case("sum", "integers, long", {"x": (1, 600)}, exact=True, precisions=LONG, axis=1)
    yield case("mean", "integers", {"x": (5, 8)}, exact=True, axis=1)
    yield case("mean", "integers, two axes", {"x": (4, 3, 8)}, exact=True, axis=[0, 2])


def _norm() -> Iterator[Exercise]:
    yield case("norm", "usual", {"x": (3, 4)}, axis=1)
    yield case("norm", "first axis", {"x": (3, 4)}, axis=0)
    yield case("norm", "odd sizes", {"x": (3, 7, 5)}, axis=1)
    yield case("norm", "size one", {"x": (1, 1)}, axis=1)
    yield case("norm", "empty", {"x": (0, 3)}, axis=1)
    yield case("norm", "non-contiguous", {"x": (3, 4, 2)}, layout="reversed", axis=1)
    yield case("norm", "large reduction", {"x": (2, 4096)}, by=(), axis=1)
    yield case("norm", "zero vector", {"x": floats([0.0, 0.0, 0.0], [1.0, -2.0, 2.0])}, axis=1)
    yield case("norm", "only zeros", {"x": np.zeros((2, 3))}, axis=1, exact=True)
    yield case("norm", "NaN and infinities", {"x": ROWS}, by=(), axis=1)
    extreme = floats([1e15, -1e15, 1e10], [1e-15, 1e-15, -1e-16])
    yield case("norm", "extreme values", {"x": extreme}, precisions=WIDE, axis=1)


def _max() -> Iterator[Exercise]:
    yield case("max", "usual", {"x": (3, 4)}, axis=1)
    yield case("max", "odd sizes", {"x": (3, 7, 5)}, axis=1)
    yield case("max", "first axis", {"x": (3, 4)}, axis=0)
    yield case("max", "size one", {"x": (1, 1)}, axis=1)
    yield case("max", "empty", {"x": (0, 3)}, axis=1)
    yield case("max", "non-contiguous", {"x": (3, 4, 2)}, layout="reversed", axis=1)
    yield case("max", "large reduction", {"x": (1, 4096)}, by=(), axis=1)
    tied = floats([2.0, 1.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0], [-1.0, -1.0, -2.0, -3.0])
    yield case("max", "ties", {"x": tied}, exact=True, axis=1)
    yield case("max", "three tie", {"x": floats([2.0, 2.0, 1.0, 2.0])}, axis=1)
    yield case("max", "zeros of both signs", {"x": floats([0.0, -0.0, -1.0])}, exact=True, axis=1)
    yield case("max", "NaN and infinities", {"x": ROWS}, by=(), axis=1)
    yield case("max", "minus infinities", {"x": floats([-INF, -INF])}, by=(), axis=1)
    yield case("max", "integers", {"x": shuffled(3, 4)}, exact=True, axis=1)


def _argmax() -> Iterator[Exercise]:
    def index(name: str, x: Any, *, axis: int = 1, **given: Any) -> Exercise:
        return case("argmax", name, {"x": x}, by=(), axis=axis, **given)

    yield index("usual", (3, 4))
    yield index("odd sizes", (3, 7, 5))
    yield index("first axis", (3, 4), axis=0)
    yield index("size one", (1, 1))
    yield index("empty", (0, 3))
    yield index("non-contiguous", (3, 4, 2), layout="reversed")
    yield index("large reduction", shuffled(2, 4096) % 4093, precisions=WIDE)
    yield index("ties", floats([1.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-0.0, 0.0, -1.0, 0.0]))
    yield index("infinities", floats([1.0, INF, INF], [-INF, -INF, 0.0], [-INF, -INF, -INF]))
    close = 1 + CLOSE * np.array([[0.0, 1.0, 0.0, -1.0], [-1.0, 0.0, 2.0, 1.0]])
    yield index("nearly equal", close, exact=True, precisions=FINE)
    yield index("integers", shuffled(5, 8), exact=True)


def _top_k() -> Iterator[Exercise]:
    def largest(name: str, x: Any, *, k: int = 2, **given: Any) -> Exercise:
        return case("top_k", name, {"x": x}, k=k, **given)

    yield largest("usual", (3, 5))
    yield largest("odd sizes", (2, 3, 7), k=3)
    yield largest("one axis", (6,), k=4)
    yield largest("all, in order", (2, 5), k=5)
    yield largest("the largest", (3, 4), k=1)
    yield largest("size one", (1, 1), k=1)
    yield largest("empty", (0, 3))
    yield largest("non-contiguous", (3, 2, 5), layout="reversed")
    yield largest("large reduction", shuffled(2, 4096) % 4093, k=8, by=(), precisions=WIDE)
    tied = floats([1.0, 2.0, 2.0, 0.0, 2.0], [3.0, 3.0, 3.0, 3.0, 3.0], [0.0, 1.0, 0.0, 1.0, 0.0])
    yield largest("ties", tied, exact=True, k=3)
    # more than one vector register, and more than what a kernel sorts by insertion
    yield largest("many ties", floats(np.arange(300) * 7 % 4), exact=True, k=150)
    signed = floats([-0.0, 0.0, -1.0, 0.0, -0.0], [0.0, -0.0, 1.0, -0.0, 0.0])
    yield largest("zeros of both signs", signed, exact=True, k=4)
    yield largest("infinities", floats([-INF, 1.0, INF, INF], [-INF] * 4), by=(), k=3)
    close = 1 + CLOSE * np.array([[0.0, 1.0, 0.0, -1.0], [-1.0, 0.0, 2.0, 1.0]])
    yield largest("nearly equal", close, exact=True, k=3, precisions=FINE)
    yield largest("integers", shuffled(4, 6), exact=True, k=3)


def _median() -> Iterator[Exercise]:
    yield case("median", "usual", {"x": (3, 5)})
    yield case("median", "odd sizes", {"x": (2, 3, 7)})
    yield case("median", "one axis", {"x": (3,)})
    yield case("median", "size one", {"x": (1, 1)})
    yield case("median", "empty", {"x": (0, 3)})
    yield case("median", "non-contiguous", {"x": (3, 2, 5)}, layout="reversed")
    yield case("median", "large reduction", {"x": (1, 4095)}, by=())
    tied = floats([2.0, 2.0, 0.0, 5.0, 1.0], [3.0, 1.0, 3.0, 0.0, 9.0], [4.0, 5.0, 6.0, 7.0, 5.0])
    yield case("median", "ties", {"x": tied}, exact=True)
    yield case("median", "three tie", {"x": floats([2.0, 2.0, 1.0, 2.0, 3.0])})
    yield case("median", "all tie", {"x": floats([2.0, 2.0, 2.0])})
    yield case("median", "infinities", {"x": floats([-INF, 1.0, INF], [INF, INF, 0.0])}, by=())
    yield case("median", "integers", {"x": shuffled(3, 5)}, exact=True)


def _softmax() -> Iterator[Exercise]:
    yield case("softmax", "usual", {"x": (3, 4)})
    yield case("softmax", "odd sizes", {"x": (3, 7, 5)})
    yield case("softmax", "batch of 33", {"x": (33, 7)}, by=())
    yield case("softmax", "one axis", {"x": (4,)})
    yield case("softmax", "size one", {"x": (1, 1)}, by=())  # it is 1, whatever x is
    yield case("softmax", "empty", {"x": (0, 3)})
    yield case("softmax", "non-contiguous", {"x": (3, 4, 2)}, layout="reversed")
    yield case("softmax", "large reduction", {"x": (2, 4096)}, by=())
    yield case("softmax", "all equal", {"x": floats([2.0, 2.0, 2.0, 2.0])})
    far = floats([1e4, -1e4, 1e4], [-1e4, -1e4, -1e4], [1e4, 9984.0, 9920.0])
    yield case("softmax", "extreme values", {"x": far}, by=(), precisions=WIDE)
    limits = floats([1.0, NAN, 2.0], [-INF, 0.0, 1.0], [1.0, -2.0, 3.0])
    yield case("softmax", "NaN and infinities", {"x": limits}, by=())


def _max_pool2d() -> Iterator[Exercise]:
    op = "max_pool2d"
    yield case(op, "usual", {"x": (1, 4, 4, 2)}, window=2, stride=2)
    yield case(op, "odd sizes", {"x": (1, 7, 5, 3)}, window=2, stride=2)
    yield case(op, "batch of 33", {"x": (33, 4, 6, 3)}, by=(), window=2, stride=2)
    yield case(op, "overlapping", {"x": (1, 5, 6, 2)}, window=3, stride=2)
    yield case(op, "gaps", {"x": (2, 5, 6, 1)}, window=2, stride=3)
    yield case(op, "size one", {"x": (1, 1, 1, 1)}, window=1, stride=1)
    yield case(op, "empty", {"x": (0, 4, 4, 2)}, window=2, stride=2)
    yield case(op, "non-contiguous", {"x": (1, 4, 6, 2)}, layout="reversed", window=2, stride=2)
    yield case(op, "large reduction", {"x": (1, 64, 64, 1)}, by=(), window=64, stride=64)
    tied = floats(
        [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 3.0, 2.0], [2.0, 2.0, 3, 3]
    )
    yield case(op, "ties", {"x": tied.reshape(1, 4, 4, 1)}, exact=True, window=2, stride=2)
    yield case(op, "overlapping ties", {"x": np.ones((1, 4, 5, 1))}, exact=True, window=3, stride=1)
    yield case(op, "negative", {"x": -shuffled(1, 4, 4, 1) - 1}, exact=True, window=2, stride=2)
    infinite = floats([INF, 1.0, -INF, -INF], [0.0, 2.0, -INF, -INF]).reshape(1, 2, 4, 1)
    yield case(op, "infinities", {"x": infinite}, by=(), window=2, stride=2)
    yield case(op, "integers", {"x": shuffled(1, 6, 5, 2)}, exact=True, window=2, stride=2)
    padded: dict[str, Any] = {"window": 3, "stride": 2, "padding": 1}
    for n in (5, 6):
        yield case(op, f"padding of {n} pixels", {"x": (1, n, n, 2)}, **padded)
    negative = -shuffled(1, 4, 5, 1) - 1  # a padding of zeros would win
    yield case(op, "padding of negative pixels", {"x": negative}, exact=True, **padded)
    yield case(
        op, "padding that keeps the size", {"x": (1, 4, 5, 1)}, window=3, stride=1, padding=1
    )
    yield case(op, "wide padding", {"x": (1, 3, 4, 1)}, window=4, stride=3, padding=2)
    yield case(op, "padding, even window", {"x": (2, 5, 4, 1)}, window=2, stride=2, padding=1)
    yield case(op, "padding, ties", {"x": -np.ones((1, 4, 4, 1))}, exact=True, **padded)
    yield case(op, "padding, infinities", {"x": infinite}, by=(), **padded)
    yield case(op, "padding, empty", {"x": (0, 4, 4, 2)}, **padded)
    yield case(op, "padding, non-contiguous", {"x": (1, 4, 6, 2)}, layout="reversed", **padded)


def _avg_pool2d() -> Iterator[Exercise]:
    op = "avg_pool2d"
    yield case(op, "usual", {"x": (1, 4, 4, 2)}, window=2, stride=2)
    yield case(op, "odd sizes", {"x": (1, 7, 5, 3)}, window=3, stride=2)
    yield case(op, "batch of 33", {"x": (33, 4, 6, 3)}, by=(), window=2, stride=2)
    yield case(op, "overlapping", {"x": (2, 4, 5, 1)}, window=3, stride=1)
    yield case(op, "size one", {"x": (1, 1, 1, 1)}, window=1, stride=1)
    yield case(op, "empty", {"x": (0, 4, 4, 2)}, window=2, stride=2)
    yield case(op, "non-contiguous", {"x": (1, 4, 6, 2)}, layout="reversed", window=2, stride=2)
    yield case(op, "large reduction", {"x": (1, 64, 64, 1)}, by=(), window=64, stride=64)
    for n in (5, 6):
        given: dict[str, Any] = {"window": 3, "stride": 2, "padding": 1}
        yield case(op, f"padding of {n} pixels", {"x": (1, n, n, 1)}, **given)
        yield case(
            op, f"padding of {n} pixels, not counted", {"x": (1, n, n, 1)},
            include_padding=False, **given,
        )  # fmt: skip
    spoilt = np.ones((1, 4, 6, 1))
    spoilt[0, 0, 0, 0], spoilt[0, 2, 5, 0] = NAN, INF
    yield case(op, "NaN and infinities", {"x": spoilt}, by=(), window=2, stride=2)
    yield case(op, "integers", {"x": (1, 4, 6, 2)}, exact=True, window=2, stride=2)
    yield case(op, "integers, window 4", {"x": (1, 8, 6, 1)}, exact=True, window=4, stride=2)
    yield case(
        op, "integers, padding", {"x": (1, 4, 6, 1)}, exact=True, window=2, stride=2, padding=1
    )


def _resize() -> Iterator[Exercise]:
    sizes = {"enlarge": [7, 9], "shrink": [2, 3], "one axis each way": [8, 4]}
    for method in ("nearest", "bilinear", "bicubic"):
        given: dict[str, Any] = {"method": method}
        for name, size in sizes.items():
            yield case("resize", f"{method}, {name}", {"x": (1, 4, 6, 2)}, size=size, **given)
        yield case("resize", f"{method}, odd sizes", {"x": (1, 7, 5, 3)}, size=[3, 11], **given)
        for name, size in sizes.items():
            yield case(
                "resize", f"{method}, {name}, antialias", {"x": (1, 4, 6, 1)},
                size=size, antialias=True, **given,
            )  # fmt: skip
    for name, old, size in (
        ("size one", [1, 1], [1, 1]), ("from one pixel", [1, 1], [3, 2]),
        ("to one pixel", [4, 6], [1, 1]), ("same size", [4, 6], [4, 6]),
    ):  # fmt: skip
        yield case("resize", name, {"x": (1, *old, 2)}, size=size, method="bicubic")
    linear: dict[str, Any] = {"size": [5, 7], "method": "bilinear"}
    yield case("resize", "usual", {"x": (2, 3, 4, 2)}, **linear)
    yield case("resize", "batch of 33", {"x": (33, 3, 4, 2)}, by=(), **linear)
    yield case("resize", "empty", {"x": (0, 3, 4, 2)}, **linear)
    yield case("resize", "non-contiguous", {"x": (2, 3, 4, 2)}, layout="reversed", **linear)
    yield case(
        "resize", "large reduction", {"x": (1, 64, 64, 1)}, by=(),
        size=[2, 2], method="bilinear", antialias=True,
    )  # fmt: skip
    ramp = np.arange(16.0).reshape(1, 4, 4, 1)
    yield case("resize", "a ramp", {"x": ramp}, size=[8, 8], method="bilinear")
    yield case("resize", "integers", {"x": (1, 4, 6, 1)}, exact=True, size=[7, 3], method="nearest")
