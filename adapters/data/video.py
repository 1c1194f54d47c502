"""Films: a handwritten digit that moves and is reflected at the borders."""

from __future__ import annotations

import numpy as np

from adapters.data.common import repeated, resize
from adapters.data.digits import normalised, originals

SEED = 0


def video(frames: int, side: int, batch: int) -> dict[str, np.ndarray]:
    """A digit, half as wide as the picture, that moves straight on and bounces.

    Returns x (batch, frames, side, side, 1) float64, normalised as in `digits`, and y (batch,)
    int64 in 0..9: which digit. Place and speed differ between examples: on each axis the digit
    crosses between half and all of its room in the film, placed on whole pixels. Repeated after
    1,797 examples.
    """
    images, labels = originals()
    chosen = repeated(batch, len(labels))
    edge = (side + 1) // 2
    drawn = resize(images[chosen], edge)  # (N, edge, edge)
    ink = np.zeros((batch, frames, side, side, 1))
    for n, example in enumerate(chosen):
        for t, (y, x) in enumerate(_path(int(example), frames, room=side - edge)):
            ink[n, t, y : y + edge, x : x + edge, 0] = drawn[n]
    return {"x": normalised(ink), "y": labels[chosen]}


def _path(example: int, frames: int, *, room: int) -> np.ndarray:
    """(frames, 2) whole pixels in 0..room: the upper left corner of a digit over time."""
    rng = np.random.default_rng([SEED, example])
    start = rng.uniform(0, 2 * room, 2)  # the second half of this range is the way back
    speed = rng.uniform(0.5, 1.0, 2) * room / max(1, frames - 1)
    way = (start + speed * np.arange(frames)[:, None]) % max(1, 2 * room)
    return np.rint(room - np.abs(way - room)).astype(int)
