"""What the rounds of a single process a side say: weaker than processes, and never a verdict.

Rounds share what their process happened to get (docs/gate.md), so an interval over them leaves out
what differs from one process to the next. Where a run has nothing else, a reader is told what they
say, by that name, and how to get more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from results import foreign
from results.records import Case, Measurement

#: Of the interval, as of a gate's.
LEVEL = 0.98
LEAST = 5  # rounds, below which quartiles mean nothing


@dataclass(frozen=True)
class Rounds:
    """One process: its median and quartiles, over `count` rounds."""

    count: float
    q1: float
    median: float
    q3: float

    @property
    def error(self) -> float:
        """The standard error of the logarithm of the median, from the quartiles as for a normal
        distribution, whose median scatters by sqrt(pi / 2) times its mean (R. McGill, J. W. Tukey,
        W. A. Larsen, The American Statistician 32, 1978)."""
        spread = math.log(self.q3 / self.q1) / (2 * float(special.ndtri(0.75)))
        return math.sqrt(math.pi / 2) * spread / math.sqrt(self.count)


def rounds(records: Sequence[Measurement]) -> Rounds | None:
    """The rounds of a process, from its values or, where those were not kept, from the conditions
    `rounds`, `q1` and `q3` of the record; None where there are too few, and where one is 0."""
    values = np.concatenate([record.values for record in records])
    if len(values) == 1:
        told = records[0].conditions
        if not {"rounds", "q1", "q3"} <= set(told):
            return None
        made = Rounds(told["rounds"], told["q1"], float(values[0]), told["q3"])
    else:
        made = Rounds(len(values), *(float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))))
    return made if made.count >= LEAST and 0 < made.q1 <= made.q3 else None


def statement(base: Sequence[Measurement], head: Sequence[Measurement], case: Case) -> str:
    """What to say of a case of which a side has one process: its rounds' ratio with an interval, if
    both have rounds, and how to measure more processes."""
    sides = [_processes(records) for records in (base, head)]
    advice = foreign.advice(case) or "presets standard and full measure in 3 and in 6"
    told = "one process has no interval"
    both = [rounds(next(iter(side.values()))) for side in sides if len(side) == 1]
    if len(both) == 2 and both[0] and both[1]:
        change = math.log(both[1].median / both[0].median)
        half = float(special.ndtri((1 + LEVEL) / 2)) * math.hypot(both[0].error, both[1].error)
        low, middle, high = (math.exp(change + x) for x in (-half, 0.0, half))
        told += (
            f"; its rounds alone say {middle:.3f} ({low:.3f} to {high:.3f}), which is weaker: it "
            "leaves out what differs between processes"
        )
    return f"{told}. For a decision: {advice}"


def _processes(records: Iterable[Measurement]) -> Mapping[int, list[Measurement]]:
    found: dict[int, list[Measurement]] = {}
    for record in records:
        found.setdefault(record.process, []).append(record)
    return found
