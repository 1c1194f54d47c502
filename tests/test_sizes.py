"""Sizes: the covering design covers, and what goes wrong at a size is caught, in each operation."""

import numpy as np
import pytest

from adapters.numpy_reference import NumpyOps
from adapters.ops import NAMES
from numerics import examination
from numerics.exercises import expected
from suites.conformance.covering import MODULI, covering, few
from suites.conformance.sizes import axes, exercises, in_quick
from tests.test_operations import EXAMINED

#: A threshold -> whether a tensor with these sides is beyond it.
THRESHOLDS = {
    "a side is a multiple of 17": lambda shape: any(n and n % 17 == 0 for n in shape),
    "a side is above 16": lambda shape: max(shape, default=0) > 16,
    "a side is 64 or more": lambda shape: max(shape, default=0) >= 64,
}
#: What has no axis: it makes tensors of nothing, or has two settings alone.
WITHOUT = {"constant", "cast"}


@pytest.mark.parametrize("limit", [66, 130, 1025, 2**15 + 1, 2**17 + 1])
def test_a_covering_has_every_remainder_and_both_sides_of_every_power(limit):
    sizes = covering(limit)
    for modulus in MODULI:
        assert {n % modulus for n in sizes} == set(range(modulus))
    for k in range(1, 18):
        assert {n for n in (2**k - 1, 2**k, 2**k + 1) if n <= limit} <= set(sizes)
    assert max(sizes) == limit
    assert len(sizes) < 64 + 3 * 17


def test_a_few_sizes_are_few_and_on_both_sides_of_thresholds():
    sizes = few(2**17 + 1)
    assert len(sizes) <= 15
    assert {16, 17, 34, 64, 65, 2**15, 2**15 + 1} <= set(sizes)
    assert {n % 8 for n in sizes} == set(range(8))


def test_every_operation_has_an_axis():
    assert {axis.operation for axis in axes()} == EXAMINED - WITHOUT
    keys = [exercise.key for exercise in exercises()]
    assert len(keys) == len(set(keys))


class WrongBeyond(NumpyOps):
    """Results are 1e-4 too large where a tensor of the operation is beyond a threshold."""


def _planted(name):
    sound = getattr(NumpyOps, name)

    def op(self, *arguments, **keywords):
        result = sound(self, *arguments, **keywords)
        given = [*arguments, *keywords.values()]
        given += [part for value in given if isinstance(value, list) for part in value]
        given += result if isinstance(result, tuple) else (result,)
        shapes = [value.shape for value in given if isinstance(value, np.ndarray)]
        if name == self.wrong and any(self.beyond(shape) for shape in shapes):
            return _disturbed(result)
        return result

    return op


def _disturbed(result):
    if isinstance(result, tuple):
        return tuple(_disturbed(part) for part in result)
    if result.dtype.kind in "fc":
        return result * (1 + 1e-4)
    return ~result if result.dtype == bool else result + np.ones((), result.dtype)


for _name in NAMES:
    if _name not in ("slice", "reshape", "shape"):
        setattr(WrongBeyond, _name, _planted(_name))


def caught(exercise, beyond):
    ops = WrongBeyond()
    ops.wrong, ops.beyond = exercise.subject, beyond
    results = exercise.call(ops, exercise.handed)
    reference = expected(exercise.__class__(**{**vars(exercise), "by": ()}))
    (row,) = examination.results(exercise, results, reference, {}, "fp64")
    return row.verdict == "divergent"


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_what_is_wrong_beyond_a_threshold_is_caught_in_preset_quick(threshold):
    quick = [e for e in exercises() if in_quick(e)]
    planted = [e for e in quick if e.subject not in ("slice", "reshape", "flatten")]
    missed = [e.key for e in planted if not caught(e, THRESHOLDS[threshold])]
    assert len(planted) > 100
    assert missed == []


def test_what_is_wrong_in_long_tensors_is_caught_in_preset_quick():
    long = [e for e in exercises() if in_quick(e) and e.name == "few sizes of elements"]
    assert len(long) > 20
    assert [e.key for e in long if not caught(e, lambda shape: np.prod(shape) > 2**15)] == []


def test_what_is_right_is_not_caught():
    assert not any(caught(e, lambda shape: False) for e in exercises() if in_quick(e))
