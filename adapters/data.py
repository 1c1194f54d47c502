"""Real inputs, from packages that carry them: no download, the same values everywhere."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np

#: SHA-256 of scikit-learn's digits (1,797 images of 8 x 8, float64) followed by their labels.
DIGITS_SHA256 = "f6d9e39f37dc45d327f6db33428ee58970ccceabb2535a5c179de35886b70443"


class DataError(Exception):
    """Installed data is not what it should be."""


def digits(side: int, batch: int) -> dict[str, np.ndarray]:
    """The first `batch` handwritten digits of scikit-learn (UCI optical recognition), repeated
    when more are asked for.

    Returns x (batch, side, side, 1) float64, resized bilinearly, scaled to mean 0 and standard
    deviation 1 over the whole data set, and y (batch,) int64 in 0..9.
    """
    images, labels = _digits()
    chosen = np.arange(batch) % len(labels)
    x = _resize(images[chosen], side)[..., None]
    return {"x": (x - images.mean()) / images.std(), "y": labels[chosen]}


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # here, because a worker never loads data

    bunch = load_digits()
    images = np.ascontiguousarray(bunch.images, np.float64)
    labels = np.ascontiguousarray(bunch.target, np.int64)
    found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if found != DIGITS_SHA256:
        raise DataError(
            f"scikit-learn's digits have SHA-256 {found}, but should have {DIGITS_SHA256}: "
            "another version of the data would make results incomparable"
        )
    return images, labels


def _resize(images: np.ndarray, side: int) -> np.ndarray:
    """(N, h, h) -> (N, side, side), bilinear with half-pixel centres and clamped borders."""
    old = images.shape[1]
    centre = np.clip((np.arange(side) + 0.5) * old / side - 0.5, 0, old - 1)
    low = np.minimum(centre.astype(int), old - 2)
    matrix = np.zeros((side, old))
    matrix[np.arange(side), low] = 1 - (centre - low)
    matrix[np.arange(side), low + 1] = centre - low
    return np.einsum("ij,njk,lk->nil", matrix, images, matrix)
