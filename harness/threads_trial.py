"""The part of the judge's trial that takes several threads: faults that one thread does not show,
planted in exercises."""

from __future__ import annotations

import math
from collections.abc import Sequence

from adapters.faults import FAULTS
from harness.client import WorkerFailure
from harness.examiner import Examiner
from harness.pool import Pool, Role
from numerics import judge
from numerics.exercises import Exercise
from numerics.judge import Judgement
from numerics.self_test import Movement, Planting
from results.records import Case


class ThreadsTrial:
    """Plants every fault of threads in one of `adapters` in turn. `exercises` are those of the
    suite that judges with several threads, `threads` how many."""

    def __init__(
        self,
        pool: Pool,
        examiner: Examiner,
        adapters: Sequence[str],
        exercises: Sequence[Exercise],
        *,
        threads: int,
    ) -> None:
        self._pool, self._examiner = pool, examiner
        self._adapters, self._exercises = adapters, exercises
        self._threads = threads

    def run(self) -> list[Planting]:
        """What the judge made of each. Raises WorkerFailure."""
        faults = [fault for fault in FAULTS.values() if fault.where == "threads"]
        return [
            self._planted(fault.name, fault.model, self._adapters[i % len(self._adapters)])
            for i, fault in enumerate(faults)
        ]

    def _planted(self, name: str, subject: str, adapter: str) -> Planting:
        bad = _bad(self._rows(subject, adapter, name))
        worst = judge.worst(bad)
        moved = Movement("output", worst.error if worst else 0.0, math.inf)
        accused = [each for each in self._adapters if _bad(self._rows(subject, each))]
        return Planting(
            name, adapter, subject, "infer", moved, caught=("fp64",) if bad else (),
            accused=tuple(accused),
        )  # fmt: skip

    def _rows(self, subject: str, adapter: str, fault: str = "") -> list[Judgement]:
        asked = [exercise for exercise in self._exercises if exercise.subject == subject]
        case = Case("threads", "infer", subject, "tiny", adapter, "cpu", "fp64", 1,
                    threads=self._threads)  # fmt: skip
        client = self._pool.client(Role(adapter, "judge", threads=self._threads))
        rows = self._examiner.once(asked, case, client, fault=fault)
        if not rows:
            raise WorkerFailure("failed", f"no exercise of {subject} runs in {adapter}")
        return rows


def _bad(rows: Sequence[Judgement]) -> list[Judgement]:
    return [row for row in rows if row.verdict in ("divergent", "mistrusted")]
