"""What else was going on while something was timed, and the flags that follow from it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harness.environment import conditions_between as between
from harness.environment import load

__all__ = ["between", "flags", "load", "of"]

#: Processor time beyond what the threads can use, as a share: the process's own other threads
#: (a runtime's timers, the main thread) take a little.
OVERSUBSCRIBED = 1.25


def of(blocks: Sequence[Mapping[str, Any]], steps: int) -> dict[str, float]:
    """Medians over blocks: page faults and involuntary switches per step, and how many processors
    the process kept busy."""
    return {
        "minor_faults_per_step": statistics.median(b["minor_faults"] for b in blocks) / steps,
        "involuntary_switches_per_step": statistics.median(
            b["involuntary_switches"] for b in blocks
        )
        / steps,
        "cpu_over_wall": statistics.median(b["cpu_seconds"] / b["seconds"] for b in blocks),
    }


def flags(blocks: Sequence[Mapping[str, Any]], steps: int, *, threads: int) -> tuple[str, ...]:
    """`allocator_bound` where the page faults of a step vary from block to block, and
    `oversubscribed` where more processors were busy than the threads that were asked for."""
    found: list[str] = []
    faults = {round(block["minor_faults"] / steps) for block in blocks}
    if max(faults) > 0 and len(faults) > 1:
        found.append("allocator_bound")
    if of(blocks, steps)["cpu_over_wall"] > OVERSUBSCRIBED * threads:
        found.append("oversubscribed")
    return tuple(found)
