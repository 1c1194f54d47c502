"""A run's cases on several machines, through Dask's scheduler.

Every case is a task: a machine runs it with pytest, as anybody would, and sends back the records. A
machine measures one thing at a time, so its Dask worker has one thread
(`dask worker ADDRESS --nthreads 1 --resources "GPU=1"`), and both arms of a gate's pair are one
case, which never leaves its machine. A case whose machine is lost is given to another one, once.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results import machines, store
from results.records import RecordError, decode

PROJECT = Path(__file__).resolve().parent.parent
ATTEMPTS = 2  # of a case whose machine is lost
CONNECT_SECONDS = 20
TRACES = "traces"  # in a run's folder
TAIL = 2000  # characters of what pytest printed, for a reason


class SpreadError(Exception):
    """Cases cannot be given to other machines. The text says why and what to do."""


@dataclass(frozen=True)
class Answer:
    """What a machine sent back of a case: its records, as lines, who it is, and what pytest printed
    last."""

    lines: tuple[str, ...]
    machine: Mapping[str, Any]
    tail: str
    traces: Mapping[str, bytes] = field(default_factory=dict)  # by the name of their file


class Lost(Exception):
    """The machine that ran a case is gone, and so is the one that was tried next."""


class Spread:
    """Gives cases to the machines of a scheduler. Raises SpreadError."""

    def __init__(self, address: str, *, gpu: bool) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise SpreadError(
                "--launcher dask needs the package distributed: pip install 'assay[dask]'"
            ) from None
        try:
            self._client = Client(address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise SpreadError(
                f"no Dask scheduler answers at {address} ({error}); it should be one that "
                "`dask scheduler` started, such as tcp://10.0.0.1:8786"
            ) from None
        for worker in self._workers().values():
            _require_alone(str(worker.get("name")), int(worker["nthreads"]))
        # the scheduler gives a task up when more workers than these died under it
        self._client.run_on_scheduler(_set_allowed_failures, allowed=ATTEMPTS - 1)
        self._resources = {"GPU": 1} if gpu else {}
        self._tasks: dict[str, Any] = {}

    @property
    def machines(self) -> int:
        """How many machines there are now."""
        return len(self._workers())

    def _workers(self) -> dict[str, dict[str, Any]]:
        """What the scheduler knows of each worker, by its address."""
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def everywhere(self, test: str, arguments: Sequence[str], *, timeout: float) -> list[Answer]:
        """What came of a test on every machine that there is now. Raises SpreadError."""
        by_host = {worker["host"]: address for address, worker in self._workers().items()}
        tasks = [
            self._client.submit(
                measure, test, tuple(arguments), resources=self._resources, pure=False,
                priority=1, workers=[address], allow_other_workers=False,
            )
            for address in by_host.values()
        ]  # fmt: skip
        try:
            return [task.result(timeout=timeout) for task in tasks]
        except SpreadError:
            raise
        except Exception as error:
            raise SpreadError(f"{type(error).__name__}: {error}") from None

    def submit(self, tests: Mapping[str, Sequence[str]]) -> None:
        """Has each test run with its arguments of pytest."""
        for test, arguments in tests.items():
            self._tasks[test] = self._client.submit(
                measure, test, tuple(arguments), resources=self._resources, pure=False
            )

    def answer(self, test: str) -> Answer:
        """What came of a test, once it has. Raises Lost, and SpreadError for whatever else went
        wrong on the machine."""
        from distributed.scheduler import KilledWorker

        try:
            return self._tasks.pop(test).result()
        except KilledWorker as error:
            worker = getattr(error.last_worker, "address", "unknown")
            raise Lost(
                f"{ATTEMPTS} machines were lost while they ran it, the last was {worker}"
            ) from None
        except SpreadError:
            raise
        except Exception as error:
            raise SpreadError(f"{type(error).__name__}: {error}") from None

    def peek(self, tests: Sequence[str]) -> list[Answer]:
        """Waits for tests, and returns what came of those that came to something."""
        from distributed import wait

        tasks = [self._tasks[test] for test in tests]
        wait(tasks)
        return [task.result() for task in tasks if task.status == "finished"]

    def close(self) -> None:
        """Gives up what has not come back."""
        self._client.cancel(list(self._tasks.values()))
        self._client.close()


def measure(test: str, arguments: Sequence[str]) -> Answer:
    """Runs a test on this machine. References are kept beside Assay, for the next one. Raises
    SpreadError in a Dask worker that would run several at once."""
    from distributed import get_worker

    worker = get_worker()  # perhaps one that came after the others had been looked at
    _require_alone(str(worker.name), worker.state.nthreads)
    with tempfile.TemporaryDirectory(prefix="assay-case-") as scratch:
        command = [sys.executable, "-m", "pytest", test, *arguments]
        command += ["--results", scratch, "--report", "none", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command, cwd=PROJECT, env=_environment(), capture_output=True, text=True
        )
        folders = store.run_folders(Path(scratch))
        if not folders:
            return Answer((), {}, (done.stdout + done.stderr)[-TAIL:])
        environment = json.loads((folders[0] / store.ENVIRONMENT).read_text(encoding="utf-8"))
        lines = (folders[0] / store.RECORDS).read_text(encoding="utf-8").splitlines()
        kept = (folders[0] / TRACES).glob("*")
        traces = {path.name: path.read_bytes() for path in kept}
    machine = {"host": platform.node(), "id": machines.name(environment)}
    return Answer(tuple(lines), machine, done.stdout[-TAIL:], traces)


def _require_alone(name: str, threads: int) -> None:
    """Raises SpreadError for a Dask worker with more than one thread."""
    if threads > 1:
        raise SpreadError(
            f"Dask worker {name} has {threads} threads, but should have 1: cases that are measured "
            "side by side slow each other down. Start it with `dask worker ADDRESS --nthreads 1`"
        )


def _environment() -> dict[str, str]:
    """This process's, without what Dask's nanny tells malloc."""
    return {name: v for name, v in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}


def records(answer: Answer) -> list[Any]:
    """The records of an answer. Raises SpreadError where the machine runs another version."""
    try:
        return [decode(line) for line in answer.lines]
    except RecordError as error:
        host = answer.machine.get("host", "a machine")
        raise SpreadError(
            f"{host} sent what cannot be read: {error}. It should run this version of Assay"
        ) from None


def _set_allowed_failures(dask_scheduler: Any, allowed: int) -> None:
    dask_scheduler.allowed_failures = allowed
