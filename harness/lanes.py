"""What is not timed, and may therefore share the machine: programs whose tensors are judged,
programs whose memory is measured, and programs that are compiled for the cache's sake. Each runs
once, and adapters run side by side: while one compiles, another computes.
"""

from __future__ import annotations

import dataclasses
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adapters import model as models
from adapters.base import Noise
from adapters.registry import QUICK
from harness import clock, convergence, gpu, proof
from harness.client import Client, NotStarted, WorkerFailure
from harness.environment import physical_cores
from harness.examiner import Answers, Examiner
from harness.memo import digest
from harness.pool import Pool, Role
from harness.protocol import load_tensors
from results.records import Case

STEPS = (1, 10)  # after which updates and buffers are judged
FEWEST = (1,)  # of size full, where a step takes seconds
LONG = 100  # after so many as well, of models that say so
GAP = 0.002  # seconds between two tasks of a lane, in which somebody else gets its lock
LANES_WAITING = 2  # beside one per core: some wait for a compiler, or for another process to start

EXERCISING = 1  # number of the judging worker that does exercises

Tensors = Mapping[str, np.ndarray]
Lane = tuple[str, str, int]  # purpose, adapter, number of the worker


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to run for a purpose, in the how-manieth of several processes.

    judge       the tensors of a program        remember    a program's memory
    reference   the same, for another case      fill        compiles a program into a cache
    exercise    the results of exercises        floors      how exact they can be
    repeat      a program, again and again      converge    trains to a model's goal, per seed
    """

    purpose: str
    case: Case
    number: int = 0

    @property
    def lane(self) -> Lane:
        """Tasks of one lane run one after the other: a worker holds one program at a time."""
        return self.role.purpose, self.case.adapter, self.role.number

    @property
    def role(self) -> Role:
        """Exercises, of which there are thousands, have a worker beside that of programs."""
        purpose = self.purpose if self.purpose in ("remember", "fill") else "judge"
        number = EXERCISING if self.purpose in ("exercise", "floors") else 0
        return Role(self.case.adapter, purpose, number, self.case.threads)


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

    def __init__(self, pool: Pool, examiner: Examiner) -> None:
        self._pool = pool
        self._examiner = examiner
        self._answers: dict[Task, Answer] = {}
        self._facts: dict[Case, Mapping[str, Any]] = {}
        self._libraries: dict[str, Mapping[str, str]] = {}  # by adapter
        self._locks: dict[Lane, threading.RLock] = defaultdict(threading.RLock)
        self._executor = ThreadPoolExecutor(
            physical_cores() + LANES_WAITING, thread_name_prefix="lane"
        )
        self._gap = threading.Event()  # never set: to wait a moment
        self._running: dict[str, list[Future[None]]] = defaultdict(list)  # by purpose
        self._stopped = False

    def ahead(self, tasks: Iterable[Task]) -> None:
        """Starts to run tasks in the background, in this order within each lane. Lanes that take
        longest start first: what is left for the end would have the machine to itself."""
        lanes: dict[Lane, list[Task]] = defaultdict(list)
        for task in dict.fromkeys(tasks):
            lanes[task.lane].append(task)
        slow = {adapter: place for place, adapter in enumerate(QUICK)}
        for lane in sorted(lanes, key=lambda lane: slow.get(lane[1], len(slow))):
            running = self._executor.submit(self._run_all, lanes[lane])
            self._running[lane[0]].append(running)

    def reference(self, case: Case) -> Tensors:
        """The tensors of `case`, of this run or of an earlier one. Raises WorkerFailure."""
        return self._result(Task("reference", case))

    def answers(self, case: Case) -> Answers:
        """The results of exercises. Raises WorkerFailure."""
        return self._result(Task("exercise", case))

    def floors(self, case: Case) -> Mapping[str, float]:
        """The noise floors of exercises, measured with the case's adapter. Raises WorkerFailure."""
        return self._result(Task("floors", case))

    def tensors(self, case: Case) -> Tensors:
        """The tensors of `case`. Raises WorkerFailure."""
        return self._result(Task("judge", case))

    def facts(self, case: Case) -> Mapping[str, Any]:
        """What the program whose tensors were judged really did."""
        return self._facts.get(case, {})

    def repetitions(self, case: Case) -> tuple[Tensors, Mapping[str, Tensors]]:
        """The tensors of `case`, and of it run again (`harness.repetition`)."""
        return self._result(Task("repeat", case))

    def curves(self, case: Case, seeds: int) -> list[list[dict[str, float]]]:
        """How `case` converges, by seed (`harness.convergence`). Raises WorkerFailure."""
        return self._result(Task("converge", case, seeds))

    def memory(self, case: Case, number: int) -> Memory:
        """What `case` took in the how-manieth of several processes. Raises WorkerFailure."""
        return self._result(Task("remember", case, number))

    def fill(self, case: Case) -> bool:
        """Has `case` compiled into the cache that later processes find. False where the framework
        keeps none. Raises WorkerFailure."""
        return self._result(Task("fill", case))

    def seconds(self, case: Case) -> float:
        """How long judging `case` ran here; 0 if it did not."""
        purposes = ("judge", "exercise", "repeat", "converge")
        return sum(
            answer.seconds
            for task, answer in list(self._answers.items())
            if task.case == case and task.purpose in purposes
        )

    def disturbed(self, case: Case, noises: Sequence[Noise]) -> Iterator[Tensors]:
        """The tensors of `case` with each of several noises. Raises WorkerFailure."""
        task = Task("judge", case)
        with self._locks[task.lane]:
            for noise in noises:
                yield _judged(self._pool, task, noise)

    def disturbs_storage(self, adapter: str) -> bool:
        """Whether the adapter's noise includes the rounding of stored parameters."""
        with self.worker(adapter) as client:
            return client.hello["disturbs_storage"]

    def hello(self, adapter: str) -> Mapping[str, Any]:
        """What an adapter's workers say of themselves when they start: framework, versions. Waits
        for none that is busy. Raises WorkerFailure."""
        hello = self._pool.hello(adapter)
        if hello is None:
            with self.worker(adapter) as client:
                return client.hello
        return hello

    def libraries(self, adapter: str) -> Mapping[str, str]:
        """What an adapter's framework was built with (`Adapter.libraries`), which is asked once.
        Raises WorkerFailure."""
        if adapter not in self._libraries:
            with self.worker(adapter) as client:
                timeout = self._pool.settings.case_timeout
                self._libraries[adapter] = client.request("libraries", timeout=timeout)
        return self._libraries[adapter]

    @contextmanager
    def worker(self, adapter: str) -> Iterator[Client]:
        """The adapter's judging worker, for something else. Raises WorkerFailure."""
        with self._locks["judge", adapter, 0]:
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
            self._gap.wait(GAP)

    def _result(self, task: Task) -> Any:
        if task not in self._answers:
            with self._locks[task.lane]:
                if task not in self._answers:
                    self._answers[task] = self._answer(task)
        result = self._answers[task].result
        if isinstance(result, WorkerFailure | NotStarted):
            raise result
        return result

    def _answer(self, task: Task) -> Answer:
        start = clock.now()
        work: Mapping[str, Callable[[Pool, Task], Any]] = {
            "judge": lambda pool, task: _judged(pool, task, known=self._facts),
            "remember": lambda pool, task: remembered(pool, task.case, task.role),
            "fill": self._filled,
            "reference": self._referenced,
            "exercise": self._exercised,
            "floors": self._floored,
            "repeat": self._repeated,
            "converge": self._converged,
        }
        try:
            result = work[task.purpose](self._pool, task)
        except (WorkerFailure, NotStarted) as failure:
            result = failure
        except OSError as error:  # a temporary file that cannot be written, say
            where = f": {error.filename}" if error.filename else ""
            result = WorkerFailure("failed", f"{error.strerror or error}{where}")
        except Exception as error:  # or the lane would end without a word
            told = traceback.format_exception_only(error)[-1].strip()
            at = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(at.filename).name}:{at.lineno}"
            result = WorkerFailure("failed", f"in Assay itself, {place}: {told}")
        return Answer(result, clock.now() - start)

    def _referenced(self, pool: Pool, task: Task) -> Tensors:
        run = Task("judge", task.case)
        if run in self._answers or task.case.adapter in pool.settings.pythons:
            return self._result(run)
        question = {
            "case": dataclasses.asdict(task.case),
            "inputs": digest(pool.inputs(task.case)),
            "steps": steps(task.case),
        }
        return pool.settings.memo.get(question, lambda: self._result(run))

    def _exercised(self, pool: Pool, task: Task) -> Answers:
        return self._examiner.answers(task.case, lambda: pool.client(task.role))

    def _floored(self, pool: Pool, task: Task) -> Mapping[str, float]:
        return self._examiner.floors(task.case, lambda: pool.client(task.role))

    def _repeated(self, pool: Pool, task: Task) -> tuple[Tensors, Mapping[str, Tensors]]:
        from harness import repetition  # which needs `agree`

        return repetition.variants(pool, task.case, pool.client(task.role))

    def _converged(self, pool: Pool, task: Task) -> list[list[dict[str, float]]]:
        return convergence.curves(pool, task.case, task.role, seeds=task.number)

    def _filled(self, pool: Pool, task: Task) -> bool:
        with self.worker(task.case.adapter) as judging:
            if not judging.hello["compile_cache"]:
                return False
        deadline = clock.now() + pool.settings.case_timeout
        client, _ = pool.build(task.case, task.role, timeout=deadline - clock.now())
        client.request("first_call", timeout=deadline - clock.now())
        return True


def remembered(pool: Pool, case: Case, role: Role) -> Memory:
    """What `case` takes in a new worker in a role. Raises WorkerFailure."""
    deadline = clock.now() + pool.settings.case_timeout
    client = pool.client(role, fresh=True)
    spec, inputs = pool.spec(case, role), str(pool.inputs(case))
    found = client.request("remember", timeout=deadline - clock.now(), spec=spec, inputs=inputs)
    tensors = agree(pool, client, case, deadline=deadline)
    facts = client.request("facts", timeout=max(0.001, deadline - clock.now()))
    facts = {**facts, **client.identity}
    on_device = gpu.process_bytes(client.pid) if case.device == "cuda" else None
    pool.close(role)
    values = {name: float(value) for name, value in found.items()}
    if on_device is not None:
        values["device_process_bytes"] = float(on_device)
    return Memory(values, tensors, facts)


def _judged(
    pool: Pool,
    task: Task,
    noise: Noise | None = None,
    *,
    known: dict[Case, Mapping[str, Any]] | None = None,
) -> Tensors:
    """The tensors of a task's program. What it did is checked, and kept in `known`."""
    deadline = clock.now() + pool.settings.case_timeout
    left = deadline - clock.now()
    client, _ = pool.build(task.case, task.role, timeout=left, noise=noise)
    wanted = steps(task.case)
    if noise is not None:
        wanted = [step for step in wanted if step <= LONG]
    tensors = agree(pool, client, task.case, deadline=deadline, after=wanted)
    if noise is None:
        facts = client.request("facts", timeout=max(0.001, deadline - clock.now()))
        if known is not None:
            known[task.case] = facts
        proof.require(task.case, facts, threads=pool.threads(task.role))
    if task.case.size == "full":  # of which several at once do not fit into memory
        client.request("forget", timeout=pool.settings.case_timeout)
    return tensors


def steps(case: Case) -> Sequence[int]:
    """After which steps a case's updates and buffers are judged. What comes after LONG is judged in
    float64, where it needs no noise floor."""
    if case.size == "full":
        return FEWEST
    last = models.get(case.model).long if case.size == "tiny" else 0
    longest = (last,) if last > LONG and case.precision == "fp64" else ()
    return (*STEPS, LONG, *longest) if last else STEPS


def agree(
    pool: Pool,
    client: Client,
    case: Case,
    *,
    deadline: float,
    unseen: bool = True,
    after: Sequence[int] = (),
) -> Tensors:
    """The tensors of the program that a worker has built, `after` so many steps or those that are
    judged. `deadline` is a reading of the clock. Without `unseen`, it sees one batch later
    (`of_unseen`)."""
    asked = {"steps": list(after or steps(case)), "unseen": unseen}
    return _written(pool, client, "agree", deadline=deadline, **asked)


def of_unseen(pool: Pool, client: Client, *, deadline: float) -> Tensors:
    """What the program that a worker has built makes of a batch that it has not seen."""
    return _written(pool, client, "unseen", deadline=deadline)


def _written(
    pool: Pool, client: Client, request: str, *, deadline: float, **asked: Any
) -> dict[str, np.ndarray]:
    """The tensors that a request writes."""
    out = pool.scratch_file("tensors.npz")
    client.request(request, timeout=max(0.001, deadline - clock.now()), out=str(out), **asked)
    tensors = load_tensors(out)
    out.unlink()
    return tensors
