"""Short stand-ins for large tensors, whose distances are those of the tensors.

A model with a hundred million parameters has as many gradients and updates, in every member of the
oracle and in every disturbed run: more than memory holds. What is compared there is a count sketch
(Charikar, Chen and Farach-Colton 2002): every element is added, with a random sign, to one of SIZE
buckets. It is linear, and the square of its norm has the square of the tensor's norm as its mean,
with a relative standard deviation of at most sqrt(2 / SIZE). So the normwise error of a sketch is
that of the tensor within about sqrt(2 / SIZE), 4%: nothing beside the factor 4 between verdicts.
"""

from __future__ import annotations

import hashlib

import numpy as np

SIZE = 1024
LARGE = 16 * SIZE  # elements from which a sketch is worth it


def sketched(name: str, x: np.ndarray) -> np.ndarray:
    """(SIZE,) float64; buckets and signs depend on the name and on the number of elements alone. A
    small tensor is returned as it is, and one that is not finite gives NaN everywhere."""
    if x.size < LARGE:
        return x
    seed = int.from_bytes(hashlib.sha256(f"{name} {x.size}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    bucket = rng.integers(0, SIZE, x.size, np.int16)
    sign = rng.integers(0, 2, x.size, np.int8) * np.int8(2) - np.int8(1)
    values = x.ravel().astype(np.float64) * sign
    if not np.isfinite(values).all():
        return np.full(SIZE, np.nan)
    return np.bincount(bucket, values, SIZE)
