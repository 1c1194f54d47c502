"""The table of control flow: `adapters/exercises/control.py`, each over several inputs in turn."""

from __future__ import annotations

from functools import cache

import numpy as np

from adapters.exercise import Call
from numerics.exercises import Exercise

PRECISIONS = ("fp64", "fp32")


def _in_turn(subject: str, **inputs: np.ndarray) -> list[Exercise]:
    """One exercise per input `x`, which is named by what is new about it."""
    call = Call(f"control:{subject}")
    return [
        Exercise(subject, name.replace("_", " "), call, {"x": x}, precisions=PRECISIONS)
        for name, x in inputs.items()
    ]


@cache
def exercises() -> tuple[Exercise, ...]:
    """Every subject sees a first input, the same shape with other values (which take the other
    branch, or other rounds of a loop), two more shapes, and the first shape again."""
    rng = np.random.default_rng(11)

    def rows(*shape: int) -> np.ndarray:
        return np.asarray(rng.normal(size=shape))

    up, down = rng.uniform(0.5, 2, 4), -rng.uniform(0.5, 2, 4)
    wide = rng.uniform(0.5, 2, 7)
    return (
        *_in_turn(
            "plain", first=up, other_values=down, another_shape=wide, a_third_shape=rows(9),
            first_shape_again=up,
        ),
        *_in_turn(
            "branch", first=up, other_branch=down, another_shape=wide, a_third_shape=rows(9),
            first_shape_again=down,
        ),
        *_in_turn(
            "loop_over_sequence", first=rows(4, 3), other_values=rows(4, 3),
            longer=rows(7, 3), shorter=rows(2, 3), first_shape_again=rows(4, 3),
        ),
        *_in_turn(
            "halve_until_small", first=up, more_rounds=100 * up, another_shape=wide,
            no_round=0.1 * rows(9), first_shape_again=down,
        ),
        *_in_turn(
            "built_from_shape", first=rows(2, 8), other_values=rows(2, 8),
            deeper=rows(2, 16), shallower=rows(2, 4), first_shape_again=rows(2, 8),
        ),
    )  # fmt: skip
