"""Integers: the table has what it promises, and faults of kernels that compute with them are
caught, each planted in NumPy's vocabulary, which is right otherwise."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from adapters.exercise import LAYOUTS, Call
from adapters.numpy_reference import NumpyOps
from numerics import examination
from numerics.exercises import Exercise, expected
from suites.conformance.integers import exercises, in_quick
from suites.conformance.tables.integers import DTYPES, LENGTHS

TABLE = exercises()


def tail_ignored(sound, x, *, axis):
    return sound(x[..., : max(1, x.shape[-1] // 16 * 16)], axis=axis)


def last_of_ties(sound, x, *, axis):
    return x.shape[axis] - 1 - sound(np.flip(x, axis), axis=axis)


def unsigned_as_signed(sound, *xs, **keywords):
    seen = [x.view(np.int8) if x.dtype == np.uint8 else x for x in xs]
    result = sound(*seen, **keywords)
    return result.view(np.uint8) if result.dtype == np.int8 else result


def signed_as_unsigned(sound, *xs, **keywords):
    seen = [x.view(np.uint8) if x.dtype == np.int8 else x for x in xs]
    result = sound(*seen, **keywords)
    return result.view(np.int8) if result.dtype == np.uint8 else result


def in_floating_point(dtype):
    def change(sound, *xs, **keywords):
        return sound(*(x.astype(dtype) for x in xs), **keywords).astype(xs[0].dtype)

    return change


def index_by_float64(sound, x, *, axis):
    return sound(x.astype(np.float64), axis=axis)


def starts_from_zero(sound, x, *, axis):
    return np.maximum(sound(x, axis=axis), x.dtype.type(0))


def rounded_to_zero(sound, a, b):
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def by_the_negative(sound, x, k):
    indices = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, indices, axis=-1), indices


def in_32_bits(sound, *xs, **keywords):
    return sound(*(x.astype(np.int32) for x in xs), **keywords).astype(np.int64)


def selected_in_32_bits(sound, condition, a, b):
    return sound(condition, a.astype(np.int32), b.astype(np.int32)).astype(a.dtype)


def in_int64_alone(change):
    return lambda sound, *xs, **keywords: (
        change(sound, *xs, **keywords) if xs[0].dtype == np.int64 else sound(*xs, **keywords)
    )


#: What is wrong -> (operation, how, whether preset quick has to catch it).
FAULTS = {
    "argmax leaves a vector's tail out": ("argmax", tail_ignored, True),
    "max leaves a vector's tail out": ("max", tail_ignored, True),
    "argmax takes the last of those that tie": ("argmax", last_of_ties, True),
    "max compares uint8 as int8": ("max", unsigned_as_signed, True),
    "max compares int8 as uint8": ("max", signed_as_unsigned, True),
    "argmax compares uint8 as int8": ("argmax", unsigned_as_signed, True),
    "maximum compares uint8 as int8": ("maximum", unsigned_as_signed, True),
    "minimum compares int8 as uint8": ("minimum", signed_as_unsigned, False),
    "greater compares uint8 as int8": ("greater", unsigned_as_signed, True),
    "argmax compares int64 in float64": ("argmax", index_by_float64, True),
    "maximum computes in float64": ("maximum", in_floating_point(np.float64), True),
    "sum adds in float64": ("sum", in_floating_point(np.float64), False),
    "add in float32": ("add", in_floating_point(np.float32), False),
    "max starts from 0": ("max", starts_from_zero, True),
    "floor_divide rounds to zero": ("floor_divide", rounded_to_zero, True),
    "top_k sorts by the negative": ("top_k", by_the_negative, True),
    "int64 is int32": ("max", in_int64_alone(in_32_bits), True),
    "where selects in 32 bits": ("where", selected_in_32_bits, False),
}


class Planted(NumpyOps):
    """`change(sound, *arguments, **keywords)` in place of the operation `name`."""

    def __init__(self, name, change):
        sound = getattr(NumpyOps(), name)

        def op(**given):
            tensors = [given.pop(n) for n in ("condition", "x", "a", "b") if n in given]
            return change(sound, *tensors, **given)

        setattr(self, name, op)


@functools.cache
def reference(exercise_key):
    return expected(next(e for e in TABLE if e.key == exercise_key))


def caught(ops, exercise):
    with np.errstate(all="ignore"):
        results = {n: np.asarray(v) for n, v in exercise.call(ops, exercise.handed).items()}
    (row,) = examination.results(exercise, results, reference(exercise.key), {}, "fp32")
    return row.verdict == "divergent"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_and_by_preset_quick_where_it_should_be(fault):
    name, change, quick = FAULTS[fault]
    ops = Planted(name, change)
    own = [e for e in TABLE if e.subject == name and (not quick or in_quick(e))]
    assert any(caught(ops, e) for e in own)


def test_what_is_right_is_not_accused():
    assert not any(caught(NumpyOps(), e) for e in TABLE)


def test_every_subject_is_asked_in_every_layout_and_the_narrowest_and_widest_dtypes():
    for subject in {e.subject for e in TABLE}:
        names = [e.name for e in TABLE if e.subject == subject]
        for layout in LAYOUTS:
            assert any(name.endswith(f", {layout} view") for name in names), subject
        for dtype in DTYPES[:-1]:
            assert any(f", {dtype}" in name for name in names), subject
    assert len({e.key for e in TABLE}) == len(TABLE)


def test_lengths_are_on_both_sides_of_vectors_and_extremes_are_asked():
    for width in (8, 16, 32, 64, 128):
        assert {width - 1, width + 1} & set(LENGTHS)
    for exercise in TABLE:
        if exercise.subject in ("max", "argmax", "maximum", "greater", "floor_divide"):
            x = next(iter(exercise.inputs.values()))
            if x.dtype != bool:
                assert {np.iinfo(x.dtype).min, np.iinfo(x.dtype).max} <= set(x.ravel().tolist())


def test_nothing_overflows():
    """In Python's integers the results are the same."""
    for exercise in TABLE:
        if exercise.subject in ("add", "subtract", "multiply", "absolute", "floor_divide", "sum"):
            wide = {n: x.astype(object) for n, x in exercise.handed.items()}
            for name, value in exercise.call(Exact(), wide).items():
                wanted = reference(exercise.key)[name]
                given = next(iter(exercise.inputs.values())).dtype
                assert np.array_equal(value, wanted), f"{exercise.key}: {name}"
                assert np.array_equal(value, np.asarray(value, object).astype(given)), exercise.key


class Exact(NumpyOps):
    """Over Python's integers, of any size."""

    def absolute(self, x):
        return abs(x)


def test_preset_quick_asks_for_little():
    assert 0 < sum(map(in_quick, TABLE)) < len(TABLE) // 10


def test_integers_are_judged_exactly_whatever_the_exercise_says():
    exercise = Exercise("max", "one off", Call("max", {"axis": 0}), {"x": np.array([2**60])})
    (row,) = examination.results(exercise, {"output": np.array(2**60 + 1)},
                                 {"output": np.array(2**60)}, {}, "fp32")  # fmt: skip
    assert row.verdict == "divergent"
    wide = replace(exercise, inputs={"x": np.array([7], np.uint8)})
    for value, verdict in ((np.array(7), "bitwise"), (np.array(7.0), "divergent")):
        (row,) = examination.results(wide, {"output": value},
                                     {"output": np.array(7, np.uint64)}, {}, "fp32")  # fmt: skip
        assert row.verdict == verdict


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("layout", ["offset", "gapped"])
def test_what_a_view_of_narrow_integers_does_not_show_would_spoil_results(dtype, layout):
    x = np.arange(6, dtype=dtype).reshape(2, 3)
    views = {"x": (layout, x.shape)}
    exercise = Exercise("max", "view", Call("max", {"axis": 1}, views), {"x": x})
    stored = exercise.handed["x"]
    assert stored.dtype == x.dtype
    assert np.iinfo(dtype).max in stored
    assert np.array_equal(expected(exercise)["output"], [2, 5])
