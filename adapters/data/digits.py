"""Handwritten digits (UCI optical recognition), which scikit-learn carries: 1,797 images of 8 x 8
with 17 grey levels. As images, and row by row as sequences."""

from __future__ import annotations

from functools import cache

import numpy as np

from adapters.data.common import check, repeated, resize

#: SHA-256 of scikit-learn's digits (1,797 images of 8 x 8, float64) followed by their labels.
DIGITS_SHA256 = "f6d9e39f37dc45d327f6db33428ee58970ccceabb2535a5c179de35886b70443"
HELD_OUT = 0.2  # the share of each digit that training does not see
SPLIT_SEED = 0


def digits(side: int, batch: int) -> dict[str, np.ndarray]:
    """The first `batch` handwritten digits of scikit-learn (UCI optical recognition), repeated
    when more are asked for.

    Returns x (batch, side, side, 1) float64, resized bilinearly, scaled to mean 0 and standard
    deviation 1 over the whole data set, and y (batch,) int64 in 0..9.
    """
    _, labels = originals()
    return _chosen(repeated(batch, len(labels)), side)


def digits_split(side: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training set, held-out set), each as `digits` returns it: 1,438 and 359 examples that
    share none. Of each digit one example in five is held out, chosen by a generator with seed
    `SPLIT_SEED`; both sets keep the order of the data."""
    _, labels = originals()
    rng = np.random.default_rng(SPLIT_SEED)
    held = np.zeros(len(labels), bool)
    for digit in range(10):
        of_it = rng.permutation(np.flatnonzero(labels == digit))
        held[of_it[: round(HELD_OUT * len(of_it))]] = True
    return _chosen(np.flatnonzero(~held), side), _chosen(np.flatnonzero(held), side)


def colour_digits_split(side: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training set, held-out set) of `digits_split` with three equal channels, (N, side, side,
    3), for networks that take colour."""
    train, held = ({**part, "x": np.repeat(part["x"], 3, axis=-1)} for part in digits_split(side))
    return train, held


def digit_rows(batch: int) -> dict[str, np.ndarray]:
    """The digits as sequences of their 8 rows: x (batch, 8, 8) float64, as (example, row, pixel),
    normalised as in `digits`, and y (batch,) int64 in 0..9."""
    return digit_sequence(batch, 1)


def digit_rows_split() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training set, held-out set) of `digits_split`, in the form of `digit_rows`."""
    train, held = ({**part, "x": part["x"][..., 0]} for part in digits_split(8))
    return train, held


def digit_sequence(batch: int, length: int) -> dict[str, np.ndarray]:
    """The rows of `length` consecutive digits, one after the other.

    Returns x (batch, 8 * length, 8) float64, as (example, row, pixel), normalised as in `digits`,
    and y (batch,) int64: the label of the last digit. An example begins where the one before
    ended, and examples repeat when the data is used up.
    """
    images, labels = originals()
    start = length * repeated(batch, len(labels) // length)
    chosen = start[:, None] + np.arange(length)  # (N, length)
    x = normalised(images[chosen]).reshape(batch, 8 * length, 8)
    return {"x": x, "y": labels[chosen[:, -1]]}


@cache
def originals() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) float64 with values 0..16, and labels (1797,) int64; not writable."""
    from sklearn.datasets import load_digits  # here, because a worker never loads data

    bunch = load_digits()
    images = np.ascontiguousarray(bunch.images, np.float64)
    labels = np.ascontiguousarray(bunch.target, np.int64)
    check("scikit-learn's digits", images.tobytes() + labels.tobytes(), DIGITS_SHA256)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def normalised(ink: np.ndarray) -> np.ndarray:
    """Values 0..16 scaled to mean 0 and standard deviation 1 over the whole data set."""
    images, _ = originals()
    return (ink - images.mean()) / images.std()


def _chosen(indices: np.ndarray, side: int) -> dict[str, np.ndarray]:
    images, labels = originals()
    return {"x": normalised(resize(images[indices], side)[..., None]), "y": labels[indices]}
