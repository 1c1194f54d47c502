"""Whether loss scaling did what `adapters.training` says, told by what it did in every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.training import LossScale


@dataclass(frozen=True)
class Trace:
    """Loss scaling over some steps.

    scale, good     after each step: the scale, and the steps in a row since it changed
    moved           whether the step changed any parameter
    finite          whether all parameters are finite after the last one
    steps           how many steps the program says were done
    """

    scale: Sequence[float]
    good: Sequence[int]
    moved: Sequence[bool]
    finite: bool
    steps: int


def problems(trace: Trace, constants: LossScale) -> list[str]:
    """What is and what should be, a sentence each; empty where nothing is wrong. A trace without a
    step left out, or in which the scale never grew, shows nothing and is a problem as well."""
    found = []
    scale, good = constants.initial, 0
    grown = 0
    for number, (new, count, moved) in enumerate(
        zip(trace.scale, trace.good, trace.moved, strict=True), start=1
    ):
        grows = moved and good + 1 == constants.interval
        wanted = scale * (constants.growth if grows else 1.0 if moved else constants.backoff)
        expected = good + 1 if moved and not grows else 0
        did = "moved parameters" if moved else "was left out"
        if new != wanted:
            found.append(f"step {number} {did}: the scale became {new:g}, but should be {wanted:g}")
        if count != expected:
            told = f"{count} good steps in a row, but should be {expected}"
            found.append(f"step {number} {did}: {told}")
        grown += grows
        scale, good = new, count
    taken = sum(trace.moved)
    if taken != trace.steps:
        found.append(f"{taken} steps moved parameters, but {trace.steps} were counted")
    if not trace.finite:
        found.append("parameters are not finite: an overflow was not left out")
    if all(trace.moved):
        found.append("no step was left out, but the first should be: nothing was provoked")
    if not grown:
        found.append("the scale never grew: too few steps, or no growth")
    return found
