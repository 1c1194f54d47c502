"""What a model file provides, and the discovery of model files.

A model is one file in `adapters/models/` that defines `MODEL`. Its name is the file's name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from adapters.ops import Array, Ops

Tensors = dict[str, np.ndarray]  # name -> values, in the boundary layout of `ops`


class Forward(Protocol):
    def __call__(
        self, ops: Ops, p: Mapping[str, Array], x: Array, *, config: Any, train: bool
    ) -> tuple[Array, dict[str, Array]]:
        """Returns (output, updated buffers). `p` holds parameters and buffers by name."""


@dataclass(frozen=True)
class Model:
    """A network at one or more sizes.

    sizes       size name -> configuration (any frozen value that `forward` understands)
    batch       size name -> examples per step when nothing else is asked for
    initial     (config, generator) -> (parameters, buffers), float64
    example     (config, batch) -> {"x": float64 inputs, "y": integer labels}, the same every time
    forward     the network
    recipe      how it is trained by default: a name in `adapters.training.RECIPES`
    lengths     sequence lengths worth a sweep; empty where the input is no sequence
    at_length   (config, length) -> the configuration for sequences of that length
    """

    sizes: Mapping[str, Any]
    batch: Mapping[str, int]
    initial: Callable[[Any, np.random.Generator], tuple[Tensors, Tensors]]
    example: Callable[[Any, int], Tensors]
    forward: Forward
    recipe: str
    lengths: Sequence[int] = ()
    at_length: Callable[[Any, int], Any] | None = None

    def config(self, size: str, length: int = 0) -> Any:
        """The configuration of a size, for sequences of `length` where that is not 0."""
        if not length:
            return self.sizes[size]
        if self.at_length is None:
            raise ValueError("this model has no sequence whose length could be set")
        return self.at_length(self.sizes[size], length)


def names() -> list[str]:
    """The names of all models, from the files in `adapters/models/`, imported or not."""
    import adapters.models

    return sorted(module.name for module in pkgutil.iter_modules(adapters.models.__path__))


def get(name: str) -> Model:
    """The model called `name`. Raises KeyError for a name that no file has."""
    if name not in names():
        raise KeyError(name)
    return importlib.import_module(f"adapters.models.{name}").MODEL


def weight(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal values with variance 2 / fan_in (He et al. 2015); the last axis is the output."""
    return rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[:-1])), shape)


def near(rng: np.random.Generator, value: float, *shape: int) -> np.ndarray:
    """Values within 10% of 1 around `value`. Biases, scales and running statistics start here
    rather than at 0 or 1, where a framework that ignores or swaps them could not be told."""
    return value + rng.uniform(-0.1, 0.1, shape)
