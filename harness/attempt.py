"""One case while it runs: its phases, and the records that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from harness import clock
from harness.client import Client, WorkerFailure
from harness.lanes import Tensors, agree
from numerics import judge
from numerics.judge import Judgement
from results.records import METRICS, Agreement, Case, Facts, Measurement, Outcome, Record

if TYPE_CHECKING:
    from harness.runner import Runner


class Sink(Protocol):
    """Keeps records; `results.store.RunWriter` is one."""

    def append(self, record: Record) -> None: ...


class Listener(Protocol):
    """Is told what happens, for people to watch."""

    def phase(self, case: Case, phase: str) -> None: ...

    def ended(self, outcome: Outcome, note: str) -> None: ...


class Attempt:
    """One case while it runs. Its methods are the phases; each raises WorkerFailure."""

    def __init__(self, case: Case, runner: Runner, store: Sink, listener: Listener) -> None:
        self.case = case
        self.now = "start"
        self.note = ""  # what a watcher should know about the result
        self.seconds_before = 0.0  # spent on this case in the background
        self._runner = runner
        self._pool = runner.pool
        self._store = store
        self._listener = listener
        self._deadline = clock.now() + runner.pool.settings.case_timeout
        self._process = 0
        self._unsteady: tuple[str, ...] = ()  # a flag, once a warm-up did not become steady

    @property
    def _inputs(self) -> str:
        return str(self._pool.inputs(self.case.model, self.case.size, self.case.batch))

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
        tensors = agree(self._pool, client, deadline=self._deadline)
        self._judge(tensors)

    def prepare_reference(self) -> None:
        """Computes the reference now, before a worker is timed, and waits until the machine is
        quiet. This time is not the case's."""
        self._phase("reference")
        self._runner.referee.lanes.wait()
        self._runner.referee.oracle(self.case).consensus()
        self._deadline = clock.now() + self._pool.settings.case_timeout

    def _judge(self, tensors: Tensors) -> None:
        judgements, problem = self._runner.referee.judge(self.case, tensors)
        for row in judgements:
            self._store.append(_record(self.case, row))
        worst = judge.worst(judgements)
        bad = [row for row in judgements if row.verdict == "divergent"]
        if bad:
            raise WorkerFailure("divergent", _divergence(bad, judgements))
        if problem:
            raise WorkerFailure("mistrusted", problem)
        unjudged = [row for row in judgements if row.verdict == "mistrusted"]
        if unjudged:
            first = unjudged[0]
            what = f"{len(unjudged)} tensors, first {first.quantity} {first.tensor}"
            raise WorkerFailure("mistrusted", f"{what}: {first.reason}")
        if worst is not None:
            self.note = f"{worst.verdict}, worst {worst.quantity} {worst.tensor} {worst.error:.1e}"

    # -- how fast, how long until ready? --------------------------------------------------------

    def start(self, *, fresh: bool) -> Client:
        """A timing worker, a `fresh` one or the adapter's last, that has built the case and made
        its first call; the times of both are recorded."""
        client, built = self._built(self.case.adapter, fresh=fresh)
        self._phase("first call")
        first = client.request("first_call", timeout=self._left())
        self._measured("import_time", [client.hello["import_time"]])
        self._measured("build_time", [built["build_time"]])
        self._measured("first_call_time", [first["first_call_time"]])
        return client

    def start_pair(self, control: str, *, control_first: bool) -> tuple[Client, Client]:
        """Two fresh timing workers: the case, and its native control."""
        order = (control, self.case.adapter) if control_first else (self.case.adapter, control)
        clients = {adapter: self._built(adapter, fresh=True)[0] for adapter in order}
        return clients[self.case.adapter], clients[control]

    def agree_as_control(self, client: Client) -> None:
        """Judges a native control. Only a divergence is worth a word: it has no rows of its own."""
        self._phase("agree: control")
        tensors = agree(self._pool, client, deadline=self._deadline)
        judgements, _ = self._runner.referee.judge(self.case, tensors)
        bad = [row for row in judgements if row.verdict == "divergent"]
        if bad:
            raise WorkerFailure("divergent", f"native control: {_divergence(bad, judgements)}")

    def _built(self, adapter: str, *, fresh: bool) -> tuple[Client, dict[str, Any]]:
        self._phase("build")
        client = self._pool.client(adapter, "time", fresh=fresh)
        built = client.request(
            "build",
            timeout=self._left(),
            spec=self._pool.spec(self.case, "time"),
            inputs=self._inputs,
        )
        if built["untimed"]:
            raise WorkerFailure("unsupported", built["untimed"])
        return client, built

    def warm_up(self, client: Client) -> int:
        """Steps until steady. Returns the number of steps in a block."""
        self._phase("warm up")
        warm = client.request("warm_up", timeout=self._left())
        if not warm["steady"]:
            self._unsteady = ("not_steady",)
        return warm["steps_per_block"]

    def block(self, client: Client, steps: int) -> dict[str, Any]:
        """One timed block: {"seconds", "cpu_seconds", "minor_faults"}."""
        return client.request("block", timeout=self._left(), steps=steps)

    def record_rounds(self, blocks: list[dict[str, Any]], steps: int) -> None:
        """Records step time and throughput of one process's rounds."""
        seconds = [block["seconds"] / steps for block in blocks]
        faults = {round(block["minor_faults"] / steps) for block in blocks}
        flags = self._unsteady
        if max(faults) > 0 and len(faults) > 1:
            flags += ("allocator_bound",)
        rates = [self.case.batch / s for s in seconds]
        self._measured("step_time", seconds, steps=steps, flags=flags)
        self._measured("throughput", rates, steps=steps, flags=flags)
        self._process += 1
        self.note = f"{sorted(seconds)[len(seconds) // 2] * 1e3:.3g} ms a step; {self.note}"

    # -- how much memory? -------------------------------------------------------------------------

    def remember(self) -> None:
        """Records memory, measured in a fresh process of its own."""
        self._phase("memory")
        for metric, value in self._runner.referee.lanes.memory(self.case).items():
            self._measured(metric, [value])

    # -- what was really run? ----------------------------------------------------------------------

    def prove(self, client: Client) -> None:
        """Records the effective configuration."""
        self._phase("facts")
        facts = client.request("facts", timeout=self._left())
        self._store.append(Facts(self.case, {**facts, "versions": client.hello["versions"]}))

    def record_ratio(self, values: list[float], steps: int) -> None:
        """Records paired rounds against the native control."""
        self._measured("control_ratio", values, steps=steps, flags=self._unsteady)
        self._process += 1
        self.note += f" {sorted(values)[len(values) // 2]:.3f}"

    # ------------------------------------------------------------------------------------------

    def _measured(
        self, metric: str, values: list[float], *, steps: int = 1, flags: tuple[str, ...] = ()
    ) -> None:
        self._store.append(
            Measurement(
                self.case,
                metric,
                METRICS[metric][0],
                tuple(values),
                steps_per_round=steps,
                process=self._process,
                flags=flags,
            )
        )

    def _phase(self, phase: str) -> None:
        self.now = phase
        self._listener.phase(self.case, phase)
        self._runner.referee.announce = lambda part: self._listener.phase(self.case, part)

    def _left(self) -> float:
        """Seconds until the case's time is over; never quite 0, so that a request is made."""
        return max(0.001, self._deadline - clock.now())


def _record(case: Case, row: Judgement) -> Agreement:
    return Agreement(
        case,
        row.quantity,
        row.tensor,
        row.error,
        row.floor,
        row.ratio,
        row.verdict,
        row.reference,
        row.reason,
    )


def _divergence(bad: list[Judgement], rows: list[Judgement]) -> str:
    """What is, what should be, and where."""
    worst = judge.worst(bad)
    assert worst is not None
    if worst.ratio is None:
        bound = f"but should be at most {judge.IDENTITY:.0e}"
    else:
        allowed = f"{judge.PRECISION_EQUAL:g} times"
        bound = f"{worst.ratio:.1f} times the noise floor, but should be at most {allowed}"
    return (
        f"{worst.quantity} {worst.tensor}: normwise error {worst.error:.2e}, {bound}; reference: "
        f"{worst.reference}; {len(bad)} of {len(rows)} comparisons diverge"
    )
