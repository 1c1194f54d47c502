"""The weights of `resize`, one axis at a time: a resized axis is its matrix times the axis.

Plain NumPy, which every framework's operations use too, so that all share the weights' definition
(`Ops.resize`) and differ in the arithmetic alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np

METHODS = ("nearest", "bilinear", "bicubic")


def matrix(old: int, new: int, *, method: str, antialias: bool) -> np.ndarray:
    """(new, old) in float64: row i holds the weights with which the inputs make output i.

    Raises ValueError for a method that is not in METHODS."""
    if method not in METHODS:
        raise ValueError(f"method {method!r}; there are {', '.join(METHODS)}")
    return _matrix(old, new, method, antialias).copy()  # a caller may keep or change its own


@cache
def _matrix(old: int, new: int, method: str, antialias: bool) -> np.ndarray:
    output, pixel = np.arange(new)[:, None], np.arange(old)
    if method == "nearest":
        nearest = (2 * output + 1) * old // (2 * new)  # floor((i + 1/2) old / new), in integers
        return (pixel == nearest).astype(np.float64)
    kernel = {"bilinear": _triangle, "bicubic": _keys}[method]
    centre = (output + 0.5) * old / new - 0.5
    stretch = max(old / new, 1.0) if antialias else 1.0
    weights = kernel(np.abs(pixel - centre) / stretch)
    return weights / weights.sum(axis=1, keepdims=True)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - distance, 0.0)


def _keys(distance: np.ndarray) -> np.ndarray:
    """Keys (1981), equation 15, which is the kernel with coefficient -1/2."""
    d = distance
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return np.where(d < 1.0, near, np.where(d < 2.0, far, 0.0))
