"""Exercises are judged by shape, dtype and values; every way to be wrong is found."""

import math

import ml_dtypes
import numpy as np
import pytest

from adapters.exercise import LAYOUTS, Call
from adapters.numpy_reference import NumpyOps
from harness.verdicts import divergence
from numerics import examination, exercises, judge
from numerics.exercises import Exercise, coarse
from results.records import Agreement, Case, decode, encode

X = np.array([1.0, -2.0, 0.5])
CASE = Case("operations", "infer", "exp", "tiny", "toy", "cpu", "fp32", 1)


def exercise(body="relu", **changes):
    return Exercise("relu", "usual", Call(body), {"x": X}, ("x",), **changes)


def verdict(value, wanted, *, precision="fp32", floor=0.0, **changes):
    found = examination.results(
        exercise(**changes), {"output": value}, {"output": wanted}, {"output": floor}, precision
    )
    return found[0]


def f32(x):
    return np.asarray(x, np.float32)


def test_values_are_judged_by_the_floor_of_their_precision():
    def told(value, **more):
        return verdict(value, X, body="gelu", **more).verdict

    assert told(f32(X)) == "bitwise"
    assert told(f32(X * (1 + 3e-7)), floor=1e-7) == "rounding-equal"
    assert told(f32(X * (1 + 3e-6)), floor=1e-7) == "divergent"
    assert told(f32(X * (1 + 3e-6)), floor=1e-7, precision="bf16") != "divergent"
    assert told(X * (1 + 1e-9), precision="fp64") == "divergent"
    assert told(X * (1 + 1e-12), precision="fp64") == "identical"


def test_elements_of_elementwise_operations_are_judged_by_units_in_the_last_place():
    """Beside 1e6, an error of 1 in 1e-6 is nothing to a norm."""
    wanted = np.array([1e6, 1e-6, 0.5])
    value = wanted * [1, 1 + 1e-4, 1]
    found = verdict(f32(value), wanted, body="exp")
    assert found.verdict == "divergent"
    assert found.ratio < judge.ROUNDING_EQUAL
    assert found.ulp == pytest.approx(1e-4 * 2**23 * 1e-6 / 2**-20, rel=0.01)
    assert "element (1) is" in found.reason
    assert "units in the last place away, but at most 4 are allowed" in found.reason
    assert found.reason in divergence([found], [found])
    assert verdict(f32(value), wanted, body="gelu").ulp is None
    near = verdict(f32(wanted), wanted, body="exp")
    assert (near.verdict, near.ulp <= 0.5) == ("rounding-equal", True)
    record = Agreement(CASE, "output", "usual", 0.0, None, None, "identical", "r", ulp=math.inf)
    assert decode(encode(record)) == record


@pytest.mark.parametrize(
    ("value", "wanted", "told"),
    [
        (f32(X[:2]), X, "the shape is (2,), but should be (3,)"),
        (X, X, "the dtype is float64, but should be float32"),
        (f32([1, np.nan, 2]), X, "1 of 3 elements are NaN"),
        (f32([1, np.inf, 2]), X, "1 of 3 elements are infinite"),
        (f32([1, 2]), np.array([1, 2]), "the dtype is float32, but should be an integer"),
        (np.array([1, 0]), np.array([True, False]), "but should be bool"),
        (np.array([1], np.int32), np.array([1], np.int8), "the dtype is int32, but should be int8"),
    ],
)
def test_what_cannot_be_compared_diverges(value, wanted, told):
    found = verdict(value, wanted)
    assert found.verdict == "divergent"
    assert found.error == math.inf
    assert told in found.reason


def test_integers_of_any_width_are_compared_exactly():
    assert verdict(np.array([3], np.int32), np.array([3])).verdict == "bitwise"
    found = verdict(np.array([3, 4], np.int32), np.array([3, 5]))
    assert (found.verdict, found.reason) == ("divergent", "1 of 2 elements differ, but none may")


def test_an_exact_exercise_allows_no_rounding_in_any_precision():
    for precision, dtype in (("fp64", "float64"), ("fp32", "float32"), ("fp16", "float16")):
        value = np.asarray([1.0, -2.0, 0.5], dtype)
        assert verdict(value, X, precision=precision, exact=True).verdict == "bitwise"
        value[1] = np.nextafter(value[1], value.dtype.type(0))
        assert verdict(value, X, precision=precision, exact=True).verdict == "divergent"


def test_nan_and_infinities_in_their_places_are_right():
    wanted = np.array([np.nan, np.inf, -np.inf, 2.0])
    assert verdict(f32(wanted), wanted, exact=True).verdict == "bitwise"
    assert verdict(f32(-wanted), wanted).verdict == "divergent"


def test_nothing_is_equal_to_nothing():
    assert verdict(f32(np.zeros((0, 3))), np.zeros((0, 3))).verdict == "bitwise"
    assert verdict(f32(np.zeros((3, 0))), np.zeros((0, 3))).verdict == "divergent"


def test_a_result_that_numpy_does_not_have_is_mistrusted():
    found = examination.results(exercise(), {"output1": X}, {"output": X}, {}, "fp64")
    assert found[0].verdict == "mistrusted"


def test_three_frameworks_that_agree_are_believed_rather_than_numpy():
    own = {"relu/usual": {"output": X}}
    (bad,) = examination.results(exercise(), {"output": X}, {"output": 2 * X}, {}, "fp64")
    assert bad.verdict == "divergent"
    one, two = {"jax": own}, {"jax": own, "tf": own, "odd": {"relu/usual": {"output": -X}}}
    assert examination.second_opinion([exercise()], own, one, [bad]) == [bad]
    (found,) = examination.second_opinion([exercise()], own, two, [bad])
    assert found.verdict == "mistrusted"
    assert found.reason == "numpy is the odd one out: jax, tf give the same as this adapter"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("output", ("output", "usual")),
        ("output2", ("output", "usual: result 2")),
        ("gradient:x", ("gradient", "usual: x")),
    ],
)
def test_results_have_names_for_people(name, told):
    assert examination.label(exercise(), name) == told


# -- references ------------------------------------------------------------------------------------


def test_the_reference_has_outputs_and_gradients_by_complex_steps():
    found = exercises.expected(exercise())
    seeds = exercises.cotangents(exercise(), {"output": X})
    np.testing.assert_array_equal(found["output"], [1.0, 0.0, 0.5])
    np.testing.assert_allclose(found["gradient:x"], seeds["output"] * [1, 0, 1], rtol=1e-15)


def test_views_are_handed_over_as_what_they_are_views_of_and_put_right():
    x = coarse(np.arange(6.0).reshape(2, 3))
    stored = {"reversed": (3, 2), "broadcast": (1, 3), "offset": (7,), "gapped": (2, 3, 2)}
    for layout in LAYOUTS:
        call = Call("relu", views={"x": (layout, x.shape)})
        one = Exercise("relu", layout, call, {"x": x}, ("x",))
        assert one.handed["x"].shape == stored[layout]
        found = exercises.expected(one)
        shown = np.broadcast_to(x[:1], x.shape) if layout == "broadcast" else x
        np.testing.assert_array_equal(found["output"], shown)
        assert found["gradient:x"].shape == stored[layout]


class Strides(NumpyOps):
    """Remembers how what comes to `relu` lies in memory."""

    def relu(self, x):
        self.seen = np.array(x.strides) // x.itemsize
        return super().relu(x)


@pytest.mark.parametrize(
    ("layout", "strides"),
    [("reversed", [1, 2]), ("broadcast", [0, 1]), ("offset", [3, 1]), ("gapped", [6, 2])],
)
def test_views_are_views(layout, strides):
    ops, call = Strides(), Call("relu", views={"x": (layout, (2, 3))})
    one = Exercise("relu", layout, call, {"x": np.ones((2, 3))})
    one.call(ops, one.handed)
    assert list(ops.seen) == strides


def large(**changes):
    """An exercise whose gradient is compared along directions."""
    x = np.random.default_rng(0).normal(size=(70, 9)).astype(np.float32).astype(np.float64)
    return Exercise("tanh", "large", Call("tanh", **changes), {"x": x}, ("x",),
                    precisions=("fp64", "fp32"))  # fmt: skip


@pytest.mark.parametrize("strided", [False, True])
def test_a_large_gradient_is_compared_along_directions(strided):
    exercise = large(views={"x": ("reversed", (70, 9))} if strided else {})
    reference = exercises.expected(exercise)
    assert reference["gradient:x"].shape == (exercises.DIRECTIONS,)
    handed = exercise.handed["x"]
    wide = handed.T if strided else handed
    seed = exercises.cotangents(exercise, {"output": reference["output"]})["output"]
    right = seed * (1 - np.tanh(wide) ** 2)
    right = np.ascontiguousarray(right.T) if strided else right

    def verdict(gradient, precision="fp64"):
        (row,) = examination.results(
            exercise, {"gradient:x": gradient}, reference, {}, precision
        )  # fmt: skip
        return row.verdict, row.reason

    assert verdict(right)[0] == "identical"
    assert verdict(right.astype(np.float32), "fp32")[0] == "rounding-equal"
    for place in (0, -1):  # one element of 630
        wrong = right.copy()
        wrong.flat[place] *= 1 + 1e-6
        assert verdict(wrong)[0] == "divergent"
    assert "the shape is (9,)" in verdict(right[0] if not strided else right[:, 0][:9])[1]
    right[3, 3] = np.nan
    assert "1 of 630 elements are NaN" in verdict(right)[1]


def test_of_many_sizes_the_worst_is_told():
    call = Call("sizes:each", {"operation": "exp", "sizes": {"n=1": {"x": [1]}, "n=3": {"x": [3]}}})
    exercise = Exercise("exp", "sizes", call, {"x": coarse(np.arange(3.0))}, worst=True)
    reference = exercises.expected(exercise)
    assert set(reference) == {"output:n=1", "output:n=3"}
    wrong = {**reference, "output:n=3": reference["output:n=3"] + 1e-3}
    (row,) = examination.results(exercise, wrong, reference, {}, "fp64")
    assert (row.quantity, row.tensor, row.verdict) == ("output", "sizes: n=3", "divergent")
    (row,) = examination.results(exercise, reference, reference, {}, "fp64")
    assert row.verdict == "identical"


def test_every_precision_is_given_all_the_digits_that_it_holds():
    fine = Exercise("relu", "fine", Call("relu"), {"x": np.array([1 / 3]), "n": np.array([3])})
    held = {"fp64": np.float64, "fp32": np.float32, "bf16": ml_dtypes.bfloat16, "fp16": np.float16}
    seen = set()
    for precision, dtype in held.items():
        given = fine.at(precision)
        (x,) = given.inputs["x"]
        seeds = exercises.cotangents(given, {"output": np.zeros(9)})["output"]
        assert x == np.float64(dtype(1 / 3))
        np.testing.assert_array_equal(seeds, seeds.astype(dtype).astype(np.float64))
        assert given.inputs["n"] == 3
        seen |= {x, given.digest}
    assert len(seen) == 8


def test_coarse_values_survive_bfloat16():
    values = coarse(np.random.default_rng(0).normal(size=1000))
    bits = values.astype(np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    np.testing.assert_array_equal(coarse(values), values)


def test_the_digest_changes_with_whatever_matters():
    told = {
        exercise().digest,
        exercise(exact=True).digest,
        Exercise("relu", "usual", Call("relu"), {"x": -X}, ("x",)).digest,
        Exercise("relu", "usual", Call("relu"), {"x": X}).digest,
        Exercise("relu", "usual", Call("gelu"), {"x": X}, ("x",)).digest,
    }
    assert len(told) == 5
    assert exercise().digest == exercise().digest
