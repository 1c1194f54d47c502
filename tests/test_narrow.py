"""16-bit reductions of many terms: what is added in 16 bits is caught, whatever the noise floor."""

import math

import ml_dtypes
import numpy as np
import pytest

from numerics import examination
from numerics.exercises import expected
from suites.conformance.tables import narrow

KINDS = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
TABLE = {exercise.subject: exercise for exercise in narrow.exercises()}


def added(x, dtype):
    """Terms one after the other, with every sum rounded."""
    total = dtype(0)
    for term in np.asarray(x).astype(dtype).ravel():
        total = dtype(total + term)
    return float(total)


def naive(subject, inputs, dtype):
    """The result with its sum in `dtype`."""
    with np.errstate(over="ignore"):
        if subject == "mean":
            return np.array([added(inputs["x"], dtype) / narrow.TERMS])
        if subject == "norm":
            return np.array([math.sqrt(added(inputs["x"] ** 2, dtype))])
        return np.array(added((inputs["x"] - inputs["target"]) ** 2, dtype) / narrow.TERMS)


@pytest.mark.parametrize("precision", KINDS)
@pytest.mark.parametrize("subject", ["mean", "norm", "mse"])
def test_sums_in_16_bits_are_caught_whatever_the_floor(subject, precision):
    exercise = TABLE[subject].at(precision)
    reference = expected(exercise)
    right = reference["output"].astype(KINDS[precision])
    wrong = naive(subject, exercise.inputs, KINDS[precision]).astype(KINDS[precision])
    verdicts = []
    for value in (right, wrong):
        told = value.astype(examination.DTYPES[precision])
        (row,) = examination.results(
            exercise, {"output": told}, reference, {"output": 10.0}, precision
        )
        verdicts.append(row.verdict)
    assert verdicts[0] != "divergent"
    assert verdicts[1] == "divergent"


def test_results_are_in_range_and_what_they_are_made_of_is_not():
    for exercise in TABLE.values():
        for value in expected(exercise).values():
            assert np.abs(value).max() < np.finfo(np.float16).max
    assert float(np.finfo(np.float16).max) < narrow.TERMS
