"""Which processors a timed process runs on.

Two live workers that take turns end up on different cores, and the cores of a virtual machine are
not equally fast: with one thread each, an A/A comparison then scatters by several percent. With
fewer threads than cores, every timed process is therefore bound to the same cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def chosen(threads: int) -> list[int]:
    """The processors for `threads` threads: all hardware threads of as many cores, the last ones,
    since the first serves interrupts. Empty where there is nothing to choose: as many threads as
    cores, or a system that binds no processes."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    available = cores(os.sched_getaffinity(0))
    if threads >= len(available):
        return []
    return sorted(processor for core in available[-threads:] for processor in core)


def cores(allowed: Iterable[int]) -> list[tuple[int, ...]]:
    """The allowed processors by core, in order; a processor whose core is unknown is its own."""
    allowed = sorted(allowed)
    return sorted({tuple(p for p in allowed if p in _siblings(q)) for q in allowed})


def _siblings(processor: int) -> set[int]:
    """The hardware threads of a processor's core: the file holds `0,4` or `0-1`."""
    try:
        path = TOPOLOGY / f"cpu{processor}" / "topology" / "thread_siblings_list"
        parts = [part.partition("-") for part in path.read_text().strip().split(",")]
        found = {n for a, _, b in parts for n in range(int(a), int(b or a) + 1)}
    except (OSError, ValueError):
        found = set()
    return found | {processor}
