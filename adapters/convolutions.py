"""What convolutional models share: a convolution whose result is batch-normalised."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adapters.model import Tensors, near, weight
from adapters.ops import Array, Ops

MOMENTUM = 0.1
EPSILON = 1e-5


class Initial:
    """Collects initial parameters and buffers under their names."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.params: Tensors = {}
        self.buffers: Tensors = {}

    def convolution(self, name: str, *shape: int, scale: float = 1.0) -> None:
        """A kernel (..., C, O) without bias, which the normalisation behind it would cancel. A
        residual branch ends with a small `scale`: a sum of many branches stays near its input."""
        rng, channels = self.rng, shape[-1]
        self.params[f"{name}/w"] = weight(rng, *shape)
        self.params[f"{name}/scale"] = near(rng, scale, channels)
        self.params[f"{name}/offset"] = near(rng, 0, channels)
        self.buffers[f"{name}/mean"] = near(rng, 0, channels)
        self.buffers[f"{name}/var"] = near(rng, 1, channels)

    def affine(self, name: str, *shape: int, scale: float = 1.0) -> None:
        """A weight (..., O) of any contraction, `scale` times as large as usual, and its bias."""
        self.params[f"{name}/w"] = scale * weight(self.rng, *shape)
        self.params[f"{name}/b"] = scale * near(self.rng, 0, shape[-1])


class Convolutions:
    """Normalised convolutions over the parameters and buffers `p`; `buffers` are the updated."""

    def __init__(self, ops: Ops, p: Mapping[str, Array], *, train: bool) -> None:
        self._ops, self._p, self._train = ops, p, train
        self.buffers: dict[str, Array] = {}

    def plane(
        self, name: str, x: Array, *, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> Array:
        """(N, H, W, C) -> (N, H', W', O)."""
        w = self._p[f"{name}/w"]
        x = self._ops.conv2d(x, w, stride=stride, padding=padding, groups=groups)
        return self._normalised(name, x)

    def volume(
        self,
        name: str,
        x: Array,
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        padding: tuple[int, int, int] = (0, 0, 0),
    ) -> Array:
        """(N, D, H, W, C) -> (N, D', H', W', O)."""
        x = self._ops.conv3d(x, self._p[f"{name}/w"], stride=stride, padding=padding)
        return self._normalised(name, x)

    def _normalised(self, name: str, x: Array) -> Array:
        p, mean, var = self._p, f"{name}/mean", f"{name}/var"
        x, self.buffers[mean], self.buffers[var] = self._ops.batch_norm(
            x,
            p[f"{name}/scale"],
            p[f"{name}/offset"],
            p[mean],
            p[var],
            train=self._train,
            momentum=MOMENTUM,
            epsilon=EPSILON,
        )
        return x
