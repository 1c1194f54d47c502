"""What this machine can do at most: the rates that `peak_fraction` is a fraction of."""

import pytest

from results.metrics import LIMITS


@pytest.mark.parametrize("limit", LIMITS)
def test_limit(limit, measure_limit):
    assert measure_limit(limit) > 0
