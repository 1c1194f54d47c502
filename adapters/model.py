"""What a model file provides, and the discovery of model files.

A model is one file in `adapters/models/` that defines `MODEL`. Its name is the file's name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from adapters.ops import Array, Ops
from adapters.trees import Tree

Tensors = dict[str, np.ndarray]  # name -> values, in the boundary layout of `ops`


class Forward(Protocol):
    def __call__(
        self, ops: Ops, p: Mapping[str, Array], x: Tree, *, config: Any, train: bool
    ) -> tuple[Tree, dict[str, Array]]:
        """Returns (output, updated buffers). `p` holds parameters and buffers by name."""


class Generate(Protocol):
    def __call__(
        self, ops: Ops, p: Mapping[str, Array], x: Tree, *, config: Any
    ) -> tuple[Tree, dict[str, Array]]:
        """Returns (output, {}), like `Forward`."""


@dataclass(frozen=True)
class Published:
    """What a publication says of a model at a size; `gmac` are 1e9 multiply-adds of the forward
    pass of one example. Parameters whose names start with one of `without` do not count."""

    parameters: int
    source: str
    gmac: float | None = None
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """What training has to come to, on examples that it does not see.

    data        configuration -> (training examples, held-out examples), in the form of a batch
    score       (output, targets) of the held-out examples in NumPy -> a number
    name        what that is: "accuracy"
    target      the score to reach
    steps       how many steps it may take
    batch       examples per step
    recipe      how to train: a name in `adapters.training.RECIPES`
    every       steps between two evaluations
    held        how many of the held-out examples are used; 0: all
    rising      whether more is better
    compared    whether training is done for the goal's sake: to be compared between adapters. If
                not, it only gives parameters that are worth quantizing
    """

    data: Callable[[Any], tuple[Tensors, Tensors]]
    score: Callable[[Tree, Tree], float]
    name: str
    target: float
    steps: int
    batch: int
    recipe: str
    every: int = 10
    held: int = 0
    rising: bool = True
    compared: bool = True

    def reached(self, score: float) -> bool:
        return score >= self.target if self.rising else score <= self.target


def accuracy(output: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples whose largest logit is that of their label."""
    return float(np.mean(np.argmax(output, axis=-1) == labels))


def cross_entropy(ops: Ops, output: Array, y: Array) -> Array:
    """The loss of a model that says nothing else: logits (N, classes) against labels (N,)."""
    return ops.cross_entropy(output, y)


@dataclass(frozen=True)
class Model:
    """A network at one or more sizes.

    A batch has one input "x", or several, "x/ids" and "x/mask" say, which `forward` gets as a
    mapping; and so with targets "y" and `loss`. An output is one tensor or a mapping, too. The
    first axis of all of them is the batch. Whatever is drawn by chance, a dropout mask say, comes
    with the batch: then frameworks can be compared to the last digit.

    sizes       size name -> configuration (any frozen value that `forward` understands)
    batch       size name -> examples per step when nothing else is asked for
    initial     (config, generator) -> (parameters, buffers), float64
    example     (config, batch) -> float64 inputs and targets, integers where they are such, the
                same every time; an example is the same in a larger batch
    forward     the network
    recipe      how it is trained by default: a name in `adapters.training.RECIPES`
    loss        (ops, output, target) -> scalar, a mean over the batch
    generate    what mode "generate" runs in place of `forward`; None: there is no such mode
    goal        what training at size "tiny" has to come to; None: that is not tried
    long        after how many steps training at size "tiny" is judged at last, if not after 10: in
                lower precisions than float64 after 100 at most
    lengths     sequence lengths worth a sweep; empty where the input is no sequence
    at_length   (config, length) -> the configuration for sequences of that length
    published   size name -> what was published of it
    """

    sizes: Mapping[str, Any]
    batch: Mapping[str, int]
    initial: Callable[[Any, np.random.Generator], tuple[Tensors, Tensors]]
    example: Callable[[Any, int], Tensors]
    forward: Forward
    recipe: str
    loss: Callable[[Ops, Tree, Tree], Array] = cross_entropy
    generate: Generate | None = None
    goal: Goal | None = None
    long: int = 0
    lengths: Sequence[int] = ()
    at_length: Callable[[Any, int], Any] | None = None
    published: Mapping[str, Published] = field(default_factory=dict)

    def config(self, size: str, length: int = 0) -> Any:
        """The configuration of a size, for sequences of `length` where that is not 0."""
        if not length:
            return self.sizes[size]
        if self.at_length is None:
            raise ValueError("this model has no sequence whose length could be set")
        return self.at_length(self.sizes[size], length)

    @property
    def modes(self) -> tuple[str, ...]:
        """What it can be run for."""
        return ("infer", "train") if self.generate is None else ("infer", "train", "generate")


def names() -> list[str]:
    """The names of all models, from the files in `adapters/models/`, imported or not."""
    import adapters.models

    return sorted(module.name for module in pkgutil.iter_modules(adapters.models.__path__))


def get(name: str) -> Model:
    """The model called `name`. Raises KeyError for a name that no file has."""
    if name not in names():
        raise KeyError(name)
    return importlib.import_module(f"adapters.models.{name}").MODEL


#: (model, size, length) -> a batch: what a worker was given, which never loads data itself.
_GIVEN: dict[tuple[int, str, int], Tensors] = {}


def give(model: Model, size: str, length: int, batch: Tensors) -> None:
    """Says what examples of a model look like: from now on `one` need not load any."""
    _GIVEN[id(model), size, length] = batch


def one(model: Model, size: str, length: int = 0) -> Tensors:
    """One example, (1, ...), for its shapes and dtypes: of the batch that this process was given,
    else loaded."""
    given = _GIVEN.get((id(model), size, length))
    if given is None:
        return model.example(model.config(size, length), 1)
    return {name: value[:1] for name, value in given.items()}


def weight(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal values with variance 2 / fan_in (He et al. 2015); the last axis is the output."""
    return rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[:-1])), shape)


def near(rng: np.random.Generator, value: float, *shape: int) -> np.ndarray:
    """Values within 10% of 1 around `value`. Biases, scales and running statistics start here
    rather than at 0 or 1, where a framework that ignores or swaps them could not be told."""
    return value + rng.uniform(-0.1, 0.1, shape)
