"""Judges the results of exercises: single operations and small compositions of them.

Shape and dtype come first, then the positions of NaN and of infinities; then

    an exact exercise, integers, booleans   every element equals the reference, in every precision
    fp64                                    the identity gate, as for models (`numerics.judge`)
    fp32, bf16, fp16                        the ratio of the error to the noise floor in that
                                            precision, as for models
    of elementwise operations               the worst element as well, in units in the last place
                                            (`numerics.ulp`)

The reference is what NumPy computes in float64 from the very same inputs, which every precision
holds exactly. A result that is within one unit roundoff of it cannot be better, so no floor is
below that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from numerics import judge, ulp
from numerics.errors import normwise
from numerics.exercises import Exercise, along_directions, projected
from numerics.judge import Judgement

Tensors = Mapping[str, np.ndarray]

#: Precision -> dtype of a floating-point result at the boundary: NumPy has no bfloat16.
DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "float32", "fp16": "float16"}
SOURCE = "numpy in float64"
MAJORITY = 2  # other frameworks that outvote NumPy together with the one that is judged


def results(
    exercise: Exercise,
    tensors: Tensors,
    reference: Tensors,
    floors: Mapping[str, float],
    precision: str,
) -> list[Judgement]:
    """One judgement per result. `reference` and `floors` are by the names in `tensors`; floors are
    those of `precision`, relative."""
    rows = [
        _judged(exercise, name, value, reference, floors.get(name, 0.0), precision)
        for name, value in tensors.items()
    ]
    return _worst(rows) if exercise.worst else rows


def _worst(rows: Sequence[Judgement]) -> list[Judgement]:
    """Of each quantity the row that is furthest off."""
    by_quantity: dict[str, list[Judgement]] = defaultdict(list)
    for row in rows:
        by_quantity[row.quantity].append(row)
    return [max(those, key=_badness) for those in by_quantity.values()]


def _badness(row: Judgement) -> tuple[int, float]:
    bad = {"mistrusted": 1, "divergent": 2}.get(row.verdict, 0)
    return bad, row.error if row.ratio is None else row.ratio


def second_opinion(
    exercises: Iterable[Exercise],
    own: Mapping[str, Tensors],
    others: Mapping[str, Mapping[str, Tensors]],
    rows: Sequence[Judgement],
) -> list[Judgement]:
    """`rows` of a float64 case; where an adapter that diverges from NumPy agrees with two other
    frameworks, it is NumPy that is mistrusted.

    own         key of the exercise -> its results
    others      framework -> key of the exercise -> its results
    """
    agreeing: dict[tuple[str, str], list[str]] = defaultdict(list)
    for exercise in exercises:
        for name, value in own.get(exercise.key, {}).items():
            for framework, results_ in others.items():
                theirs = results_.get(exercise.key, {}).get(name)
                if theirs is not None and normwise(value, theirs) <= judge.IDENTITY:
                    agreeing[label(exercise, name)].append(framework)
    return [_doubted(row, agreeing[row.quantity, row.tensor]) for row in rows]


def _doubted(row: Judgement, agreeing: Sequence[str]) -> Judgement:
    if row.verdict != "divergent" or len(agreeing) < MAJORITY:
        return row
    reason = f"numpy is the odd one out: {', '.join(agreeing)} give the same as this adapter"
    return replace(row, verdict="mistrusted", reason=reason)


def _judged(
    exercise: Exercise,
    name: str,
    value: np.ndarray,
    reference: Tensors,
    floor: float,
    precision: str,
) -> Judgement:
    quantity, tensor = label(exercise, name)
    if name not in reference:
        reason = "numpy has no such result"
        return Judgement(quantity, tensor, math.inf, None, None, "mistrusted", SOURCE, reason)
    wanted = reference[name]
    by = name.removeprefix("gradient:")
    if by != name and along_directions(exercise, by):
        shaped = np.broadcast_to(0.0, exercise.handed[by].shape)
        problem = misfit(value, shaped, precision)
        value = projected(exercise, by, value) if not problem else value
    else:
        problem = misfit(value, wanted, precision)
    if problem:
        return Judgement(quantity, tensor, math.inf, None, None, "divergent", SOURCE, problem)
    if exercise.exact or wanted.dtype.kind != "f":
        wrong = int(np.sum(~_equal(value, wanted)))
        error = normwise(value, wanted) if wrong else 0.0
        reason = f"{wrong} of {wanted.size} elements differ, but none may" if wrong else ""
        verdict = "divergent" if wrong else "bitwise"
        return Judgement(quantity, tensor, error, None, None, verdict, SOURCE, reason)
    return _by_element(exercise, name, value, wanted, floor, precision)


def _by_element(
    exercise: Exercise,
    name: str,
    value: np.ndarray,
    wanted: np.ndarray,
    floor: float,
    precision: str,
) -> Judgement:
    """By norms; where the operation acts on each element alone, by the worst of them as well."""
    row = _by_norm(exercise, name, value, wanted, floor, precision)
    most = ulp.allowed(exercise.call.body, precision) if row.quantity == "output" else None
    if most is None:
        return row
    away, place = ulp.farthest(value, wanted, precision)
    if away <= most:
        return replace(row, ulp=away)
    where = ", ".join(map(str, np.unravel_index(place, wanted.shape)))
    reason = (
        f"element ({where}) is {value.flat[place]:.9g}, but should be {wanted.flat[place]:.9g}: "
        f"{away:.3g} units in the last place away, but at most {most:g} are allowed"
    )
    return replace(row, verdict="divergent", reason=reason, ulp=away)


def _by_norm(
    exercise: Exercise,
    name: str,
    value: np.ndarray,
    wanted: np.ndarray,
    floor: float,
    precision: str,
) -> Judgement:
    error = 0.0 if wanted.size == 0 else normwise(value, wanted)
    floor = max(floor, 2.0 ** -judge.BITS[precision])
    ratio = error / floor
    if precision == "fp64":
        if judge.PRECISION_EQUAL * floor > exercise.bound:
            same = judge.verdict_of(ratio, error) != "divergent"
            return _row(exercise, name, error, floor, ratio, "identical" if same else "divergent")
        verdict = "identical" if error <= exercise.bound else "divergent"
        return _row(exercise, name, error, None, None, verdict)
    return _row(exercise, name, error, floor, ratio, judge.verdict_of(ratio, error))


def _row(
    exercise: Exercise,
    name: str,
    error: float,
    floor: float | None,
    ratio: float | None,
    verdict: str,
) -> Judgement:
    return Judgement(*label(exercise, name), error, floor, ratio, verdict, SOURCE)


def label(exercise: Exercise, name: str) -> tuple[str, str]:
    """`gradient:x` of the exercise "odd sizes" -> ("gradient", "odd sizes: x")."""
    quantity, _, tensor = name.partition(":")
    number = quantity.removeprefix("output")
    told = tensor or (f"result {number}" if number and quantity.startswith("output") else "")
    quantity = "output" if quantity.startswith("output") else quantity
    return quantity, f"{exercise.name}: {told}" if told else exercise.name


def misfit(value: np.ndarray, wanted: np.ndarray, precision: str) -> str:
    """Why a result cannot even be compared, or the empty string."""
    if value.shape != wanted.shape:
        return f"the shape is {value.shape}, but should be {wanted.shape}"
    if wanted.dtype.kind == "f":
        dtype = DTYPES[precision]
    elif wanted.dtype.kind in "iu" and wanted.dtype.itemsize > 1:
        dtype = value.dtype.name if value.dtype.kind in "iu" else "an integer"  # of any width
    else:
        dtype = wanted.dtype.name
    if value.dtype.name != dtype:
        return f"the dtype is {value.dtype.name}, but should be {dtype}"
    if wanted.dtype.kind != "f":
        return ""
    for what, test in (("NaN", np.isnan), ("infinite", np.isinf)):
        if not np.array_equal(test(value), test(wanted)):
            count = int(np.sum(test(value) != test(wanted)))
            return f"{count} of {value.size} elements are {what} where they should not be, or not"
    return ""


def _equal(value: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    same = value == wanted
    if wanted.dtype.kind == "f":
        same |= np.isnan(value) & np.isnan(wanted)
    return same
