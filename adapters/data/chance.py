"""Chance as data: what dropout and diffusion draw comes with the batch, so that frameworks can be
compared to the last digit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapters.data.common import repeated, resize
from adapters.data.digits import originals

STEPS = 1000  # of the diffusion
FIRST_BETA, LAST_BETA = 1e-4, 0.02  # variances of the noise added in the first and last step


def keep_mask(shape: Sequence[int], rate: float, seed: int) -> np.ndarray:
    """A dropout mask of `shape`, float64: each value is 0 with probability `rate`, and otherwise
    1 / (1 - rate), so that the mean stays (Srivastava et al. 2014, "inverted"). The first rows
    are the same however many there are."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate {rate}, but should be at least 0 and below 1")
    keep = np.random.default_rng(seed).random(tuple(shape)) >= rate
    return keep / (1 - rate)


def noised(side: int, channels: int, batch: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Digits at a step of a diffusion, and the noise in them (Ho et al. 2020, "Denoising
    diffusion probabilistic models", section 4: 1,000 steps, beta from 1e-4 to 0.02, linear).

    Returns
      x/image  (batch, side, side, channels) float64: sqrt(a) image + sqrt(1 - a) noise, where the
               image has values in -1..1, the same in each channel, and a is the product of
               1 - beta over the steps so far
      x/time   (batch,) float64: the step, a whole number in 0..999; in step 0 one beta has been
               applied
      y        (batch, side, side, channels) float64: the noise, standard normal

    Repeated after 1,797 examples.
    """
    images, _ = originals()
    chosen = repeated(batch, len(images))
    clean = resize(images[chosen], side)[..., None] / 8 - 1  # (N, side, side, 1)
    time, noise = np.empty(batch, np.int64), np.empty((batch, side, side, channels))
    for n, example in enumerate(chosen):
        rng = np.random.default_rng([seed, int(example)])
        time[n] = rng.integers(STEPS)
        noise[n] = rng.standard_normal((side, side, channels))
    kept = np.cumprod(1 - np.linspace(FIRST_BETA, LAST_BETA, STEPS))
    a = kept[time][:, None, None, None]
    image = np.sqrt(a) * clean + np.sqrt(1 - a) * noise
    return {"x/image": image, "x/time": time.astype(np.float64), "y": noise}
