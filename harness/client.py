"""The parent's end of a worker: starts it, asks, and turns everything that can happen to a
process into a named failure."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from harness import clock, logs
from harness.protocol import VERSION, ProtocolError, decode, encode

PROJECT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.2  # how often a waiting parent looks at the worker's memory
#: Statuses of failures whose reason says all that there is to say.
EXPLAINED = ("unsupported", "divergent")
LOG_LINES = 5  # of the worker's output, in a failure's reason

#: Environment of a process that is timed: glibc keeps freed memory, so that a step does not
#: fault pages in anew. Why: docs/measurement.md.
PINNED_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "MALLOC_ARENA_MAX": "1",
}
#: Environment of a process whose memory is measured: freed memory goes back at once.
#: One arena: with several, what XLA's compiling threads leave in theirs differs by megabytes.
RETURNING_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


class NotStarted(Exception):
    """A process that should have become a worker never answered: wrong interpreter, a broken
    installation, another version. No case is to blame, and every other one would fail alike, so
    that this ends the run. The text is one line: what is, where its log is, what to do."""


class WorkerFailure(Exception):
    """A worker did not do what it was asked. `status` is an outcome's status, `who` the side of a
    gate that the worker belongs to; empty where it belongs to none, or no worker is to blame."""

    def __init__(self, status: str, reason: str, *, who: str = "") -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        self.who = who


def thread_environment(threads: int) -> dict[str, str]:
    """Thread counts, which most libraries read once, when they are loaded."""
    names = (
        "OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS "
        "TF_NUM_INTRAOP_THREADS TF_NUM_INTEROP_THREADS NPROC"  # NPROC: XLA on the CPU
    )
    return {name: str(threads) for name in names.split()}


def cache_environment(folder: Path, keep: str) -> dict[str, str]:
    """Where compilers keep what they compiled, and what is kept: "nothing", what they keep by
    "default" (Inductor does, XLA does not), or "everything" that they can. XLA's code is not the
    same when it comes from a cache: see docs/findings.md."""
    inductor, xla = keep != "nothing", keep == "everything"
    flags = [os.environ.get("TF_XLA_FLAGS")]
    flags += [f"--tf_xla_persistent_cache_directory={folder / 'xla'}"] if xla else []
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "0" if inductor else "1",
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "JAX_ENABLE_COMPILATION_CACHE": "true" if xla else "false",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TF_XLA_FLAGS": " ".join(filter(None, flags)),
        "CUDA_CACHE_DISABLE": "0" if inductor else "1",
    }


class Client:
    """A live worker with one adapter.

    python          the interpreter that runs it
    environment     added to this process's environment
    log             the file that receives everything the worker prints
    kept            the folder that gets a copy of it where it explains a failure
    memory_limit    bytes resident at which the worker is killed
    processors      those that it may run on; empty for all
    project         the folder with Assay's packages that it runs
    folders         where it looks for all other packages first
    name            what the reasons of its failures begin with
    who             whose its failures are, where it belongs to a side of a gate

    Where the run was started does not matter: the working directory's files are not importable, so
    that nobody's `harness.py` takes the place of ours. Raises NotStarted, and WorkerFailure where
    the worker answered that it has no adapter, or the adapter's import ended it.
    """

    def __init__(
        self,
        module: str,
        *,
        python: str,
        environment: Mapping[str, str],
        log: Path,
        memory_limit: int,
        timeout: float,
        processors: Sequence[int] = (),
        project: Path = PROJECT,
        folders: Sequence[Path] = (),
        name: str = "",
        kept: Path | None = None,
        who: str = "",
    ) -> None:
        self._name = name
        self._who = who or name
        self._log = log
        self._kept = kept
        self._memory_limit = memory_limit
        self._buffer = b""
        self._last_id = -1
        self._oom_kills = _oom_kills()
        self._about = f"{name}: " * bool(name) + f"the worker of {module} in {python}"
        started = _start(module, python, environment, log, processors, project, folders)
        if isinstance(started, str):
            raise self._not_started(f"cannot be started: {started}")
        self._process, self._answers = started
        #: The worker's answer to being started: versions, import time, interpreter.
        self.hello: dict[str, Any] = {}
        with self._named():
            self.hello = self._answer(timeout)
        if self.hello.get("protocol") != VERSION:
            self.kill()
            raise self._not_started(
                f"speaks protocol {self.hello.get('protocol')}, but should speak {VERSION}: it "
                "runs another version of Assay"
            )

    def request(self, op: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Asks and waits, `timeout` seconds at most. Raises WorkerFailure; after any failure that
        the worker did not report itself it is dead."""
        message = encode({"id": self._last_id + 1, "op": op, "arguments": arguments})
        with self._named():
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(message)
                self._process.stdin.flush()
            except OSError:
                raise self._death() from None
            return self._answer(timeout)

    def with_log(self, reason: str) -> str:
        """A reason that names the worker's log, which is kept from now on."""
        kept = logs.keep(self._log, self._kept)
        return f"{reason}\nlog: {kept}" if kept else reason

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Says in the reason of a failure whose it is, and where there is more about it."""
        try:
            yield
        except WorkerFailure as failure:
            raise self.failure(failure.status, failure.reason) from None

    def failure(self, status: str, reason: str) -> WorkerFailure:
        """A failure of this worker's, which says whose it is."""
        told = f"{self._name}: " * bool(self._name) + reason
        told = told if status in EXPLAINED else self.with_log(told)
        return WorkerFailure(status, told, who=self._who)

    @property
    def identity(self) -> dict[str, Any]:
        """Which interpreter and which versions, as facts of whatever runs there."""
        return {name: self.hello[name] for name in ("versions", "python", "executable")}

    @property
    def untouched(self) -> bool:
        """Whether it was asked for nothing yet."""
        return self._last_id == 0

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Ends the worker, politely first."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        self.kill()

    def kill(self) -> None:
        """Ends the worker and every process it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._answers.close()

    # ------------------------------------------------------------------------------------------

    def _answer(self, timeout: float) -> dict[str, Any]:
        deadline = clock.now() + timeout
        self._last_id += 1
        try:
            message = decode(self._line(deadline))
            if message["id"] != self._last_id:
                raise ProtocolError(f"answer {message['id']}, but should be {self._last_id}")
        except ProtocolError as error:
            self.kill()
            if not self.hello:
                raise self._not_started(f"gave a broken answer: {error}") from None
            raise WorkerFailure("failed", f"the worker's answer is broken: {error}") from None
        except KeyboardInterrupt:
            self.kill()
            raise
        if "error" in message:
            reason = message["error"]["reason"]
            raise WorkerFailure(message["error"]["status"], reason)
        return message["result"]

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            remaining = deadline - clock.now()
            if remaining <= 0:
                self.kill()
                raise WorkerFailure("timeout", f"no answer in time{self._said()}")
            ready, _, _ = select.select([self._answers], [], [], min(remaining, POLL_SECONDS))
            if not ready:
                self._check_memory()
                continue
            chunk = os.read(self._answers.fileno(), 1 << 16)
            if not chunk:
                raise self._death()
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _check_memory(self) -> None:
        try:
            resident = psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return  # it has just ended: the pipe will say so
        if resident > self._memory_limit:
            self.kill()
            raise WorkerFailure(
                "out_of_memory",
                f"the worker had {resident / 2**30:.2f} GiB resident, above the limit of "
                f"{self._memory_limit / 2**30:.2f} GiB",
            )

    def _death(self) -> WorkerFailure:
        """Why the worker is gone."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerFailure("crashed", f"the worker closed its answers{self._said()}")
        self.kill()
        if code >= 0 and not self.hello:
            raise self._not_started(f"exited with status {code} before it answered{self._said()}")
        if code >= 0:
            return WorkerFailure("crashed", f"the worker exited with status {code}{self._said()}")
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL and _oom_kills() > self._oom_kills:
            return WorkerFailure("out_of_memory", "the kernel killed the worker: out of memory")
        return WorkerFailure("crashed", f"the worker was killed by {name}{self._said()}")

    def _not_started(self, what: str) -> NotStarted:
        logs.keep(self._log, self._kept)
        log = self._kept / self._log.name if self._kept else self._log
        return NotStarted(
            f"{self._about} {what} (log: {log}). Check that interpreter and its packages, or "
            "leave the adapter out with --adapters"
        )

    def _said(self) -> str:
        """The last lines that the worker printed, for a reason."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - 4096))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        last = [line.strip() for line in lines if line.strip()][-LOG_LINES:]
        return "; it last printed: " + " | ".join(last)[-500:] if last else ""


def _start(
    module: str,
    python: str,
    environment: Mapping[str, str],
    log: Path,
    processors: Sequence[int],
    project: Path,
    folders: Sequence[Path],
) -> tuple[subprocess.Popen[bytes], Any] | str:
    """The process and the reading end of its answers, or why there is none. Its session is its own,
    so that Ctrl-C reaches the parent alone, which then decides."""
    reading, writing = os.pipe()
    # -P: neither the working directory nor a script's folder is importable
    command = [python, "-P", "-m", "harness.worker", "--adapter", module, "--answers", str(writing)]
    if processors:
        command += ["--processors", ",".join(map(str, processors))]
    if folders:
        command += ["--folders", os.pathsep.join(map(str, folders))]
    inherited = [
        os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
    ]
    path = os.pathsep.join([str(project), *inherited])
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path, **environment},
                pass_fds=[writing],
                start_new_session=True,
            )
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return error.strerror or str(error)
    os.close(writing)
    return process, os.fdopen(reading, "rb", buffering=0)


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since it started."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
