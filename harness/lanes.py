"""What is not timed, and may therefore share the machine: programs whose tensors are judged,
programs whose memory is measured, and programs that are compiled for the cache's sake. Each runs
once, and adapters run side by side: while one compiles, another computes.
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
from harness import clock, gpu, proof
from harness.client import Client, WorkerFailure
from harness.environment import physical_cores
from harness.pool import Pool, Role
from harness.protocol import load_tensors
from results.records import Case

STEPS = (1, 10)  # after which updates and buffers are judged

Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Task:
    """A program to run: for a purpose of `harness.pool` (judge, remember or fill), in the
    how-manieth of several processes."""

    purpose: str
    case: Case
    number: int = 0

    @property
    def lane(self) -> tuple[str, str]:
        """Tasks of one lane run one after the other: a worker holds one program at a time."""
        return self.purpose, self.case.adapter

    @property
    def role(self) -> Role:
        return Role(self.case.adapter, self.purpose, threads=self.case.threads)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory metrics of one process in bytes, and the tensors of the program measured there."""

    values: Mapping[str, float]
    tensors: Tensors
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a task: its result, or the failure; and the seconds that it took."""

    result: Any
    seconds: float


class Lanes:
    """Runs tasks and keeps their results. Safe to use from several threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._answers: dict[Task, Answer] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._executor = ThreadPoolExecutor(physical_cores(), thread_name_prefix="lane")
        self._running: dict[str, list[Future[None]]] = defaultdict(list)  # by purpose
        self._stopped = False

    def ahead(self, tasks: Iterable[Task]) -> None:
        """Starts to run tasks in the background, in this order within each lane."""
        lanes: dict[tuple[str, str], list[Task]] = defaultdict(list)
        for task in dict.fromkeys(tasks):
            lanes[task.lane].append(task)
        for (purpose, _), lane in lanes.items():
            self._running[purpose].append(self._executor.submit(self._run_all, lane))

    def tensors(self, case: Case) -> Tensors:
        """The tensors of `case`. Raises WorkerFailure."""
        return self._result(Task("judge", case))

    def memory(self, case: Case, number: int) -> Memory:
        """What `case` took in the how-manieth of several processes. Raises WorkerFailure."""
        return self._result(Task("remember", case, number))

    def fill(self, case: Case) -> bool:
        """Has `case` compiled into the cache that later processes find. False where the framework
        keeps none. Raises WorkerFailure."""
        return self._result(Task("fill", case))

    def seconds(self, case: Case) -> float:
        """How long judging `case` ran here; 0 if it did not."""
        answer = self._answers.get(Task("judge", case))
        return answer.seconds if answer else 0.0

    def disturbed(self, case: Case, noise: Noise) -> Tensors:
        """The tensors of one run of `case` with noise. Raises WorkerFailure."""
        task = Task("judge", case)
        with self._locks[task.lane]:
            return _judged(self._pool, task, noise)

    @contextmanager
    def worker(self, adapter: str) -> Iterator[Client]:
        """The adapter's judging worker, for something else. Raises WorkerFailure."""
        with self._locks["judge", adapter]:
            yield self._pool.client(Role(adapter, "judge"))

    def wait(self, purpose: str) -> None:
        """Returns when no task of a purpose runs any more: what is timed must be alone."""
        wait(self._running[purpose])

    def stop(self) -> None:
        """Ends the lanes and all workers."""
        self._stopped = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._pool.close_all()  # whoever waits for one of these gets a failure
        self._executor.shutdown(wait=True)
        self._pool.close_all()  # started in between

    def _run_all(self, tasks: list[Task]) -> None:
        for task in tasks:
            with self._locks[task.lane]:
                if not self._stopped and task not in self._answers:
                    self._answers[task] = self._answer(task)

    def _result(self, task: Task) -> Any:
        with self._locks[task.lane]:
            if task not in self._answers:
                self._answers[task] = self._answer(task)
        result = self._answers[task].result
        if isinstance(result, WorkerFailure):
            raise result
        return result

    def _answer(self, task: Task) -> Answer:
        start = clock.now()
        work: Mapping[str, Callable[[Pool, Task], Any]] = {
            "judge": _judged,
            "remember": _remembered,
            "fill": self._filled,
        }
        try:
            result = work[task.purpose](self._pool, task)
        except WorkerFailure as failure:
            result = failure
        except OSError as error:  # a temporary file that cannot be written, say
            where = f": {error.filename}" if error.filename else ""
            result = WorkerFailure("failed", f"{error.strerror or error}{where}")
        return Answer(result, clock.now() - start)

    def _filled(self, pool: Pool, task: Task) -> bool:
        with self.worker(task.case.adapter) as judging:
            if not judging.hello["compile_cache"]:
                return False
        deadline = clock.now() + pool.settings.case_timeout
        client, _ = pool.build(task.case, task.role, timeout=deadline - clock.now())
        client.request("first_call", timeout=deadline - clock.now())
        return True


def _remembered(pool: Pool, task: Task) -> Memory:
    deadline = clock.now() + pool.settings.case_timeout
    role, case = task.role, task.case
    client = pool.client(role, fresh=True)
    spec, inputs = pool.spec(case, role), str(pool.inputs(case))
    found = client.request("remember", timeout=deadline - clock.now(), spec=spec, inputs=inputs)
    tensors = agree(pool, client, deadline=deadline)
    facts = client.request("facts", timeout=max(0.001, deadline - clock.now()))
    facts = {**facts, **client.identity}
    on_device = gpu.process_bytes(client.pid) if case.device == "cuda" else None
    pool.close(role)
    values = {name: float(value) for name, value in found.items()}
    if on_device is not None:
        values["device_process_bytes"] = float(on_device)
    return Memory(values, tensors, facts)


def _judged(pool: Pool, task: Task, noise: Noise | None = None) -> Tensors:
    deadline = clock.now() + pool.settings.case_timeout
    left = deadline - clock.now()
    client, _ = pool.build(task.case, task.role, timeout=left, noise=noise)
    tensors = agree(pool, client, deadline=deadline)
    if noise is None:
        facts = client.request("facts", timeout=max(0.001, deadline - clock.now()))
        proof.require(task.case, facts, threads=pool.threads(task.role))
    return tensors


def agree(pool: Pool, client: Client, *, deadline: float) -> Tensors:
    """The tensors of the program that a worker has built. `deadline` is a reading of the clock."""
    out = pool.scratch_file("tensors.npz")
    left = max(0.001, deadline - clock.now())
    client.request("agree", timeout=left, steps=list(STEPS), out=str(out))
    tensors = load_tensors(out)
    out.unlink()
    return tensors
