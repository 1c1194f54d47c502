"""How far one tensor is from another."""

from __future__ import annotations

import math

import numpy as np


def normwise(x: np.ndarray, reference: np.ndarray) -> float:
    """||x - reference|| / ||reference|| in the 2-norm (Higham, Accuracy and Stability, 2002,
    section 6.2), computed in float64.

    0 when both are zero. Infinite when shapes differ, when the positions of NaN or of an infinity
    differ, or when the reference is zero and x is not.
    """
    if x.shape != reference.shape:
        return math.inf
    x, reference = x.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(reference)
    if not np.array_equal(x[~finite], reference[~finite], equal_nan=True):
        return math.inf
    if not np.isfinite(x[finite]).all():
        return math.inf
    difference = float(np.linalg.norm(x[finite] - reference[finite]))
    norm = float(np.linalg.norm(reference[finite]))
    if norm > 0:
        return difference / norm
    return 0.0 if difference == 0 else math.inf


def unusable(reference: np.ndarray) -> str | None:
    """Why nothing can be judged against `reference`, or None: it is empty, not finite, zero, or the
    same everywhere, as what was never computed is. No tensor of an honest case is."""
    if reference.size == 0:
        return "the reference is empty"
    if not np.isfinite(reference).all():
        return "the reference is not finite"
    if not reference.any():
        return "the reference is zero"
    if reference.size > 1 and (reference == reference.flat[0]).all():
        return "the reference is the same everywhere"
    return None
