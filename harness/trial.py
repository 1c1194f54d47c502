"""One case while it runs: where its time goes, whether it is right, and the records it makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from harness import clock, proof
from harness.client import Client, WorkerFailure
from harness.lanes import Tensors, agree
from harness.verdicts import divergence, record
from numerics import judge
from results.metrics import METRICS
from results.records import Case, Facts, Measurement, Outcome, Record

if TYPE_CHECKING:
    from harness.runner import Runner


#: Purpose of what runs in the background -> the phase that waits for it.
WAITS = {"judge": "reference", "remember": "memory", "fill": "fill cache"}
#: Phases that find out whether a case is right, and what it really did.
JUDGING = ("reference", "agree", "facts")


class Sink(Protocol):
    """Keeps records; `results.store.RunWriter` is one."""

    def append(self, record: Record) -> None: ...


class Listener(Protocol):
    """Is told what happens, for people to watch."""

    def phase(self, case: Case, phase: str) -> None: ...

    def ended(self, outcome: Outcome, note: str) -> None: ...


class Trial:
    """One case while it runs. What it is asked to do may raise WorkerFailure, which ends it."""

    def __init__(self, case: Case, runner: Runner, store: Sink, listener: Listener) -> None:
        self.case = case
        self.now = "start"
        self.note = ""  # what a watcher should know about the result
        self.phases: dict[str, float] = defaultdict(float)  # phase -> seconds
        self.step_seconds = 0.0  # the median of the process measured last
        self.flags: tuple[str, ...] = ()  # of anything that was timed
        self.seconds_before = 0.0  # spent on this case in the background
        self._runner = runner
        self._pool = runner.pool
        self._store = store
        self._listener = listener
        self._since = clock.now()
        self._deadline = clock.now() + runner.pool.settings.case_timeout
        self._process = 0
        self._verdict = ""
        self._flags: tuple[str, ...] = ()  # of what is measured in this process

    # -- right? ------------------------------------------------------------------------------

    def require_conformance(self) -> None:
        """Ends the case when its smaller sibling was found wrong in this run."""
        outcome = self._runner.conformance_of(self.case)
        if outcome is not None:
            reason = f"not measured, because {outcome.case.key} is {outcome.status}"
            raise WorkerFailure(outcome.status, reason)

    def agree(self) -> None:
        """Runs the case in a judging worker and judges its tensors."""
        self._phase("agree")
        lanes = self._runner.referee.lanes
        try:
            self._judge(lanes.tensors(self.case))
        finally:
            self.seconds_before = lanes.seconds(self.case)

    def agree_in_place(self, client: Client) -> None:
        """Judges the very program that is about to be timed."""
        self._phase("agree")
        self._judge(agree(self._pool, client, deadline=self._deadline))

    def agree_as_control(self, client: Client) -> None:
        """Judges a native control. Only a divergence is worth a word: it has no rows of its own."""
        self._phase("agree")
        tensors = agree(self._pool, client, deadline=self._deadline)
        judgements, _ = self._runner.referee.judge(self.case, tensors)
        bad = [row for row in judgements if row.verdict == "divergent"]
        if bad:
            raise WorkerFailure("divergent", f"native control: {divergence(bad, judgements)}")

    def prepare_reference(self) -> None:
        """Computes the reference now, before a worker is timed, and waits until the machine is
        quiet. This time is not the case's."""
        for purpose, phase in WAITS.items():
            self._phase(phase)
            self._runner.referee.lanes.wait(purpose)
        self._phase("reference")
        self._runner.referee.oracle(self.case).consensus()
        self._deadline = clock.now() + self._pool.settings.case_timeout

    def _judge(self, tensors: Tensors) -> None:
        judgements, problem = self._runner.referee.judge(self.case, tensors)
        for row in judgements:
            self._store.append(record(self.case, row))
        worst = judge.worst(judgements)
        bad = [row for row in judgements if row.verdict == "divergent"]
        if bad:
            raise WorkerFailure("divergent", divergence(bad, judgements))
        if problem:
            raise WorkerFailure("mistrusted", problem)
        unjudged = [row for row in judgements if row.verdict == "mistrusted"]
        if unjudged:
            first = unjudged[0]
            what = f"{len(unjudged)} tensors, first {first.quantity} {first.tensor}"
            raise WorkerFailure("mistrusted", f"{what}: {first.reason}")
        if worst is not None:
            where = f"worst {worst.quantity} {worst.tensor} {worst.error:.1e}"
            self.note = self._verdict = f"{worst.verdict}, {where}"

    # -- what was really run? --------------------------------------------------------------------

    def prove(self, client: Client) -> None:
        """Records the effective configuration; raises where it is not the one that was asked."""
        self._phase("facts")
        facts = client.request("facts", timeout=self._left())
        self._keep({**facts, **client.identity})

    def _keep(self, facts: Mapping[str, Any]) -> None:
        self._store.append(Facts(self.case, facts))
        threads = self.case.threads or self._pool.settings.threads
        proof.require(self.case, facts, threads=threads)

    # --------------------------------------------------------------------------------------------

    def _measured(
        self,
        metric: str,
        values: list[float],
        *,
        steps: int = 1,
        flags: tuple[str, ...] = (),
        conditions: Mapping[str, float] = {},
    ) -> None:
        self._store.append(
            Measurement(
                self.case,
                metric,
                METRICS[metric][0],
                tuple(values),
                steps_per_round=steps,
                process=self._process,
                flags=tuple(dict.fromkeys(flags)),
                conditions=conditions,
            )
        )

    def _phase(self, phase: str) -> None:
        if phase != self.now:
            self.settle()
            self.now = phase
            self._listener.phase(self.case, phase)
            self._runner.referee.announce = lambda part: self._listener.phase(self.case, part)

    def settle(self) -> None:
        """Books the seconds since the last change of phase."""
        self.phases[self.now] += clock.now() - self._since
        self._since = clock.now()

    def rebook(self, old: str, new: str, seconds: float) -> None:
        """Books seconds of one phase, the present one included, on another."""
        self.settle()
        self.phases[old] -= seconds
        self.phases[new] += seconds

    def _left(self) -> float:
        """Seconds until the case's time is over; never quite 0, so that a request is made."""
        return max(0.001, self._deadline - clock.now())
