"""The traps of training: recipes of the smallest model in float64, where every constant shows; and
each framework's own optimizer, recorded beside it."""

from suites.conformance.traps import traps
from suites.selection import Plan

PLAN = Plan(
    "traps",
    modes=("train",),
    precisions=("fp64",),
    size="tiny",
    recipes=tuple(dict.fromkeys(name for trap in traps() for name in trap.recipes)),
    models=("mlp",),
)


def test_trap(case, run):
    with run(case) as attempt:
        for trap in traps():
            if case.recipe not in trap.recipes:
                continue
            attempt.tell(trap.told)
            if case.recipe == trap.recipes[0] and not trap.exercises:
                inputs, pinned = trap.question()
                attempt.default(trap.told, inputs, pinned, within=trap.within)
        attempt.agree()
