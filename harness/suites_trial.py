"""The part of the judge's trial that takes more than a few steps of a model: faults that only a
suite shows which was built for them, planted in what that suite runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from adapters import model as models
from adapters.faults import FAULTS, Fault
from harness import clock, convergence
from harness.client import Client, WorkerFailure
from harness.lanes import agree
from harness.pool import Pool, Role
from harness.referee import Referee
from numerics import convergence as later
from numerics import judge
from numerics.exercises import Exercise
from numerics.judge import Judgement
from numerics.self_test import Findings, Movement, Planting, Row
from results.records import Case

Tables = Mapping[str, tuple[Sequence[Exercise], int]]  # suite -> its exercises, its threads


class SuitesTrial:
    """Plants every fault of a suite in one of `adapters` in turn. `tables` are the suites of
    exercises; faults of models are planted in those of `models`."""

    def __init__(
        self,
        pool: Pool,
        referee: Referee,
        adapters: Sequence[str],
        tables: Tables,
        *,
        models: Sequence[str],
    ) -> None:
        self._pool, self._referee, self._adapters = pool, referee, adapters
        self._tables, self._models = tables, models

    def run(self) -> Findings:
        """What the judge made of each, every judgement, and the faults of which a worker's failure
        kept it from making anything."""
        plantings: list[Planting] = []
        rows: list[Row] = []
        problems: list[str] = []
        for i, fault in enumerate(self._faults()):
            turn = i % len(self._adapters)
            try:
                planting, own = self._planted(
                    fault, [*self._adapters[turn:], *self._adapters[:turn]]
                )
            except WorkerFailure as failure:
                problems.append(f"{fault.name} in {fault.suite} {fault.model}: {failure}")
                continue
            plantings.append(planting)
            rows += own
        return Findings(rows, plantings, problems)

    def _faults(self) -> Iterator[Fault]:
        for fault in FAULTS.values():
            if fault.suite and (fault.suite in self._tables or fault.model in self._models):
                yield fault

    def _planted(self, fault: Fault, adapters: Sequence[str]) -> tuple[Planting, list[Row]]:
        """In the first of `adapters` that can do what the suite asks. Raises WorkerFailure."""
        last: WorkerFailure | None = None
        for adapter in adapters:
            case = self._case(fault, adapter)
            try:
                sound, wrong = self._judged(fault, case, ""), self._judged(fault, case, fault.name)
            except WorkerFailure as failure:
                if failure.status != "unsupported":
                    raise
                last = failure
                continue
            moved = movement(sound, wrong)
            planting = Planting(
                fault.name, adapter, fault.model, fault.mode, moved,
                caught=(case.precision,) if _bad(wrong) else (),
                accused=(adapter,) if _bad(sound) else (),
            )  # fmt: skip
            kind = "fault" if moved.is_live else "dead"
            rows = [_row("honest", fault.suite, case, row) for row in sound]
            return planting, rows + [_row(kind, fault.name, case, row) for row in wrong]
        raise last or WorkerFailure("unsupported", f"there is no adapter to plant {fault.name} in")

    def _case(self, fault: Fault, adapter: str) -> Case:
        """The case of a suite that shows a fault."""
        goal = None if fault.suite in self._tables else models.get(fault.model).goal
        case = Case(fault.suite, fault.mode, fault.model, "tiny", adapter, "cpu", "fp64", 1)
        if fault.suite in self._tables:
            return dataclasses.replace(case, threads=self._tables[fault.suite][1])
        if fault.suite == "convergence":
            assert goal is not None
            return dataclasses.replace(
                case, precision="fp32", batch=goal.batch, recipe=goal.recipe
            )  # fmt: skip
        precision = "int8_dynamic" if fault.suite == "quantization" else "fp64"
        usual = models.get(fault.model).batch["tiny"]
        return dataclasses.replace(case, precision=precision, batch=usual)

    def _judged(self, fault: Fault, case: Case, planted: str) -> list[Judgement]:
        """What the judge makes of a case, with a fault `planted` or without any."""
        ask: Callable[[Fault, Case, str, Client], list[Judgement]] = self._model
        if fault.suite in self._tables:
            ask = self._exercise
        elif fault.suite == "convergence":
            ask = self._first_losses
        if case.threads:
            role = Role(case.adapter, "judge", threads=case.threads)
            return ask(fault, case, planted, self._pool.client(role))
        with self._referee.lanes.worker(case.adapter) as client:
            return ask(fault, case, planted, client)

    def _exercise(self, fault: Fault, case: Case, planted: str, client: Client) -> list[Judgement]:
        asked = [
            exercise
            for exercise in self._tables[fault.suite][0]
            if exercise.subject == fault.model and fault.exercise in ("", exercise.name)
        ]
        if not asked:
            place = f"{fault.model}/{fault.exercise}"
            raise WorkerFailure("failed", f"{fault.suite} has no exercise {place}")
        rows = self._referee.examiner.once(asked, case, client, fault=planted)
        ran = [row for row in rows if row.verdict != "unsupported"]  # gradients, where there are
        if not ran:
            raise WorkerFailure("unsupported", f"no exercise of {fault.model} runs there")
        return ran

    def _model(self, fault: Fault, case: Case, planted: str, client: Client) -> list[Judgement]:
        deadline = self._build(case, planted, client)
        tensors = agree(self._pool, client, case, deadline=deadline)
        rows, problem = self._referee.judge(case, tensors)
        if problem:
            raise WorkerFailure("mistrusted", problem)
        return rows

    def _first_losses(
        self, fault: Fault, case: Case, planted: str, client: Client
    ) -> list[Judgement]:
        deadline = self._build(case, planted, client)
        data = convergence.write(self._pool, case)
        curve = convergence.curve(
            self._pool, client, case, data, seed=0, timeout=max(0.001, deadline - clock.now())
        )
        data.unlink()
        return later.first_losses([curve], case.precision)

    def _build(self, case: Case, planted: str, client: Client) -> float:
        """Builds the case in a worker. Returns its deadline, a reading of the clock."""
        timeout = self._pool.settings.case_timeout
        spec = self._pool.spec(case, Role(case.adapter, "judge"), fault=planted)
        inputs = str(self._pool.inputs(case))
        client.request("build", timeout=timeout, spec=spec, inputs=inputs)
        return clock.now() + timeout


def movement(sound: Sequence[Judgement], wrong: Sequence[Judgement]) -> Movement:
    """The judged tensor that a fault moves most. How far follows from both errors: by the triangle
    inequality, a tensor moved at least by what its distance from the reference grew."""
    errors = {(row.quantity, row.tensor): row.error for row in sound}
    largest = max((row.error for row in sound if math.isfinite(row.error)), default=0.0)
    moved = Movement("none", 0.0, 0.0)
    for row in wrong:
        # of many sizes only the worst is told: then every other was at most as far off
        grown = row.error - errors.get((row.quantity, row.tensor), largest)
        allowed = max(judge.IDENTITY, judge.PRECISION_EQUAL * (row.floor or 0.0))
        if grown / allowed > moved.share:
            moved = Movement(f"{row.quantity} {row.tensor}", grown, grown / allowed)
    return moved


def _row(kind: str, name: str, case: Case, row: Judgement) -> Row:
    told = (row.quantity, row.tensor, row.error, row.floor, row.ratio, row.verdict)
    return Row(kind, name, case.adapter, case.model, case.mode, case.recipe, case.precision, *told)


def _bad(rows: Sequence[Judgement]) -> bool:
    return any(row.verdict in ("divergent", "mistrusted") for row in rows)
