"""Faults that the judge of operations once missed: each is planted in NumPy's own vocabulary, which
is right otherwise, and some row of the table has to come out divergent."""

import numpy as np
import pytest

from adapters.numpy_reference import NumpyOps
from numerics import examination
from numerics.exercises import expected
from suites.conformance.operations import exercises

OPERATIONS = sorted({exercise.subject for exercise in exercises()})


class Planted(NumpyOps):
    """`change(sound, *arguments, **keywords)` in place of the operation `name`."""

    def __init__(self, name, change):
        sound = getattr(NumpyOps(), name)
        setattr(self, name, lambda *args, **keywords: change(sound, *args, **keywords))


def verdicts(ops, subject, precision="fp64"):
    """Verdicts by label of everything that the table asks about an operation."""
    found = {}
    for exercise in exercises():
        if exercise.subject == subject and precision in exercise.precisions:
            given = exercise.at(precision)
            own = {n: as_told(v, precision) for n, v in expected(given, ops).items()}
            for row in examination.results(given, own, expected(given), {}, precision):
                found[f"{row.quantity} {row.tensor}"] = row.verdict
    return found


def as_told(value, precision):
    return value.astype(examination.DTYPES[precision]) if value.dtype.kind == "f" else value


def caught(ops, subject, precision="fp64"):
    found = verdicts(ops, subject, precision)
    return {label for label, verdict in found.items() if verdict == "divergent"}


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_what_is_right_is_not_accused(precision):
    for subject in OPERATIONS:
        assert not caught(NumpyOps(), subject, precision), subject


# -- float64 that is float32 ---------------------------------------------------------------------

#: Operations in which nothing is a floating-point number, and the one that rounds by itself.
WITHOUT_FLOATS = {"floor_divide", "one_hot"}
ROUNDS_ITSELF = {"cast"}


def narrowed(x):
    """What is left of float64, or of complex numbers made of it, in float32."""
    if isinstance(x, list | tuple):
        return type(x)(narrowed(part) for part in x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "fc":
        narrow = np.complex64 if x.dtype.kind == "c" else np.float32
        return x.astype(narrow).astype(x.dtype)
    return x


def in_float32(sound, *arguments, **keywords):
    given = {name: narrowed(value) for name, value in keywords.items()}
    with np.errstate(all="ignore"):
        return narrowed(sound(*map(narrowed, arguments), **given))


@pytest.mark.parametrize("subject", sorted(set(OPERATIONS) - WITHOUT_FLOATS - ROUNDS_ITSELF))
def test_float64_that_is_float32_is_caught_in_every_operation(subject):
    assert caught(Planted(subject, in_float32), subject)
