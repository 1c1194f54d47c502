"""Programs whose tensors are judged: each runs once, and adapters run side by side.

Nothing is timed here, so lanes may share the machine: while one compiles, another computes. An
adapter's programs still run one after the other, because its worker holds one at a time.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

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
    """What came of a program: its tensors, or the failure; and the seconds that it took."""

    result: Tensors | WorkerFailure
    seconds: float


class Lanes:
    """Runs judged programs and keeps their tensors. Safe to use from several threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._answers: dict[Case, Answer] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._executor = ThreadPoolExecutor(physical_cores(), thread_name_prefix="lane")
        self._running: list[Future[None]] = []
        self._stopped = False

    def ahead(self, cases: Iterable[Case]) -> None:
        """Starts to run `cases` in the background, in this order within each adapter."""
        by_adapter: dict[str, list[Case]] = defaultdict(list)
        for case in dict.fromkeys(cases):
            by_adapter[case.adapter].append(case)
        for lane in by_adapter.values():
            self._running.append(self._executor.submit(self._run_all, lane))

    def tensors(self, case: Case) -> Tensors:
        """The tensors of `case`, computed now unless they were before. Raises WorkerFailure."""
        with self._locks[case.adapter]:
            if case not in self._answers:
                self._answers[case] = self._answer(case)
        result = self._answers[case].result
        if isinstance(result, WorkerFailure):
            raise result
        return result

    def seconds(self, case: Case) -> float:
        """How long `case` ran here; 0 if it did not."""
        return self._answers[case].seconds if case in self._answers else 0.0

    def disturbed(self, case: Case, noise: Noise) -> Tensors:
        """The tensors of one run of `case` with noise. Raises WorkerFailure."""
        with self._locks[case.adapter]:
            return _run(self._pool, case, noise)

    @contextmanager
    def worker(self, adapter: str) -> Iterator[Client]:
        """The adapter's judging worker, for something else. Raises WorkerFailure."""
        with self._locks[adapter]:
            yield self._pool.client(adapter, "judge")

    def wait(self) -> None:
        """Returns when nothing runs any more: what is timed must be alone."""
        wait(self._running)

    def stop(self) -> None:
        """Ends the lanes and their workers."""
        self._stopped = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._pool.close_all("judge")  # whoever waits for one of these gets a failure
        self._executor.shutdown(wait=True)
        self._pool.close_all("judge")  # started in between

    def _run_all(self, cases: list[Case]) -> None:
        for case in cases:
            with self._locks[case.adapter]:
                if not self._stopped and case not in self._answers:
                    self._answers[case] = self._answer(case)

    def _answer(self, case: Case) -> Answer:
        start = clock.now()
        try:
            result: Tensors | WorkerFailure = _run(self._pool, case)
        except WorkerFailure as failure:
            result = failure
        except OSError as error:  # a temporary file that cannot be written, say
            where = f": {error.filename}" if error.filename else ""
            result = WorkerFailure("failed", f"{error.strerror or error}{where}")
        return Answer(result, clock.now() - start)


def _run(pool: Pool, case: Case, noise: Noise | None = None) -> Tensors:
    deadline = clock.now() + pool.settings.case_timeout
    client = pool.client(case.adapter, "judge")
    inputs = str(pool.inputs(case.model, case.size, case.batch))
    spec = pool.spec(case, "judge", noise)
    client.request("build", timeout=deadline - clock.now(), spec=spec, inputs=inputs)
    return agree(pool, client, deadline=deadline)


def agree(pool: Pool, client: Client, *, deadline: float) -> Tensors:
    """The tensors of the program that a worker has built. `deadline` is a reading of the clock."""
    out = pool.scratch_file("tensors.npz")
    left = max(0.001, deadline - clock.now())
    client.request("agree", timeout=left, steps=list(STEPS), out=str(out))
    tensors = load_tensors(out)
    out.unlink()
    return tensors
