"""Solids: handwritten digits stacked along a third axis, one changing into the next."""

from __future__ import annotations

import numpy as np

from adapters.data.common import repeated, resize, weights
from adapters.data.digits import normalised, originals

STACKED = 4  # digits in a solid


def volumes(depth: int, side: int, batch: int) -> dict[str, np.ndarray]:
    """Solids of four consecutive digits that blend into one another along the depth.

    Returns x (batch, depth, side, side, 1) float64, interpolated linearly along all three axes and
    normalised as in `digits`, and y of the same shape, float64: 1 where there is at least half of
    the full ink, else 0. A solid begins with the digit after the one before; after 449 they
    repeat.
    """
    images, _ = originals()
    start = STACKED * repeated(batch, len(images) // STACKED)
    digits = images[start[:, None] + np.arange(STACKED)]  # (N, 4, 8, 8)
    flat = resize(digits.reshape(-1, 8, 8), side).reshape(batch, STACKED, side, side)
    ink = np.einsum("dk,nkhw->ndhw", weights(STACKED, depth), flat)[..., None]
    return {"x": normalised(ink), "y": (ink >= 8).astype(np.float64)}
