"""The one clock. Nothing outside this file reads the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

#: Seconds on a monotonic clock with sub-microsecond resolution; only differences mean anything.
now = time.perf_counter

#: Seconds of processor time of this process, all threads.
cpu = time.process_time


def today() -> datetime:
    """The time of day, UTC. For names and logs, never for durations."""
    return datetime.now(UTC)


class WorkerClock:
    """A clock whose reading advances by what a worker measured, and by nothing else.

    Given to pytest-benchmark as its timer, it makes that plugin's statistics, table and JSON
    those of the worker: each round calls `advance` with the seconds of one step.
    """

    def __init__(self) -> None:
        self._reading = 0.0

    def __call__(self) -> float:
        return self._reading

    def advance(self, seconds: float) -> None:
        self._reading += seconds
