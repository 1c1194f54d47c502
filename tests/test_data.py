"""Real inputs: what they are, and that other data is refused."""

import numpy as np
import pytest

from adapters import data


@pytest.mark.parametrize("side", [8, 14, 28])
def test_digits_are_normalised_images_with_labels(side):
    batch = data.digits(side, 1797)
    assert batch["x"].shape == (1797, side, side, 1)
    assert batch["x"].dtype == np.float64
    assert set(batch["y"]) == set(range(10))
    assert abs(batch["x"].mean()) < 0.05
    assert batch["x"].std() == pytest.approx(1.0, abs=0.15)  # resizing smooths


def test_digits_at_their_own_size_are_not_resized():
    x = data.digits(8, 3)["x"][..., 0]
    assert len(np.unique(np.round(x, 9))) <= 17  # the data has 17 grey levels


def test_a_small_batch_is_the_beginning_of_a_large_one_and_data_repeats():
    large = data.digits(8, 2000)
    np.testing.assert_array_equal(data.digits(8, 5)["x"], large["x"][:5])
    np.testing.assert_array_equal(large["x"][1797:], large["x"][:203])


def test_resizing_keeps_a_linear_ramp():
    ramp = np.broadcast_to(np.arange(8.0), (1, 8, 8))
    wide = data._resize(ramp, 16)[0, 0]
    np.testing.assert_allclose(np.diff(wide)[1:-1], 0.5)


def test_other_data_is_refused(monkeypatch):
    monkeypatch.setattr(data, "DIGITS_SHA256", "0" * 64)
    data._digits.cache_clear()
    with pytest.raises(data.DataError, match="SHA-256"):
        data.digits(8, 1)
    data._digits.cache_clear()
