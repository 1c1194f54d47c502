"""How an exercise is written down: the shapes of its tensors, or their values if these matter."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from adapters.exercise import Call
from numerics.exercises import PRECISIONS, Exercise, coarse

NAN, INF = np.nan, np.inf
#: Where the values leave the range of float16, or of its normal numbers.
WIDE = ("fp64", "fp32")
#: Where numbers differ by less than float32 can tell.
FINE = ("fp64",)
CLOSE = 2.0**-40
#: Where the sums of an exact exercise are above 2^8.
LONG = ("fp64", "fp32", "fp16")
SMALLEST = 2.0**-6  # of a drawn number: none is at a kink by chance, or subnormal in float16

Given = tuple[int, ...] | np.ndarray


def case(
    subject: str,
    name: str,
    tensors: Mapping[str, Given],
    *,
    draw: str = "normal",
    body: str = "",
    by: tuple[str, ...] | None = None,
    layout: str = "",
    exact: bool = False,
    precisions: tuple[str, ...] = PRECISIONS,
    bound: float = 1e-10,
    **arguments: Any,
) -> Exercise:
    """An exercise of the operation `subject`, or of `body`, with its `arguments`.

    tensors     name -> a shape to fill, or the values
    draw        what a shape is filled with: "normal", "positive" numbers, or small "integers",
                which is what an exact exercise has anyway
    by          inputs to differentiate by; None: all floating-point ones
    layout      one of `adapters.exercise.LAYOUTS`: every input that can comes as such a view
    """
    digest = hashlib.sha256(f"{subject}/{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    kind = "integers" if exact else draw
    inputs = {n: drawn(rng, t, kind) if isinstance(t, tuple) else t for n, t in tensors.items()}
    floats = tuple(n for n, value in inputs.items() if value.dtype.kind == "f")
    axes = 2 if layout == "reversed" else 1
    views = {n: (layout, x.shape) for n, x in inputs.items() if layout and x.ndim >= axes}
    return Exercise(
        subject=subject,
        name=name,
        call=Call(body or subject, arguments, views),
        inputs=inputs,
        by=floats if by is None else by,
        exact=exact,
        precisions=precisions,
        bound=bound,
    )


def drawn(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Small integers, which every precision holds, or numbers with all of float64's digits."""
    if kind == "integers":
        return np.asarray(rng.integers(-2, 3, shape), np.float64)
    x = rng.normal(size=shape)
    x = np.copysign(np.maximum(np.abs(x), SMALLEST), x)
    return np.asarray(np.abs(x) if kind == "positive" else x)


def floats(*values: Any) -> np.ndarray:
    """A tensor of these values, rounded to what every precision holds."""
    return coarse(np.array(values, np.float64))


def integers(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def booleans(*values: Any) -> np.ndarray:
    """Of rows of 0 and 1."""
    return np.array(values, bool)


def shuffled(*shape: int, seed: int = 0) -> np.ndarray:
    """The integers from 0 on, in random order: no two are equal."""
    size = int(np.prod(shape))
    return np.random.default_rng(seed).permutation(size).reshape(shape).astype(np.float64)


def labels(classes: int, n: int) -> np.ndarray:
    """(n,) integers below `classes`."""
    return np.random.default_rng(n).integers(0, classes, n)
