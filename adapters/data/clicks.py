"""Rows for a recommender: dense and categorical features of handwritten digits."""

from __future__ import annotations

from functools import cache

import numpy as np

from adapters.data.common import repeated
from adapters.data.digits import originals

DENSE = 13  # as many as in Criteo's click logs
LEVELS = 17  # grey levels of a pixel
LONGEST = 4  # pixels that make one id


def clicks(batch: int, fields: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Features of a digit and whether it is even: a yes-or-no answer as a click is one.

    Returns
      x/dense  (batch, 13) float64: its mean ink; ink of its quarters; centre and spread of the
               ink, down and across; the shares of empty and of full pixels; how alike the left and
               right, and the upper and lower halves are. Each has mean 0 and standard deviation 1
               over the data set
      x/ids    (batch, fields, 64 // fields) int64 below `vocabulary`: a field is a run of pixels.
               An id is a pixel's grey level, 0..16, and those after it in the picture, read as a
               number of base 17: as many as the vocabulary is large for, four at most. What is
               still too large wraps around
      y        (batch,) float64: 1 where the digit is even, else 0

    Repeated after 1,797 examples. Raises ValueError unless there are 1 to 64 fields.
    """
    if not 1 <= fields <= 64:
        raise ValueError(f"{fields} fields, but a digit's 64 pixels should make 1 to 64")
    images, labels = originals()
    chosen = repeated(batch, len(labels))
    grey = images[chosen].reshape(batch, 64).astype(np.int64)
    joined = 1
    while joined < LONGEST and LEVELS**joined < vocabulary:
        joined += 1
    number = sum(np.roll(grey, -k, axis=1) * LEVELS**k for k in range(joined)) % vocabulary
    per_field = 64 // fields
    ids = number[:, : fields * per_field].reshape(batch, fields, per_field)
    even = (labels[chosen] % 2 == 0).astype(np.float64)
    return {"x/dense": _dense()[chosen], "x/ids": ids, "y": even}


@cache
def _dense() -> np.ndarray:
    """(1797, 13) float64, as `clicks` describes them; not writable."""
    images, _ = originals()
    ink = images / images.sum(axis=(1, 2), keepdims=True)  # each digit's ink, 1 in all
    place = np.arange(8.0)
    columns = [images.mean(axis=(1, 2))]
    columns += [ink[:, y : y + 4, x : x + 4].sum(axis=(1, 2)) for y in (0, 4) for x in (0, 4)]
    for share in (ink.sum(axis=2), ink.sum(axis=1)):  # (N, 8): down, then across
        centre = share @ place
        columns += [centre, np.sqrt(share @ place**2 - centre**2)]
    columns += [(images == level).mean(axis=(1, 2)) for level in (0, LEVELS - 1)]
    columns += [np.abs(ink - np.flip(ink, axis)).sum(axis=(1, 2)) for axis in (2, 1)]
    dense = np.stack(columns, axis=1)
    dense = (dense - dense.mean(axis=0)) / dense.std(axis=0)
    dense.flags.writeable = False
    return dense
