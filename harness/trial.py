"""One case while it runs: where its time goes, whether it is right, and the records it makes."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from adapters import model as models
from adapters.precisions import PRECISIONS
from adapters.registry import CONTROLS
from adapters.training import RECIPES
from harness import clock, controls, convergence, proof
from harness.client import Client, WorkerFailure
from harness.lanes import Tensors, agree, of_unseen
from harness.pool import Role
from harness.protocol import load_tensors, save_tensors
from harness.quality import Assessor
from harness.verdicts import divergence, record
from numerics import convergence as later
from numerics import determinism, exact, judge, scaling
from numerics.errors import normwise
from numerics.exercises import Exercise
from numerics.judge import Judgement
from results.metrics import METRICS
from results.records import Case, Facts, Measurement, Outcome, Record

if TYPE_CHECKING:
    from harness.runner import Runner


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _crashed(row: Judgement) -> bool:
    """Whether it is the row of an exercise that ended its worker."""
    return row.verdict == "divergent" and row.reason.startswith("crashed: ")


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
        self.judged: list[Judgement] = []  # the rows that were decided on last
        self.seconds_before = 0.0  # spent on this case in the background
        self._runner = runner
        self._pool = runner.pool
        self._store = store
        self._listener = listener
        self._since = clock.now()
        self._deadline = clock.now() + runner.pool.settings.case_timeout
        self._process = 0
        self._verdict = ""
        self._rows: list[Judgement] = []  # of what was explored
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
            if policy := lanes.facts(self.case).get("policy"):
                self.tell({"policy": policy})
        finally:
            self.seconds_before = lanes.seconds(self.case)

    def examine(self) -> None:
        """Runs the case's exercises in a judging worker and judges their results."""
        self._phase("agree")
        referee = self._runner.referee
        try:
            rows, answers = referee.examine(self.case)
        finally:
            self.seconds_before = referee.lanes.seconds(self.case)
        if answers.counts:
            self._store.append(Facts(self.case, {"counts": answers.counts}))
        self._decide(rows, "")

    def explore(self, drawn: Sequence[Exercise]) -> None:
        """Does exercises that were drawn for a property. Raises WorkerFailure for the first that is
        wrong."""
        self._phase("agree")
        referee = self._runner.referee
        with referee.lanes.worker(self.case.adapter) as client:
            rows = referee.examiner.once(drawn, self.case, client)
        bad = [row for row in rows if row.verdict in ("divergent", "mistrusted")]
        if bad:
            self._store.append(record(self.case, bad[0]))
            raise WorkerFailure("divergent", divergence(bad[:1], rows))
        self._rows += [row for row in rows if row.verdict != "unsupported"]

    def explored(self) -> None:
        """Records the worst of what was explored."""
        worst = judge.worst(self._rows)
        if worst is None:
            raise WorkerFailure("unsupported", "none of what was drawn runs there")
        self._decide([worst], "")
        self.note = f"{len(self._rows)} results, worst {worst.error:.1e}"

    def repeat(self) -> None:
        """Runs the case again in several ways and judges whether the results stay the same."""
        self._phase("agree")
        referee = self._runner.referee
        try:
            rows = referee.repeat(self.case)
        finally:
            self.seconds_before = referee.lanes.seconds(self.case)
        same = determinism.is_deterministic(rows)
        self._store.append(Facts(self.case, {"deterministic": same}))
        self._decide(list(rows.values()), "")
        self.note = ", ".join(f"{name} {row.verdict}" for name, row in rows.items())
        if not same:
            self.note = f"NONDETERMINISTIC: {self.note}"

    def travel(self) -> None:
        """Judges training states that come from each framework of the oracle."""
        self._phase("agree")
        referee = self._runner.referee
        rows = list(referee.travel.to(self.case, referee.members()))
        self._decide(rows, "")
        self.note = f"{len(rows)} journeys; {self.note}"

    def converge(self, seeds: int, *, families: int) -> None:
        """Trains to the model's goal once per seed, and judges that it is reached, and not later
        than in the other adapters. `families` is the number of models that are compared."""
        self._phase("agree")
        lanes, goal = self._runner.referee.lanes, models.get(self.case.model).goal
        assert goal is not None
        curves = lanes.curves(self.case, seeds)
        self.seconds_before = lanes.seconds(self.case)
        self._phase("reference")
        others = self._runner.referee.curves(self.case, seeds)
        steps = {
            name: [convergence.steps_to_target(self.case.model, curve) for curve in found]
            for name, found in {self.case.adapter: curves, **others}.items()
        }
        own = steps[self.case.adapter]
        compared = later.compare(steps, families=families).get(self.case.adapter)
        told = {"score": goal.name, "target": goal.target, "rising": goal.rising, "curves": curves}
        if compared is not None:
            told |= {"p_later": compared.p, "p_least": compared.least, "compared_with": [*others]}
        self._store.append(Facts(self.case, {"convergence": told}))
        reached = [value for value in own if math.isfinite(value)]
        if reached:
            self._measured("steps_to_target", reached)
        self._decide(later.first_losses(curves, self.case.precision), "")
        self.note = f"{goal.name} {goal.target:g} after {_listed(own)} steps; {self.note}"
        if len(reached) < seeds:
            worst = [curve[-1]["score"] for curve in curves]
            raise WorkerFailure(
                "divergent",
                f"{goal.name} {goal.target:g} is not reached in {goal.steps} steps with "
                f"{seeds - len(reached)} of {seeds} seeds; it ends at {_listed(worst)}",
            )
        if compared is not None and compared.later:
            other = "; ".join(f"{name} {_listed(steps[name])}" for name in others)
            raise WorkerFailure(
                "divergent",
                f"converges later than the other adapters (p = {compared.p:.1e}): "
                f"{_listed(own)} steps, but {other}",
            )

    def quantize(self) -> None:
        """Judges a quantized program on trained parameters, and records how good it is."""
        self._phase("agree")
        referee = self._runner.referee
        found = Assessor(self._pool, referee, self.case).assess()
        self.tell(found.facts)
        self._decide(found.rows, "")
        for metric, value in found.values.items():
            self._measured(metric, [value])
        score = found.facts["quality"]["score"]
        self.note = (
            f"{found.values['sqnr']:.1f} dB, {score} {found.values['score']:.4g} "
            f"(lost {found.values['score_lost']:.4f}); {self.note}"
        )

    def scale_losses(self, steps: int) -> None:
        """Judges loss scaling, step by step."""
        self._phase("agree")
        with self._runner.referee.lanes.worker(self.case.adapter) as client:
            role = Role(self.case.adapter, "judge")
            self._pool.build(self.case, role, timeout=self._left())
            trace = scaling.Trace(**client.request("scaling", timeout=self._left(), steps=steps))
        self.tell({"loss_scaling": dataclasses.asdict(trace)})
        problems = scaling.problems(trace, RECIPES[self.case.recipe].scale)
        if problems:
            more = f"; and {len(problems) - 1} more" * (len(problems) > 1)
            raise WorkerFailure("divergent", problems[0] + more)
        left_out = len(trace.moved) - sum(trace.moved)
        self.note = f"{left_out} of {steps} steps left out, scale ends at {trace.scale[-1]:g}"

    def load(self) -> None:
        """Judges that a program in a judging worker has the state that it was given, every bit of
        it under its name."""
        self._phase("agree")
        out, lanes = self._pool.scratch_file("loaded.npz"), self._runner.referee.lanes
        with lanes.worker(self.case.adapter) as client:
            role = Role(self.case.adapter, "judge")
            self._pool.build(self.case, role, timeout=self._left())
            client.request("loaded", timeout=self._left(), out=str(out))
        given = load_tensors(self._pool.inputs(self.case))
        wanted = {n: t for n, t in given.items() if n.split(":")[0] in ("parameter", "buffer")}
        self._decide(exact.judge(load_tensors(out), wanted, self.case.precision), "")

    def agree_in_place(self, client: Client) -> None:
        """Judges the very program that is about to be timed, on all batches but one."""
        self._phase("agree")
        self._judge(agree(self._pool, client, self.case, deadline=self._deadline, unseen=False))

    def agree_afterwards(self, client: Client) -> None:
        """Judges a program that was timed on a batch that it has never seen. Raises WorkerFailure,
        so that its speed is not published."""
        self._phase("agree")
        if PRECISIONS[self.case.precision].scheme is None:  # else the oracle judges layers
            note, verdict = self.note, self._verdict
            self._judge(of_unseen(self._pool, client, deadline=self._deadline))
            self.note, self._verdict = note, verdict

    def agree_as_control(self, client: Client, name: str) -> None:
        """Judges a native control, and records how well it agrees. It has no rows of its own: the
        case's are those of the adapter."""
        self._phase("agree")
        tensors = agree(self._pool, client, self.case, deadline=self._deadline)
        rows, problem = self._runner.referee.judge(self.case, tensors)
        told, bad = controls.agreement(CONTROLS[name], self.case.model, rows)
        versions = client.hello["versions"]
        control = {"name": name, "versions": versions, "problem": problem, **told}
        self._store.append(Facts(self.case, {"control": control}))
        if bad:
            raise WorkerFailure("divergent", f"native control: {divergence(bad, rows)}")

    def prepare_reference(self) -> None:
        """Computes the reference now, before a worker is timed, and waits until the machine is
        quiet. This time is not the case's."""
        self.wait_for_quiet()
        self._phase("reference")
        if PRECISIONS[self.case.precision].scheme is None:  # else the oracle judges layers
            self._runner.referee.oracle(self.case).consensus()
        self._deadline = clock.now() + self._pool.settings.case_timeout

    def wait_for_quiet(self) -> None:
        """Waits until nothing runs in the background any more: what is timed must be alone."""
        for purpose, phase in WAITS.items():
            self._phase(phase)
            self._runner.referee.lanes.wait(purpose)
        self._deadline = clock.now() + self._pool.settings.case_timeout

    def _judge(self, tensors: Tensors) -> None:
        self._decide(*self._runner.referee.judge(self.case, tensors))

    def _decide(self, judgements: list[Judgement], problem: str) -> None:
        """Records judgements and raises WorkerFailure unless they are good enough."""
        referee = self._runner.referee
        explanation = referee.explained(self.case, judgements)
        self.judged = judgements = explanation.rows
        if told := {n: v for n in ("stale", "absent") if (v := getattr(explanation, n))}:
            self.tell({"deviations": told})
        for row in judgements:
            self._store.append(record(self.case, row))
        worst = judge.worst(judgements)
        bad = [row for row in judgements if row.verdict == "divergent"]
        if bad:
            known = referee.examiner.knows(self.case) or self.case.suite in (
                "travel",
                "convergence",
            )
            where = "" if known else referee.localise(self.case)
            status = "crashed" if all(map(_crashed, bad)) else "divergent"
            raise WorkerFailure(status, divergence(bad, judgements, where=where))
        if explanation.stale and referee.strict:
            raise WorkerFailure("failed", "; ".join(explanation.stale))
        if problem:
            raise WorkerFailure("mistrusted", problem)
        unjudged = [row for row in judgements if row.verdict == "mistrusted"]
        if unjudged:
            first = unjudged[0]
            what = f"{len(unjudged)} tensors, first {first.quantity} {first.tensor}"
            raise WorkerFailure("mistrusted", f"{what}: {first.reason}")
        without = [row for row in judgements if row.verdict == "unsupported"]
        if without and len(without) == len(judgements):
            raise WorkerFailure("unsupported", without[0].reason.removeprefix("unsupported: "))
        if worst is not None:
            where = f"worst {worst.quantity} {worst.tensor} {worst.error:.1e}"
            self.note = self._verdict = f"{worst.verdict}, {where}"

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Records what is known of the case without running it."""
        self._store.append(Facts(self.case, facts))

    # -- what would a framework do by itself? ----------------------------------------------------

    def default(
        self,
        trap: Mapping[str, Any],
        inputs: Tensors,
        pinned: np.ndarray,
        *,
        within: float,
    ) -> None:
        """Records how far the framework's own default is from what is pinned in a trap: up to a
        normwise error of `within` it is the same. `trap` has its number as `trap`, and what else is
        recorded of it. Judges nothing."""
        self._phase("facts")
        given, out = (self._pool.scratch_file(name) for name in ("given.npz", "default.npz"))
        save_tensors(given, inputs)
        with self._runner.referee.lanes.worker(self.case.adapter) as client:
            found = client.request(
                "default", timeout=self._left(), trap=trap["trap"], inputs=str(given), out=str(out)
            )
        if found["shared"]:
            return
        told = {"problem": found["problem"]} if "problem" in found else {"told": found["told"]}
        if "told" in found:
            value = load_tensors(out)["default"]
            error = normwise(value, pinned)
            told |= {"error": error, "same": error <= within, "dtype": value.dtype.name}
        self.tell({**trap, "default": told})

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
