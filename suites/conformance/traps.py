"""The table of traps: where frameworks differ by default, what the vocabulary pins, and inputs on
which the difference is far above any tolerance.

`tests/test_traps.py` has for every trap the semantics that it is about, and proves that they would
be found. Each framework's own default is asked for in `adapters/*_defaults.py`.
"""

from __future__ import annotations

from functools import cache

from numerics.exercises import Exercise
from suites.conformance.tables import trap_layers, trap_operations, trap_training
from suites.conformance.trap import Trap


@cache
def traps() -> tuple[Trap, ...]:
    """All of them, in order."""
    return (*trap_layers.traps(), *trap_operations.traps(), *trap_training.traps())


def exercises() -> tuple[Exercise, ...]:
    """Those of all traps."""
    return tuple(exercise for trap in traps() for exercise in trap.exercises)
