"""Operations on integers and booleans, at lengths around the widths of vectors, in every layout.

Results have to be exactly the reference. Nothing overflows: what frameworks do then is no part of
the vocabulary. Rows of a tensor are chosen for what a kernel may get wrong:

    rising, falling     the largest is the last element, which a kernel's tail has, or the first
    near the end        neighbours of the largest number, which are one number in floating point
    three values        ties everywhere
    lowest alone        what a kernel starts from must not win, and 0 neither
    whole range         which differs between signed and unsigned numbers
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from adapters.exercise import LAYOUTS, Call
from numerics.exercises import Exercise

DTYPES = ("int8", "uint8", "int32", "int64", "bool")
#: On both sides of the widths of vectors, in elements of 1, 4 and 8 bytes, and of four of them.
LENGTHS = (1, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 257)
#: Of views, whose kernels have fewer paths.
FEW = (1, 17, 65)
ROWS = 6

Tensors = Mapping[str, Any]
Draw = Callable[[np.random.Generator, np.dtype], Tensors]  # of (ROWS, LENGTHS[-1]) or so
Arguments = Callable[[int], dict[str, Any]]


def exercises() -> Iterator[Exercise]:
    """Of every operation that has a meaning for integers, in every dtype that has it."""
    yield from _ordering()
    yield from _arithmetic()
    yield from _moving()
    yield from _casts()


def _ordering() -> Iterator[Exercise]:
    for op in ("max", "argmax"):
        yield from _of(op, "rows", _one, lambda n: {"axis": 1})
        yield from _of(op, "columns", _one, lambda n: {"axis": 0})
    numbers = DTYPES[:-1]
    yield from _of("top_k", "the largest", _one, lambda n: {"k": min(n, 3)}, numbers)
    yield from _of("top_k", "sorted", _one, lambda n: {"k": n}, numbers)
    for op in ("maximum", "minimum"):
        yield from _of(op, "pairs", _two)
    yield from _of("greater", "pairs", _two, dtypes=numbers)
    yield from _of(
        "clip", "range", _one, lambda n: {"low": -5, "high": 100}, ("int8", *DTYPES[2:4])
    )
    yield from _of("clip", "range", _one, lambda n: {"low": 5, "high": 200}, ("uint8",))
    yield from _of("where", "pairs", lambda rng, dtype: {
        "condition": rng.integers(0, 2, (ROWS, LENGTHS[-1])).astype(bool), **_two(rng, dtype)
    })  # fmt: skip


def _arithmetic() -> Iterator[Exercise]:
    numbers = DTYPES[:-1]
    yield from _of("add", "sums", _halves, dtypes=numbers)
    yield from _of("subtract", "differences", _halves, dtypes=numbers)
    yield from _of("multiply", "products", _roots, dtypes=numbers)
    yield from _of("absolute", "signs", _without_lowest, dtypes=numbers)
    yield from _of("floor_divide", "quotients", _quotients, dtypes=numbers)
    yield from _of("remainder", "quotients", _quotients, dtypes=numbers)
    yield from _of("sum", "rows", _few, lambda n: {"axis": 1}, numbers)
    yield from _of("sum", "columns", _few, lambda n: {"axis": 0}, numbers)


def _moving() -> Iterator[Exercise]:
    yield from _of("transpose", "rows", _one, lambda n: {"axes": [1, 0]})
    yield from _of("reshape", "rows", _one, lambda n: {"shape": [2, -1]})
    yield from _of("broadcast_to", "rows", _one, lambda n: {"shape": [2, ROWS, n]})
    yield from _of("slice", "rows", _one, lambda n: {"axis": 1, "start": n // 3, "stop": n})
    yield from _of("pad", "rows", _one, lambda n: {"widths": [[0, 1], [2, 1]]})
    yield from _of("concat", "rows", lambda rng, dtype: {
        f"xs/{name}": value for name, value in _two(rng, dtype).items()
    }, lambda n: {"axis": 1})  # fmt: skip
    picked = np.array([5, 0, 3, 3, 1])
    yield from _of("take", "rows", lambda rng, dtype: {
        **_one(rng, dtype), "indices": picked
    }, lambda n: {"axis": 0})  # fmt: skip
    yield from _of("gather", "rows", lambda rng, dtype: {
        "x": np.stack([_rows(rng, dtype), _rows(rng, dtype)]),
        "indices": np.stack([picked, 5 - picked]),
    })  # fmt: skip


def _casts() -> Iterator[Exercise]:
    """Between dtypes: numbers that both hold, and booleans."""
    for wanted in DTYPES:
        for dtype in DTYPES:
            if dtype != wanted:
                yield from _of("cast", f"to {wanted}", _held_by(wanted), _always(wanted), (dtype,))


def _always(dtype: str) -> Arguments:
    return lambda n: {"dtype": dtype}


def _of(
    op: str,
    what: str,
    draw: Draw,
    arguments: Arguments = lambda n: {},
    dtypes: tuple[str, ...] = DTYPES,
) -> Iterator[Exercise]:
    """Of `op` in each dtype, dense and in every layout that such tensors have."""
    for dtype in dtypes:
        digest = hashlib.sha256(f"{op}/{what}/{dtype}".encode()).digest()
        tensors = draw(np.random.default_rng(int.from_bytes(digest[:8], "big")), np.dtype(dtype))
        long = {name: x for name, x in tensors.items() if x.shape[-1] == LENGTHS[-1]}
        for layout in ("", *LAYOUTS):
            call = Call(
                "integers:lengths",
                {
                    "operation": op,
                    "arguments": {str(n): arguments(n) for n in (FEW if layout else LENGTHS)},
                    "cut": sorted({name.partition("/")[0] for name in long}),
                },
                {name: (layout, x.shape) for name, x in long.items()} if layout else {},
            )
            name = f"{what}, {dtype}" + (f", {layout} view" if layout else "")
            yield Exercise(
                op, name, call, dict(tensors), exact=True, precisions=("fp32",), worst=True
            )


def _rows(rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    """(ROWS, LENGTHS[-1]), as above."""
    long = LENGTHS[-1]
    if dtype.kind == "b":
        made = rng.integers(0, 2, (ROWS, long)).astype(bool)
        made[1], made[2] = False, True
        made[3] = np.arange(long) >= 64
        return made
    low, high = _limits(dtype)
    step = (high - low) // long
    rising = np.array([low + 1 + step * i for i in range(long)], dtype)
    near = np.array([high - 1 - int(i) for i in rng.integers(0, 3, long)], dtype)
    near[long // 2 :: 5] = high
    few = rng.choice(np.array([low, 1, high // 2], dtype), long)
    whole = rng.integers(low, high, long, dtype, endpoint=True)
    return np.stack([rising, rising[::-1], near, few, np.full(long, low, dtype), whole])


def _limits(dtype: np.dtype) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _one(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
    return {"x": _rows(rng, dtype)}


def _two(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
    """Both in other orders; a third of the pairs is equal."""
    a = _rows(rng, dtype)
    b = rng.permuted(_rows(rng, dtype), axis=1)
    return {"a": a, "b": np.where(rng.integers(0, 3, a.shape) == 0, a, b)}


def _spread(rng: np.random.Generator, dtype: np.dtype, low: int, high: int) -> np.ndarray:
    """Numbers from `low` to `high`, and these."""
    x = rng.integers(low, high, (ROWS, LENGTHS[-1]), dtype, endpoint=True)
    x[:, 0], x[:, -1] = low, high
    return x


def _halves(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
    """Whose sums and differences are in range; the extremes are, beside 0."""
    low, high = _limits(dtype)
    a, b = (_spread(rng, dtype, -(-low // 2), high // 2) for _ in range(2))
    if low == 0:
        a, b = np.maximum(a, b), np.minimum(a, b)
    a[1, ::5], a[2, ::5] = low, high
    b[1:3, ::5] = 0
    return {"a": a, "b": b}


def _roots(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
    """Whose products are in range; the extremes are, times 1."""
    low, high = _limits(dtype)
    root = math.isqrt(high)
    a, b = (_spread(rng, dtype, max(low, -root), root) for _ in range(2))
    a[1, ::5], a[2, ::5] = low, high
    b[1:3, ::5] = 1
    return {"a": a, "b": b}


def _without_lowest(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
    """Of the lowest signed number there is no absolute value."""
    low, _ = _limits(dtype)
    return {"x": np.maximum(_rows(rng, dtype), low + 1)}


def _quotients(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
    """By small divisors and by large ones of either sign, but never 0. The lowest number by -1,
    and by what is a multiple of no vector's width."""
    low, high = _limits(dtype)
    a = _rows(rng, dtype)
    small = rng.choice(np.array([n for n in (-7, -3, -1, 1, 2, 3, 7) if n >= low], dtype), a.shape)
    b = np.where(rng.integers(0, 2, a.shape) == 0, small, _spread(rng, dtype, low, high))
    b[b == 0] = 3
    if low:
        b[(a == low) & (b == -1)] = 2  # the quotient would be out of range
    return {"a": a, "b": b}


def _few(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
    """Whose sums are in range, along either axis, in whatever order they are added."""
    low, high = _limits(dtype)
    long = LENGTHS[-1]
    most = max(1, high // long)
    x = _spread(rng, dtype, -most if low else 0, most)
    for row in x:  # of the shortest dtypes: more would be out of range
        row[rng.permutation(long - 1)[: max(0, long - high)]] = 0
    return {"x": x}


def _held_by(wanted: str) -> Draw:
    """Numbers that `wanted` holds as well."""

    def draw(rng: np.random.Generator, dtype: np.dtype) -> Tensors:
        x = _rows(rng, dtype)
        if "b" in (dtype.kind, np.dtype(wanted).kind):
            return {"x": x}
        (low, high), (least, most) = _limits(dtype), _limits(np.dtype(wanted))
        return {"x": np.clip(x, max(low, least), min(high, most))}

    return draw
