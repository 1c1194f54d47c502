"""What is not timed, and may therefore share the machine: programs whose tensors are judged, and
programs whose memory is measured. Each runs once, and adapters run side by side: while one
compiles, another computes.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import numpy as np

from adapters.base import Noise
from harness import clock
from harness.client import Client, WorkerFailure
from harness.environment import physical_cores
from harness.pool import Pool
from harness.protocol import load_tensors
from results.records import Case

STEPS = (1, 10)  # after which updates and buffers are judged

Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a program: its result, or the failure; and the seconds that it took."""

    result: Any
    seconds: float


class Lanes:
    """Runs programs and keeps their results. Safe to use from several threads.

    A lane is an adapter and a purpose, "judge" or "remember" (`harness.pool`). Programs of one lane
    run one after the other, because a worker holds one at a time.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._answers: dict[tuple[str, Case], Answer] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._executor = ThreadPoolExecutor(physical_cores(), thread_name_prefix="lane")
        self._running: list[Future[None]] = []
        self._stopped = False

    def ahead(self, purpose: str, cases: Iterable[Case]) -> None:
        """Starts to run `cases` in the background, in this order within each adapter."""
        by_adapter: dict[str, list[Case]] = defaultdict(list)
        for case in dict.fromkeys(cases):
            by_adapter[case.adapter].append(case)
        for lane in by_adapter.values():
            self._running.append(self._executor.submit(self._run_all, purpose, lane))

    def tensors(self, case: Case) -> Tensors:
        """The tensors of `case`. Raises WorkerFailure."""
        return self._result("judge", case)

    def memory(self, case: Case) -> dict[str, float]:
        """Memory metrics of `case`, in bytes. Raises WorkerFailure."""
        return self._result("remember", case)

    def seconds(self, case: Case) -> float:
        """How long judging `case` ran here; 0 if it did not."""
        answer = self._answers.get(("judge", case))
        return answer.seconds if answer else 0.0

    def disturbed(self, case: Case, noise: Noise) -> Tensors:
        """The tensors of one run of `case` with noise. Raises WorkerFailure."""
        with self._locks["judge", case.adapter]:
            return _judged(self._pool, case, noise)

    @contextmanager
    def worker(self, adapter: str) -> Iterator[Client]:
        """The adapter's judging worker, for something else. Raises WorkerFailure."""
        with self._locks["judge", adapter]:
            yield self._pool.client(adapter, "judge")

    def wait(self) -> None:
        """Returns when nothing runs any more: what is timed must be alone."""
        wait(self._running)

    def stop(self) -> None:
        """Ends the lanes and all workers."""
        self._stopped = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._pool.close_all()  # whoever waits for one of these gets a failure
        self._executor.shutdown(wait=True)
        self._pool.close_all()  # started in between

    def _run_all(self, purpose: str, cases: list[Case]) -> None:
        for case in cases:
            with self._locks[purpose, case.adapter]:
                if not self._stopped and (purpose, case) not in self._answers:
                    self._answers[purpose, case] = self._answer(purpose, case)

    def _result(self, purpose: str, case: Case) -> Any:
        with self._locks[purpose, case.adapter]:
            if (purpose, case) not in self._answers:
                self._answers[purpose, case] = self._answer(purpose, case)
        result = self._answers[purpose, case].result
        if isinstance(result, WorkerFailure):
            raise result
        return result

    def _answer(self, purpose: str, case: Case) -> Answer:
        start = clock.now()
        try:
            result = _WORK[purpose](self._pool, case)
        except WorkerFailure as failure:
            result = failure
        except OSError as error:  # a temporary file that cannot be written, say
            where = f": {error.filename}" if error.filename else ""
            result = WorkerFailure("failed", f"{error.strerror or error}{where}")
        return Answer(result, clock.now() - start)


def _remembered(pool: Pool, case: Case) -> dict[str, float]:
    client = pool.client(case.adapter, "remember", fresh=True)
    inputs = str(pool.inputs(case.model, case.size, case.batch))
    spec = pool.spec(case, "remember")
    found = client.request("remember", timeout=pool.settings.case_timeout, spec=spec, inputs=inputs)
    pool.close(case.adapter, "remember")
    return {metric: float(value) for metric, value in found.items()}


def _judged(pool: Pool, case: Case, noise: Noise | None = None) -> Tensors:
    deadline = clock.now() + pool.settings.case_timeout
    client = pool.client(case.adapter, "judge")
    inputs = str(pool.inputs(case.model, case.size, case.batch))
    spec = pool.spec(case, "judge", noise)
    client.request("build", timeout=deadline - clock.now(), spec=spec, inputs=inputs)
    return agree(pool, client, deadline=deadline)


_WORK: dict[str, Callable[[Pool, Case], Any]] = {"judge": _judged, "remember": _remembered}


def agree(pool: Pool, client: Client, *, deadline: float) -> Tensors:
    """The tensors of the program that a worker has built. `deadline` is a reading of the clock."""
    out = pool.scratch_file("tensors.npz")
    left = max(0.001, deadline - clock.now())
    client.request("agree", timeout=left, steps=list(STEPS), out=str(out))
    tensors = load_tensors(out)
    out.unlink()
    return tensors
