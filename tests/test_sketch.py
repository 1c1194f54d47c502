"""A sketch is as far from another as the tensors are."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerics.errors import normwise
from numerics.sketch import LARGE, SIZE, sketched

SPREAD = math.sqrt(2 / SIZE)


@given(st.integers(0, 2**32), st.sampled_from([1e-8, 1e-3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_distances_are_kept(seed, scale):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(LARGE // 64, 64))
    y = x + scale * rng.normal(size=x.shape)
    wanted, found = normwise(y, x), normwise(sketched("w", y), sketched("w", x))
    assert found == pytest.approx(wanted, rel=6 * 1.5 * SPREAD)  # of a ratio of two estimates


def test_one_wrong_element_is_seen():
    x = np.random.default_rng(0).normal(size=LARGE)
    y = x.copy()
    y[12345] += 1.0
    assert normwise(sketched("w", y), sketched("w", x)) > 0.5 / np.linalg.norm(x)


def test_small_tensors_stay_and_names_matter():
    small, large = np.ones(LARGE - 1), np.ones(LARGE)
    assert sketched("w", small) is small
    assert sketched("w", large).shape == (SIZE,)
    assert not np.array_equal(sketched("w", large), sketched("v", large))
    assert np.array_equal(sketched("w", large), sketched("w", large.copy()))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(bad):
    x = np.ones(LARGE)
    x[3] = bad
    assert np.isnan(sketched("w", x)).all()
