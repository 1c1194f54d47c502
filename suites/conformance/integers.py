"""The table of operations on integers and booleans, and what preset quick asks of it."""

from __future__ import annotations

from functools import cache

from numerics.exercises import Exercise
from suites.conformance.tables import integers

#: What preset quick asks for: in what there are most mistakes to be made, and in dtypes that are
#: narrow, once signed and once not, and beyond float64.
SUBJECTS = ("max", "argmax", "maximum", "floor_divide", "greater", "top_k")
DTYPES = ("int8", "uint8", "int64")


@cache
def exercises() -> tuple[Exercise, ...]:
    """All of them."""
    return tuple(integers.exercises())


def in_quick(exercise: Exercise) -> bool:
    """Whether preset quick asks for it: dense tensors, and views of every other element."""
    _, dtype, *view = exercise.name.split(", ")
    return exercise.subject in SUBJECTS and dtype in DTYPES and view in ([], ["gapped view"])
