"""Where a model goes wrong: the first operation whose error leaves the band while those of its
inputs are inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One result of an operation: what gave it, from which earlier results (numbers) and parameters
    (names), and how far value and gradient are outside: error over what is allowed, so that above 1
    is outside. `backward` is None where no gradient was taken."""

    name: str
    origins: Sequence[int | str]
    forward: float
    backward: float | None


def first_wrong(steps: Sequence[Step], parameters: Mapping[str, float]) -> str | None:
    """A sentence that names the culprit, or None where every operation is inside.

    parameters      name -> how far the gradient by it is outside, above 1 is

    Forward first: the first value outside whose inputs are inside. Then backward, from the loss
    down: the last result whose gradient is outside although the gradients by everything computed
    from it are inside; wrong is the backward pass of what uses it.
    """
    for number, step in enumerate(steps):
        inputs = [steps[o].forward for o in step.origins if isinstance(o, int)]
        if step.forward > 1 and all(outside <= 1 for outside in inputs):
            return f"operation {number}, {step.name}: {step.forward:.3g} times what is allowed"
    for number in range(len(steps) - 1, -1, -1):
        outside = steps[number].backward
        users = [i for i, step in enumerate(steps) if number in step.origins]
        inside = [(steps[i].backward or 0.0) <= 1 for i in users]
        if outside is not None and outside > 1 and all(inside):
            return (
                f"the gradient through {_named(users, steps)} by its input {number}, "
                f"{steps[number].name}: {outside:.3g} times what is allowed"
            )
    for name, outside in parameters.items():
        users = [i for i, step in enumerate(steps) if name in step.origins]
        if outside > 1:
            return (
                f"the gradient of {_named(users, steps)} by its parameter {name}: {outside:.3g} "
                "times what is allowed"
            )
    return None


def _named(numbers: Sequence[int], steps: Sequence[Step]) -> str:
    if not numbers:
        return "the loss"
    return " and ".join(f"operation {i}, {steps[i].name}," for i in numbers).rstrip(",")
