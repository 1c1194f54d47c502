"""Products with sums: matrices, convolutions, attention, and recurrence, which is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numerics.exercises import Exercise
from suites.conformance.tables.making import INF, LONG, NAN, WIDE, Given, booleans, case, floats

Tensors = dict[str, Given]


def exercises() -> Iterator[Exercise]:
    yield from _accumulating()
    yield from _batches()
    yield from _matmul()
    yield from _dense()
    yield from _conv2d()
    yield from _conv_transpose2d()
    yield from _conv3d()
    yield from _conv_transpose3d()
    yield from _attention()
    yield from _masks()
    yield from _recurrence("lstm", gates=4)
    yield from _recurrence("gru", gates=3)


def _accumulating() -> Iterator[Exercise]:
    """2048 and as many ones: 4096, which every precision holds. What adds them up in 16 bits has no
    number for 2048 + 1, and stays below."""
    many = np.append(2048.0, np.ones(2048))
    rows, columns = many.reshape(1, -1), np.ones((2049, 1))
    tensors: dict[str, Tensors] = {
        "matmul": {"a": rows, "b": columns},
        "dense": {"x": rows, "w": columns},
        "conv2d": {"x": many.reshape(1, 1, 1, -1), "w": np.ones((1, 1, 2049, 1))},
    }
    for subject, given in tensors.items():
        yield case(subject, "accumulated in float32", given, by=(), exact=True)


def _batches() -> Iterator[Exercise]:
    """More examples than a block of any kernel has."""
    n = 33
    wide: dict[str, tuple[Tensors, dict[str, Any]]] = {
        "matmul": ({"a": (n, 2, 3), "b": (n, 3, 2)}, {}),
        "dense": ({"x": (n, 5), "w": (5, 3), "b": (3,)}, {}),
        "conv2d": ({"x": (n, 5, 4, 2), "w": (3, 3, 2, 3), "b": (3,)}, {"padding": 1}),
        "conv_transpose2d": ({"x": (n, 3, 4, 2), "w": (2, 2, 2, 3)}, {"stride": 2}),
        "conv3d": ({"x": (n, 3, 4, 3, 2), "w": (2, 2, 2, 2, 2)}, {}),
        "conv_transpose3d": ({"x": (n, 2, 3, 2, 2), "w": (2, 2, 2, 2, 2)}, {}),
        "attention": (_heads(n, 4, 4, 2, 3), {}),
    }
    for subject, (tensors, arguments) in wide.items():
        yield case(subject, "batch of 33", tensors, by=(), **arguments)


def _matmul() -> Iterator[Exercise]:
    yield case("matmul", "usual", {"a": (3, 4), "b": (4, 5)})
    yield case("matmul", "odd sizes", {"a": (7, 5), "b": (5, 3)})
    yield case("matmul", "batches", {"a": (2, 3, 4), "b": (2, 4, 5)})
    yield case("matmul", "two leading axes", {"a": (2, 3, 2, 5), "b": (2, 3, 5, 1)})
    yield case("matmul", "size one", {"a": (1, 1), "b": (1, 1)})
    yield case("matmul", "empty", {"a": (0, 3), "b": (3, 2)})
    yield case("matmul", "sum of nothing", {"a": (2, 0), "b": (0, 3)})
    yield case("matmul", "non-contiguous", {"a": (3, 4), "b": (4, 5)}, layout="reversed")
    yield case("matmul", "large reduction", {"a": (2, 2048), "b": (2048, 3)}, by=())
    a = floats([1.0, NAN], [0.0, 1.0], [2.0, 3.0])
    b = floats([INF, 1.0, 2.0], [1.0, -1.0, 0.0])
    yield case("matmul", "NaN and infinities", {"a": a, "b": b}, by=())
    yield case(
        "matmul", "extreme values", {"a": floats([1e15, 1e-15]), "b": floats([1e15], [-1e-15])},
        precisions=WIDE,
    )  # fmt: skip
    yield case("matmul", "integers", {"a": (3, 5), "b": (5, 4)}, exact=True)
    yield case("matmul", "integers, batches", {"a": (2, 3, 7), "b": (2, 7, 4)}, exact=True)


def _dense() -> Iterator[Exercise]:
    yield case("dense", "usual", {"x": (3, 4), "w": (4, 5), "b": (5,)})
    yield case("dense", "no bias", {"x": (3, 4), "w": (4, 5)})
    yield case("dense", "odd sizes", {"x": (5, 7), "w": (7, 3), "b": (3,)})
    yield case("dense", "three axes", {"x": (2, 3, 4), "w": (4, 2), "b": (2,)})
    yield case("dense", "one axis", {"x": (4,), "w": (4, 3), "b": (3,)})
    yield case("dense", "size one", {"x": (1, 1), "w": (1, 1), "b": (1,)})
    yield case("dense", "empty", {"x": (0, 3), "w": (3, 2), "b": (2,)})
    yield case("dense", "non-contiguous", {"x": (3, 4), "w": (4, 5), "b": (5,)}, layout="reversed")
    yield case("dense", "large reduction", {"x": (2, 2048), "w": (2048, 3), "b": (3,)}, by=("b",))
    yield case(
        "dense", "sum over examples", {"x": (2048, 2), "w": (2, 3), "b": (3,)}, by=("w", "b")
    )
    rows = floats([1.0, 2.0], [NAN, 1.0], [INF, 1.0], [0.0, -INF])
    yield case("dense", "NaN and infinities", {"x": rows, "w": (2, 3), "b": (3,)}, by=())
    yield case("dense", "integers", {"x": (3, 5), "w": (5, 4), "b": (4,)}, exact=True)
    long: Tensors = {"x": (2, 128), "w": (128, 2), "b": (2,)}
    yield case("dense", "integers, long sums", long, exact=True, precisions=LONG)
    longest: Tensors = {"x": (2, 2048), "w": (2048, 2)}
    yield case(
        "dense", "integers, longest sums", longest, by=(), exact=True, precisions=("fp64", "fp32")
    )


def _conv2d() -> Iterator[Exercise]:
    image, kernel = (1, 5, 6, 2), (3, 3, 2, 3)
    usual: Tensors = {"x": image, "w": kernel, "b": (3,)}
    yield case("conv2d", "usual", usual)
    yield case("conv2d", "no bias", {"x": image, "w": kernel})
    yield case("conv2d", "odd sizes", {"x": (1, 7, 5, 3), "w": (2, 3, 3, 1), "b": (1,)})
    yield case("conv2d", "two examples", {"x": (2, 4, 4, 2), "w": (2, 2, 2, 2)})
    yield case("conv2d", "size one", {"x": (1, 1, 1, 1), "w": (1, 1, 1, 1), "b": (1,)})
    yield case("conv2d", "kernel of one pixel", {"x": (1, 4, 3, 3), "w": (1, 1, 3, 2)}, stride=2)
    few: Tensors = {"x": (2, 32, 32, 4), "w": (1, 1, 4, 8)}  # fewer channels than AVX2's vectors
    yield case("conv2d", "kernel of one pixel, stride 2", few, by=("w",), stride=2)
    yield case("conv2d", "kernel of the image's size", {"x": (1, 4, 5, 2), "w": (4, 5, 2, 2)})
    yield case("conv2d", "empty", {"x": (0, 5, 6, 2), "w": kernel})
    yield case("conv2d", "non-contiguous", usual, layout="reversed")
    for n in (6, 7):
        pixels: Tensors = {"x": (1, n, n, 1), "w": (3, 3, 1, 2)}
        yield case("conv2d", f"stride 2 of {n} pixels", pixels, stride=2)
        yield case("conv2d", f"stride 2 of {n} padded pixels", pixels, stride=2, padding=1)
    yield case("conv2d", "padding", usual, padding=1)
    yield case("conv2d", "wide padding", {"x": (1, 3, 3, 2), "w": (2, 3, 2, 2)}, padding=2)
    yield case("conv2d", "dilation", {"x": (1, 7, 6, 1), "w": (3, 2, 1, 2)}, dilation=2)
    yield case(
        "conv2d", "dilation, stride, padding", {"x": (1, 7, 8, 1), "w": (3, 3, 1, 2), "b": (2,)},
        dilation=2, stride=2, padding=2,
    )  # fmt: skip
    grouped: Tensors = {"x": (1, 4, 4, 4), "w": (3, 2, 2, 6), "b": (6,)}
    yield case("conv2d", "groups", grouped, groups=2)
    depthwise: Tensors = {"x": (1, 5, 4, 3), "w": (3, 3, 1, 3), "b": (3,)}
    yield case("conv2d", "depthwise", depthwise, groups=3, padding=1)
    multiplied: Tensors = {"x": (1, 4, 5, 3), "w": (2, 3, 1, 6)}
    yield case("conv2d", "depthwise, two for each", multiplied, groups=3, stride=2)
    deep: Tensors = {"x": (1, 4, 4, 128), "w": (4, 4, 128, 2)}
    yield case("conv2d", "large reduction", deep, by=())
    x = np.ones((1, 5, 6, 1))
    x[0, 1, 1, 0], x[0, 3, 4, 0] = NAN, INF
    yield case("conv2d", "NaN and infinities", {"x": x, "w": (2, 2, 1, 2)}, by=(), padding=1)
    small: Tensors = {"x": (1, 5, 6, 2), "w": (3, 3, 2, 2), "b": (2,)}
    yield case("conv2d", "integers", small, exact=True)
    yield case("conv2d", "integers, stride and padding", small, exact=True, stride=2, padding=1)
    yield case("conv2d", "integers, dilation", small, exact=True, dilation=2, padding=1)
    yield case("conv2d", "integers, groups", grouped, exact=True, groups=2)
    yield case("conv2d", "integers, depthwise", depthwise, exact=True, groups=3)


def _conv_transpose2d() -> Iterator[Exercise]:
    usual: Tensors = {"x": (1, 3, 4, 2), "w": (3, 3, 2, 3), "b": (3,)}
    op = "conv_transpose2d"
    yield case(op, "usual", usual)
    yield case(op, "no bias", {"x": (1, 3, 4, 2), "w": (2, 2, 2, 2)})
    yield case(op, "odd sizes", {"x": (1, 5, 3, 3), "w": (2, 3, 3, 1), "b": (1,)})
    yield case(op, "size one", {"x": (1, 1, 1, 1), "w": (1, 1, 1, 1), "b": (1,)})
    yield case(op, "empty", {"x": (0, 3, 4, 2), "w": (3, 3, 2, 3)})
    yield case(op, "non-contiguous", usual, layout="reversed")
    yield case(op, "stride 2", usual, stride=2)
    yield case(op, "padding", usual, padding=1)
    yield case(op, "doubles the image", usual, stride=2, padding=1, output_padding=1)
    even: Tensors = {"x": (1, 3, 3, 2), "w": (4, 4, 2, 1), "b": (1,)}
    yield case(op, "even kernel", even, stride=2, padding=1)
    yield case(op, "gaps", {"x": (1, 3, 2, 2), "w": (2, 2, 2, 2)}, stride=3, output_padding=2)
    deep: Tensors = {"x": (1, 3, 3, 512), "w": (2, 2, 512, 2)}
    yield case(op, "large reduction", deep, by=())
    yield case(op, "integers", usual, exact=True)
    yield case(op, "integers, stride", usual, exact=True, stride=2, padding=1, output_padding=1)


def _conv3d() -> Iterator[Exercise]:
    usual: Tensors = {"x": (1, 3, 4, 3, 2), "w": (2, 2, 2, 2, 2), "b": (2,)}
    yield case("conv3d", "usual", usual)
    yield case("conv3d", "no bias", {"x": (1, 3, 3, 3, 1), "w": (3, 2, 1, 1, 2)})
    yield case("conv3d", "odd sizes", {"x": (1, 5, 3, 3, 1), "w": (3, 2, 3, 1, 3), "b": (3,)})
    yield case("conv3d", "size one", {"x": (1, 1, 1, 1, 1), "w": (1, 1, 1, 1, 1), "b": (1,)})
    yield case("conv3d", "empty", {"x": (0, 3, 3, 3, 1), "w": (2, 2, 2, 1, 2)})
    yield case("conv3d", "non-contiguous", usual, layout="reversed")
    yield case("conv3d", "stride 2", {"x": (1, 5, 4, 3, 1), "w": (2, 2, 2, 1, 2)}, stride=2)
    padded: Tensors = {"x": (1, 2, 3, 4, 1), "w": (3, 3, 3, 1, 1), "b": (1,)}
    yield case("conv3d", "padding", padded, padding=1)
    yield case("conv3d", "stride and padding", padded, stride=2, padding=1)
    flat: Tensors = {"x": (1, 3, 4, 5, 1), "w": (1, 3, 3, 1, 2), "b": (2,)}
    yield case("conv3d", "padding of two axes", flat, padding=[0, 1, 1])
    yield case("conv3d", "stride of two axes", flat, stride=[1, 2, 2])
    long: Tensors = {"x": (1, 5, 4, 7, 1), "w": (3, 2, 3, 1, 2)}
    yield case("conv3d", "each axis its own", long, stride=[2, 1, 3], padding=[1, 0, 2])
    deep: Tensors = {"x": (1, 3, 3, 3, 64), "w": (3, 3, 3, 64, 2)}
    yield case("conv3d", "large reduction", deep, by=())
    x = np.ones((1, 3, 3, 4, 1))
    x[0, 0, 1, 1, 0], x[0, 2, 2, 3, 0] = NAN, INF
    yield case("conv3d", "NaN and infinities", {"x": x, "w": (2, 2, 2, 1, 2)}, by=(), padding=1)
    yield case("conv3d", "integers", usual, exact=True)
    yield case("conv3d", "integers, padding", padded, exact=True, stride=2, padding=1)
    yield case(
        "conv3d", "integers, each axis its own", long, exact=True, stride=[2, 1, 3],
        padding=[1, 0, 2],
    )  # fmt: skip


def _conv_transpose3d() -> Iterator[Exercise]:
    usual: Tensors = {"x": (1, 2, 3, 2, 2), "w": (2, 2, 3, 2, 2), "b": (2,)}
    op = "conv_transpose3d"
    yield case(op, "usual", usual)
    yield case(op, "no bias", {"x": (1, 2, 3, 3, 1), "w": (2, 2, 2, 1, 2)})
    yield case(op, "odd sizes", {"x": (1, 5, 3, 1, 3), "w": (1, 2, 3, 3, 1), "b": (1,)})
    yield case(op, "two examples", {"x": (2, 2, 2, 3, 1), "w": (2, 1, 2, 1, 3)})
    yield case(op, "size one", {"x": (1, 1, 1, 1, 1), "w": (1, 1, 1, 1, 1), "b": (1,)})
    yield case(op, "empty", {"x": (0, 2, 3, 2, 2), "w": (2, 2, 3, 2, 3)})
    yield case(op, "non-contiguous", usual, layout="reversed")
    yield case(op, "stride 2", usual, stride=2)
    yield case(op, "padding", {"x": (1, 3, 2, 4, 1), "w": (3, 3, 3, 1, 2)}, padding=1)
    even: Tensors = {"x": (1, 2, 2, 3, 2), "w": (2, 2, 2, 2, 1), "b": (1,)}
    yield case(op, "doubles the volume", even, stride=2)
    cubes: Tensors = {"x": (1, 2, 3, 2, 2), "w": (3, 3, 3, 2, 1), "b": (1,)}
    yield case(op, "doubles it, with padding", cubes, stride=2, padding=1, output_padding=1)
    yield case(op, "gaps", {"x": (1, 3, 2, 2, 2), "w": (2, 2, 2, 2, 2)}, stride=3, output_padding=2)
    deep: Tensors = {"x": (1, 2, 2, 3, 256), "w": (2, 2, 2, 256, 2)}
    yield case(op, "large reduction", deep, by=())
    x = np.ones((1, 2, 3, 2, 1))
    x[0, 0, 1, 1, 0], x[0, 1, 2, 0, 0] = NAN, INF
    yield case(op, "NaN and infinities", {"x": x, "w": (2, 2, 2, 1, 2)}, by=())
    yield case(op, "integers", usual, exact=True)
    yield case(op, "integers, stride", cubes, exact=True, stride=2, padding=1, output_padding=1)


def _heads(n: int, queries: int, keys: int, heads: int, features: int) -> Tensors:
    seen = (n, keys, heads, features)
    return {"q": (n, queries, heads, features), "k": seen, "v": seen}


def _attention() -> Iterator[Exercise]:
    usual = _heads(1, 4, 4, 2, 3)
    yield case("attention", "usual", usual)
    yield case("attention", "odd sizes", _heads(1, 5, 5, 3, 7))
    yield case("attention", "two examples", _heads(2, 3, 3, 1, 4))
    yield case("attention", "other keys", _heads(1, 3, 5, 2, 2))
    # With one key its weight is 1 whatever q and k are: their gradients are 0 but for rounding.
    yield case("attention", "size one", _heads(1, 1, 1, 1, 1), by=("v",))
    yield case("attention", "empty", _heads(0, 3, 3, 2, 2))
    yield case("attention", "non-contiguous", _heads(2, 3, 4, 2, 3), layout="reversed")
    yield case("attention", "large reduction", _heads(1, 2, 1024, 1, 64), by=())
    yield case("attention", "causal", usual, causal=True)
    yield case("attention", "causal, odd sizes", _heads(1, 7, 7, 1, 3), causal=True)
    yield case("attention", "causal, many queries", _heads(1, 67, 67, 1, 1), causal=True)
    yield case("attention", "causal, fewer queries", _heads(1, 2, 5, 1, 3), causal=True)
    yield case("attention", "causal, fewer keys", _heads(1, 5, 2, 1, 3), causal=True)
    # Scores are hundreds apart: the weights are 0 or 1, and the gradients of q and k vanish.
    q = 40.0 * np.eye(3).reshape(1, 3, 1, 3)
    yield case("attention", "extreme values", {"q": q, "k": q, "v": (1, 3, 1, 3)}, by=("v",))
    q = floats(1.0, NAN, 2.0).reshape(1, 3, 1, 1)
    yield case("attention", "NaN", {"q": q, "k": (1, 3, 1, 1), "v": (1, 3, 1, 1)}, by=())


def _masks() -> Iterator[Exercise]:
    usual = _heads(1, 3, 4, 2, 3)
    rows = booleans([1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 1, 1])
    yield case("attention", "mask", usual | {"mask": rows.reshape(1, 1, 3, 4)})
    yield case("attention", "mask of two axes", usual | {"mask": rows})
    each = np.stack([rows, ~rows]).reshape(1, 2, 3, 4)
    yield case("attention", "mask of each head", usual | {"mask": each})
    keys = booleans([1, 1, 0], [1, 0, 0]).reshape(2, 1, 1, 3)
    yield case("attention", "mask of padded keys", _heads(2, 2, 3, 1, 2) | {"mask": keys})
    every = np.ones((1, 1, 3, 4), bool)
    yield case("attention", "mask of nothing", usual | {"mask": every})
    blind = booleans([1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]).reshape(1, 1, 3, 4)
    yield case("attention", "query without keys", usual | {"mask": blind})
    yield case("attention", "no query with keys", usual | {"mask": np.zeros((1, 1, 3, 4), bool)})
    causal = rows.reshape(1, 1, 3, 4)
    yield case("attention", "mask and causal", usual | {"mask": causal}, causal=True)
    yield case(
        "attention",
        "non-contiguous mask",
        _heads(2, 3, 4, 2, 3) | {"mask": causal},
        layout="reversed",
        causal=True,
    )


def _recurrence(op: str, *, gates: int) -> Iterator[Exercise]:
    def tensors(n: int, length: int, inputs: int, hidden: int) -> Tensors:
        wide = gates * hidden
        given: Tensors = {
            "x": (n, length, inputs), "h": (n, hidden),
            "w": (inputs, wide), "u": (hidden, wide), "b": (wide,),
        }  # fmt: skip
        return given | ({"c": (n, hidden)} if op == "lstm" else {"b_recurrent": (wide,)})

    yield case(op, "usual", tensors(2, 3, 3, 2))
    yield case(op, "one step", tensors(2, 1, 3, 2))
    yield case(op, "batch of 33", tensors(33, 3, 3, 2), by=())
    yield case(op, "five steps", tensors(1, 5, 2, 2))
    learned = ("w", "u", "b")
    yield case(op, "64 steps", tensors(2, 64, 3, 2), by=learned)
    yield case(op, "odd sizes", tensors(1, 3, 5, 3))
    yield case(op, "size one", tensors(1, 1, 1, 1))
    yield case(op, "empty", tensors(0, 3, 3, 2))
    yield case(op, "non-contiguous", tensors(2, 3, 3, 2), layout="reversed")
    yield case(op, "large reduction", tensors(1, 2, 512, 16), by=())
    unset = {name: np.zeros((2, 2)) for name in tensors(1, 1, 1, 1) if name in ("h", "c")}
    yield case(op, "from zeros", tensors(2, 3, 3, 2) | unset)
    saturated = tensors(1, 3, 2, 2) | {"x": floats([[90.0, -90.0], [-90.0, 40.0], [0.0, 0.0]])}
    yield case(op, "extreme values", saturated, by=())
    nan = tensors(2, 2, 2, 2) | {"x": floats([[1.0, 2.0], [NAN, 1.0]], [[1.0, 0.0], [2.0, 1.0]])}
    yield case(op, "NaN", nan, by=())
