"""Runs cases and records what becomes of them: exactly one outcome each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from harness import clock, limits
from harness.attempt import MEASURING, Attempt
from harness.client import NotStarted, WorkerFailure
from harness.guard import Guard
from harness.lanes import Task
from harness.pool import Pool
from harness.referee import Referee
from harness.trial import JUDGING, WAITS, Listener, Sink
from results.records import Case, Limit, Outcome, Record

A = TypeVar("A", bound=Attempt)
ENDS = ("crashed", "timeout")  # that a framework's known defect can have
PROCESSES = {"quick": 1, "standard": 3, "full": 6}


class Ended(Exception):
    """A case ended otherwise than `ok`. Carries its outcome, which is already recorded."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Runner:
    """Runs cases and records what becomes of them: exactly one outcome each."""

    def __init__(
        self, pool: Pool, store: Sink, listener: Listener, *, gpu: Guard | None = None
    ) -> None:
        self.pool = pool
        self.referee = Referee(pool)
        self.gpu = gpu or Guard()
        self._store = store
        self._listener = listener
        self.outcomes: list[Outcome] = []
        self._start = clock.now()
        self._phases: dict[str, float] = defaultdict(float)  # of what is no case
        #: Starts the two workers of a pair side by side. Its threads live as long as the run: when
        #: the thread that started a worker ends, the kernel takes the worker's parent for dead.
        self.starters = ThreadPoolExecutor(2)
        self._taken = 0  # outcomes that another run came to

    def case(self, case: Case, *, reproduce: str) -> AbstractContextManager[Attempt]:
        """Whatever happens inside becomes the case's outcome. Raises Ended unless it is `ok`."""
        return self.run(Attempt, case, reproduce=reproduce)

    @contextmanager
    def run(self, kind: type[A], case: Case, *, reproduce: str) -> Iterator[A]:
        """The same with another kind of attempt."""
        start = clock.now()
        attempt = kind(case, self, self._store, self._listener)
        status, reason = "ok", ""
        try:
            yield attempt
        except WorkerFailure as failure:
            status, reason = failure.status, failure.reason
            if status == "timeout":
                limit = self.pool.settings.case_timeout
                reason = f"not done after {limit:g} s, in phase {attempt.now!r}: {reason}"
            if status in ENDS and (known := self.referee.known_end(case, status)):
                status, reason = "unsupported", f"{known}; {failure.status}: {reason}"
        except OSError as error:  # a temporary file that cannot be written, say
            where = f": {error.filename}" if error.filename else ""
            status, reason = "failed", f"{error.strerror or error}{where}"
        except KeyboardInterrupt:
            status, reason = "interrupted", f"stopped by the user in phase {attempt.now!r}"
            raise
        except NotStarted as error:  # of which the case is not the cause
            status, reason = "interrupted", f"the run ended: {error}"
            raise
        except Exception as error:
            status = "failed"
            reason = f"in Assay itself, phase {attempt.now!r}: {type(error).__name__}: {error}"
            raise
        finally:
            attempt.settle()
            if case.size == "full":  # of which several at once do not fit into memory
                self.pool.close_timed()
            seconds = max(clock.now() - start, attempt.seconds_before)
            outcome = Outcome(case, status, reason, seconds, reproduce, dict(attempt.phases))
            self._store.append(outcome)
            self.outcomes.append(outcome)
            self._listener.ended(outcome, attempt.note)
        if status != "ok":
            raise Ended(outcome) from None

    def ahead(self, cases: Sequence[Case], *, processes: int = 1, seeds: int = 1) -> None:
        """Starts, in the background, what these cases will need and is not timed."""
        self.referee.ahead(cases)
        self.referee.lanes.ahead(
            Task("converge", case, seeds) for case in cases if case.suite == "convergence"
        )
        # a device's memory is not shared: there, everything runs in its turn
        on_host = [case for case in cases if case.device == "cpu" and case.size != "full"]
        self.referee.lanes.ahead(
            Task("remember", case, number)
            for number in range(processes)
            for case in on_host
            if case.suite == "memory"
        )
        if processes > 1:
            self.referee.lanes.ahead(Task("fill", c) for c in on_host if c.suite == "cold_start")

    def ended_elsewhere(self, outcome: Outcome) -> None:
        """Records how a case ended on another machine."""
        self._store.append(outcome)
        self.outcomes.append(outcome)
        self._listener.ended(outcome, "")

    def keep(self, record: Record) -> None:
        """Records something beside the outcomes."""
        self._store.append(record)

    def take_over(self, outcomes: Iterable[Outcome]) -> None:
        """Counts outcomes of another run as this one's. Before any case."""
        self.outcomes += outcomes
        self._taken = len(self.outcomes)

    def limits(self, limit: str, device: str, adapters: Sequence[str]) -> list[Limit]:
        """Measures and records a limit of the machine with every adapter that can; the largest is
        the machine's. Raises WorkerFailure `unsupported` where none can."""
        for purpose, phase in WAITS.items():
            with self._booked(phase):
                self.referee.lanes.wait(purpose)
        with self._booked("rounds"):
            found, reasons = limits.measure(self.pool, limit, device, adapters)
        for one in found:
            self._store.append(one)
        if not found:
            raise WorkerFailure("unsupported", "; ".join(reasons) or "no adapter was asked")
        return found

    @contextmanager
    def _booked(self, phase: str) -> Iterator[None]:
        start = clock.now()
        yield
        self._phases[phase] += clock.now() - start

    def spent(self) -> dict[str, float]:
        """Where the seconds of this run went: `measured` code, `judged` tensors, other `cases`
        (starting processes, say), and the `rest` (collection, pytest, records)."""
        phases = Counter(self._phases)
        for outcome in self.outcomes[self._taken :]:
            phases.update(outcome.phases)
        measured = sum(phases[name] for name in MEASURING)
        judged = sum(phases[name] for name in JUDGING)
        cases = sum(phases.values()) - measured - judged
        rest = max(0.0, clock.now() - self._start - measured - judged - cases)
        return {"measured": measured, "judged": judged, "cases": cases, "rest": rest}

    def contract(self, adapter: str) -> dict[str, list[str]]:
        """What an adapter lacks of the vocabulary. Raises WorkerFailure."""
        with self.referee.lanes.worker(adapter) as client:
            return client.request("contract", timeout=self.pool.settings.case_timeout)

    def close(self) -> None:
        """Ends all workers."""
        self.referee.lanes.stop()
        self.starters.shutdown()

    def conformance_of(self, case: Case) -> Outcome | None:
        """A conformance outcome of this run that forbids to measure `case`, if there is one."""
        for outcome in self.outcomes:
            other = outcome.case
            same = (other.mode, other.model, other.adapter, other.device) == (
                case.mode,
                case.model,
                case.adapter,
                case.device,
            )
            wrong = outcome.status not in ("ok", "unsupported")
            if same and wrong and other.suite in ("conformance", "convergence"):
                return outcome
        return None
