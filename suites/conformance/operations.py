"""The exercises of the vocabulary's operations.

Every operation has a usual one, primes for sizes, size one, an empty tensor where that has a
meaning, and views of four layouts in memory; long sums, extreme values, NaN and infinities, ties
and kinks where it has such; and all of its arguments. `dropout` is judged by statistics elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from adapters.exercise import LAYOUTS
from adapters.numpy_reference import NumpyOps
from adapters.ops import LINEAR, Array
from numerics.exercises import Exercise, cotangents, expected

#: Significant bits of each precision.
BITS = {"fp64": 53, "fp32": 24, "fp16": 11, "bf16": 8}


@cache
def exercises() -> tuple[Exercise, ...]:
    """All of them. Made when they are asked for: importing this costs nothing."""
    from suites.conformance.tables import (
        contractions,
        elementwise,
        far,
        layout,
        losses,
        narrow,
        reductions,
    )

    families = (layout, elementwise, contractions, reductions, losses, far, narrow)
    made = (exercise for family in families for exercise in family.exercises())
    return tuple(laid_out for exercise in made for laid_out in _in_layouts(exercise))


def _in_layouts(exercise: Exercise) -> Iterator[Exercise]:
    """The exercise and, where it is one of reversed views, the same in all other layouts."""
    yield exercise
    if all(layout != "reversed" for layout, _ in exercise.call.views.values()):
        return
    for layout in LAYOUTS[1:]:
        views = {name: (layout, x.shape) for name, x in exercise.inputs.items() if x.ndim}
        name = exercise.name.replace("non-contiguous", f"{layout} view")
        yield replace(exercise, name=name, call=replace(exercise.call, views=views))


def holds(exercise: Exercise, bits: int) -> bool:
    """Whether an exact exercise is exact in floating-point numbers of `bits` significant bits,
    in whatever order they are added: they hold every result, and the sums of absolute values."""
    results = expected(exercise)
    floats = [value for value in results.values() if value.dtype.kind == "f"]
    return all(_fits(value, bits) for value in floats) and _largest_sum(exercise) <= 2.0**bits


def _fits(x: np.ndarray, bits: int) -> bool:
    mantissa, _ = np.frexp(x)
    return bool((mantissa * 2**bits == np.rint(mantissa * 2**bits)).all())


class _AbsoluteOps(NumpyOps):
    """Linear operations without cancellation, and means before they are divided."""

    def subtract(self, a: Array, b: Array) -> Array:
        return self.add(a, b)

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return self.sum(x, axis=axis)

    def avg_pool2d(self, x: Array, *, window: int, **options: Any) -> Array:
        return window**2 * super().avg_pool2d(x, window=window, **options)


def _largest_sum(exercise: Exercise) -> float:
    """Of the absolute values of what results and gradients are the sums of.

    What is not linear selects values; its gradient has no negative factors in a sum."""
    linear = exercise.subject in LINEAR | {"mean", "avg_pool2d"}
    ops = _AbsoluteOps() if linear else NumpyOps()
    inputs = dict(exercise.handed)
    if linear:
        inputs = {n: np.abs(x) if x.dtype.kind == "f" else x for n, x in inputs.items()}
    outputs = {n: np.asarray(v) for n, v in exercise.call(ops, inputs).items()}
    seeds = {n: np.abs(s) for n, s in cotangents(exercise, outputs).items()}

    def total(*xs: Array) -> Array:
        moved = exercise.call(ops, inputs | dict(zip(exercise.by, xs, strict=True)))
        return np.sum([np.sum(moved[name] * seed) for name, seed in seeds.items()])

    found = [value for value in outputs.values() if value.dtype.kind == "f"]
    if seeds:
        found += ops.gradient(total, *(inputs[name] for name in exercise.by))
    return max((float(np.abs(x).max()) for x in found if x.size), default=0.0)
