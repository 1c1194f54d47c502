"""The points of a curve, and how each of them is measured.

A generator yields cases and is sent the throughput of each, in examples/s, or None where the point
has none. It decides where its curve ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

from adapters import model as models
from harness.attempt import Attempt
from harness.environment import physical_cores
from results.records import Case

LARGEST = 2**16  # examples in a batch
PAYS = 1.05  # what doubling a batch has to bring
PATIENCE = 2  # doublings in a row that did not pay, before the curve ends

Points = Generator[Case, float | None, None]


def batches(case: Case) -> Points:
    """Powers of two, until doubling no longer pays or a point fails: memory ended, say."""
    best, batch, wasted = 0.0, 1, 0
    while batch <= LARGEST and wasted < PATIENCE:
        rate = yield dataclasses.replace(case, batch=batch)
        if rate is None:
            return
        wasted = 0 if rate >= PAYS * best else wasted + 1
        best, batch = max(best, rate), batch * 2


def threads(case: Case) -> Points:
    """One thread, two, and so on, up to the physical cores."""
    for number in range(1, physical_cores() + 1):
        yield dataclasses.replace(case, threads=number)


def lengths(case: Case) -> Points:
    """The lengths that the model names, until a point fails."""
    for length in models.get(case.model).lengths:
        rate = yield dataclasses.replace(case, length=length)
        if rate is None:
            return


POINTS = {"batch": batches, "threads": threads, "length": lengths}


def measure_point(attempt: Attempt, *, processes: int) -> float:
    """Measures one point. Returns its throughput in examples/s."""
    for client in attempt.workers(processes):
        attempt.measure(client, attempt.warm_up(client))
    attempt.count()
    return attempt.case.batch / attempt.step_seconds
