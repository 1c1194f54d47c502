"""What Hypothesis draws for the suites can be judged: small enough, and with an expected result."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from adapters.numpy_reference import NumpyOps
from numerics.exercises import ELEMENTS, expected
from suites.conformance.properties import FAMILIES

NUMPY = NumpyOps()


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_exercises_have_a_reference(family):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(FAMILIES[family])
    def check(exercise):
        assert sum(exercise.inputs[name].size for name in exercise.by) <= ELEMENTS
        outputs = exercise.call(NUMPY, exercise.handed)
        assert all(np.isfinite(value).all() for value in outputs.values())

    check()


def test_other_values_are_another_exercise():
    keys = {}

    @settings(max_examples=100, deadline=None)
    @given(FAMILIES["broadcasting"])
    def check(exercise):
        kept = keys.setdefault(exercise.key, exercise)
        for name, value in exercise.inputs.items():
            np.testing.assert_array_equal(value, kept.inputs[name])

    check()
    assert len(keys) > 20
    one = next(iter(keys.values()))
    assert any(name.startswith("gradient:") for name in expected(one))
