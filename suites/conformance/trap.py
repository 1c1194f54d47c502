"""A trap: something that frameworks do differently by default, and how its table is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.exercise import Call
from adapters.numpy_optimizers import Optimizer
from adapters.training import RECIPES
from numerics.exercises import PRECISIONS, Exercise, cotangents, expected

Tensors = Mapping[str, np.ndarray]

ALL = PRECISIONS
FLOATS = ("fp64", "fp32")
FP64 = ("fp64",)
SIXTEEN = ("bf16", "fp16")


@dataclass(frozen=True)
class Trap:
    """Something that frameworks do differently by default.

    number      its place in the table, from 1
    slug        a short name
    title       what it is about
    pinned      what the vocabulary says, in one sentence
    exercises   where it shows
    recipes     training recipes in which it shows
    shown       the result of the first exercise that defaults are compared in: an output, or a
                `gradient:` by an input
    numbers     where defaults are compared in something else: the numbers that are pinned
    single      defaults are given float32, though what shows the trap runs in float64
    """

    number: int
    slug: str
    title: str
    pinned: str
    exercises: tuple[Exercise, ...] = ()
    recipes: tuple[str, ...] = ()
    shown: str = "output"
    numbers: tuple[float, ...] = ()
    single: bool = False

    @property
    def subject(self) -> str:
        return subject(self.number, self.slug)

    @property
    def told(self) -> dict[str, Any]:
        """What is recorded of it."""
        return {"trap": self.number, "title": self.title, "pinned": self.pinned}

    @property
    def precision(self) -> str:
        """The precision in which defaults are compared: float32, where the trap shows there."""
        if not self.exercises:
            return "fp64"
        there = self.exercises[0].precisions
        return "fp32" if "fp32" in there else there[0]

    @property
    def within(self) -> float:
        """The normwise error up to which a default gives what is pinned: 32 unit roundoffs of
        float32; of a spread that is estimated from random numbers 1%."""
        if self.numbers:
            return 1e-2
        if self.single or self.precision != "fp64":
            return 2.0**-19
        return self.exercises[0].bound if self.exercises else 1e-10

    def question(self) -> tuple[Tensors, np.ndarray]:
        """(what the default is given, what is pinned)."""
        if self.numbers:
            return {}, np.array(self.numbers)
        if not self.exercises:
            inputs, pinned = _training(self.recipes[0], decays=not self.single)
            return self._rounded(inputs), pinned
        exercise = self.exercises[0].at(self.precision)
        tensors = expected(exercise)
        inputs = dict(exercise.inputs)
        if self.shown.startswith("gradient:"):
            inputs["cotangent"] = cotangents(exercise, tensors)["output"]
        return self._rounded(inputs), tensors[self.shown]

    def _rounded(self, inputs: Tensors) -> Tensors:
        if self.precision == "fp64" and not self.single:
            return inputs
        return {n: v.astype(np.float32) if v.dtype.kind == "f" else v for n, v in inputs.items()}


def subject(number: int, slug: str) -> str:
    return f"trap{number:02d}_{slug}"


def _training(recipe: str, *, decays: bool) -> tuple[Tensors, np.ndarray]:
    """A parameter and the gradients of some steps, from large to as small as epsilon; pinned is the
    sum of the updates. Where nothing decays the parameter starts at 0, beside which float32 keeps
    the updates' digits, and gradients are so large that epsilon does not matter."""
    rng = np.random.default_rng(11)
    start = rng.normal(size=8) * decays
    scales = 10.0 ** -np.arange(8.0) if decays else 1e3
    gradients = rng.normal(size=(5, 8)) * scales
    optimizer, p = Optimizer(RECIPES[recipe]), start
    for g in gradients:
        p = p + optimizer.update({"p": p}, {"p": g})["p"]
    return {"p": start, "gradients": gradients}, p - start


class Maker:
    """Makes the exercises of one trap, whose inputs are drawn from a generator of its own."""

    def __init__(self, number: int, slug: str) -> None:
        self.number, self.slug = number, slug
        self._rng = np.random.default_rng(number)

    def drawn(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> np.ndarray:
        return np.asarray(mean + scale * self._rng.normal(size=shape))

    def __call__(
        self,
        name: str,
        body: str,
        inputs: Tensors,
        *,
        by: tuple[str, ...] = (),
        exact: bool = False,
        precisions: tuple[str, ...] = ALL,
        bound: float = 1e-10,
        **arguments: Any,
    ) -> Exercise:
        return Exercise(
            subject(self.number, self.slug),
            name,
            Call(body, arguments),
            inputs,
            by=by,
            exact=exact,
            precisions=precisions,
            bound=bound,
        )

    def trap(self, title: str, pinned: str, *made: Exercise, **more: Any) -> Trap:
        return Trap(self.number, self.slug, title, pinned, made, **more)
