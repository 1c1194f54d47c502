"""What the rounds of a single process a side say: weaker than processes, and never a verdict.

Rounds share what their process happened to get (docs/gate.md), so an interval over them leaves out
what differs from one process to the next. Where a run has nothing else, a reader is told what they
say, by that name, and how to get more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from results import display, foreign
from results.metrics import HIGHER_IS_BETTER
from results.records import Case, Decision, Measurement
from results.store import Run

#: Of the interval, as of a gate's.
LEVEL = 0.98
ALONE = "one process has no interval"
#: How Assay measures in more.
OWN = "take a preset that measures in several: standard in 3, full in 6"
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


def statement(base: Run, head: Run, case: Case, metric: str) -> str:
    """What to say of a metric of which a side has one process: the ratio of its rounds with an
    interval, if both have rounds. As everywhere, a ratio above 1 is slower."""
    told = ALONE
    both = [_of_one_process(run, case, metric) for run in (base, head)]
    if metric in HIGHER_IS_BETTER:
        both.reverse()
    before, now = both
    if before and now:
        change = math.log(now.median / before.median)
        half = float(special.ndtri((1 + LEVEL) / 2)) * math.hypot(before.error, now.error)
        low, middle, high = (math.exp(change + x) for x in (-half, 0.0, half))
        said = f"{display.ratio(middle)} ({display.interval(low, high, '1')})"
        told += f"; weaker, since processes differ: its rounds alone say {said}"
    return told


def advice(decisions: Iterable[Decision]) -> list[str]:
    """How to measure in more processes, once for each tool that measured in one."""
    suites = dict.fromkeys(d.case for d in decisions if d.reason.startswith(ALONE))
    tools = dict.fromkeys(foreign.advice(case) or OWN for case in suites)
    return [f"{ALONE}. For a decision, {how}" for how in tools]


def _of_one_process(run: Run, case: Case, metric: str) -> Rounds | None:
    """The rounds of the only process that measured a metric; None where there are several."""
    records = [m for m in run.measurements if m.case == case and m.metric == metric]
    return rounds(records) if len({record.process for record in records}) == 1 else None
