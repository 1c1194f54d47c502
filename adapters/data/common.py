"""What every kind of data shares: the check of its bytes, repetition and resizing."""

from __future__ import annotations

import hashlib

import numpy as np


class DataError(Exception):
    """Installed data is not what it should be."""


def check(what: str, content: bytes, expected: str) -> None:
    """Raises DataError when the SHA-256 of `content` is not `expected`."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{what} have SHA-256 {found}, but should have {expected}: "
            "another version of the data would make results incomparable"
        )


def repeated(batch: int, count: int) -> np.ndarray:
    """(batch,) indices of the first `batch` of `count` examples, from the start again after
    the last."""
    return np.arange(batch) % count


def weights(old: int, new: int) -> np.ndarray:
    """(new, old): the matrix that resizes an axis linearly, with half-pixel centres and clamped
    borders. An axis that shrinks is smoothed first: its triangle is as wide as a new pixel."""
    if new < old:
        centre = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
        matrix = np.maximum(0, 1 - np.abs(centre - np.arange(old)) * new / old)
        return matrix / matrix.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    if old == 1:
        return matrix + 1
    centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(centre.astype(int), old - 2)
    matrix[np.arange(new), low] = 1 - (centre - low)
    matrix[np.arange(new), low + 1] = centre - low
    return matrix


def resize(images: np.ndarray, side: int) -> np.ndarray:
    """(N, h, h) -> (N, side, side), bilinear."""
    matrix = weights(images.shape[1], side)
    return np.einsum("ij,njk,lk->nil", matrix, images, matrix)
