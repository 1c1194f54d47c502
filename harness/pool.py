"""Live workers, one per adapter and purpose, started when first needed."""

from __future__ import annotations

import dataclasses
import itertools
import os
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adapters import model as models
from adapters.base import Noise, Spec
from adapters.precisions import PRECISIONS
from adapters.registry import Registry
from harness import isa, processors
from harness.arms import BASE, HEAD, HERE, THIS, Arm
from harness.client import (
    PINNED_MALLOC,
    RETURNING_MALLOC,
    Client,
    WorkerFailure,
    cache_environment,
    thread_environment,
)
from harness.memo import Memo
from harness.protocol import save_tensors
from numerics.reference import TURNS, UNSEEN
from results.records import Case

SEED = 0  # of every model's initial parameters
CALIBRATION = 4  # batches on which ranges of activations are found

#: malloc by what a worker is for. Programs that judge never share a process with programs that
#: are timed; `repeat` runs again what a `judge` ran; `cold` and `warm` workers make one first call,
#: `fill` makes one for the cache's sake.
MALLOC = {
    "judge": PINNED_MALLOC,
    "repeat": PINNED_MALLOC,
    "time": PINNED_MALLOC,
    "cold": PINNED_MALLOC,
    "fill": PINNED_MALLOC,
    "warm": PINNED_MALLOC,
    "remember": RETURNING_MALLOC,
}
#: Workers of which something is timed.
TIMED = ("time", "cold", "warm")
#: Workers in which something is measured.
MEASURING = (*TIMED, "remember")
#: What a worker's compilers keep on disk and find there (`harness.client.cache_environment`).
KEEPS = {"time": "default", "fill": "everything", "warm": "everything"}
#: Timing workers that are kept alive. A run with several processes per case orders its cases so
#: that this suffices (`--isolation adapter`).
KEPT = 6
#: How often a worker is started that answers that its adapter is broken, dies or hangs at once.
START_ATTEMPTS = 2


#: Of a file of inputs: model, size, batch, length, seed, and whether it has calibration batches.
Key = tuple[str, str, int, int, int, bool]


@dataclass(frozen=True)
class Role:
    """Which worker: an adapter's, for a purpose, the how-manieth of several, with so many threads
    (0: those of the run), of which arm of a gate."""

    adapter: str
    purpose: str
    number: int = 0
    threads: int = 0
    arm: str = HEAD

    @property
    def who(self) -> str:
        """Whose its failures are: those of a worker that only judges are no side's."""
        return self.arm or (THIS if self.purpose in MEASURING else "")


@dataclass(frozen=True)
class Settings:
    """How workers are run. `pythons` maps adapters to interpreters other than `python`.
    `memory_limit` is in bytes, `case_timeout` in seconds."""

    registry: Registry
    python: str
    scratch: Path
    threads: int
    case_timeout: float
    memory_limit: int
    pythons: Mapping[str, str] = field(default_factory=dict)
    allocator: str = "pinned"  # of timed processes: pinned | default
    fresh: bool = False  # a timed case always gets new processes
    memo: Memo = field(default_factory=lambda: Memo(None, {}))  # of what references took to compute
    isa: str = "native"  # what kernels are held down to (`harness.isa`)
    logs: Path | None = None  # what workers that failed had printed; None: it is not kept
    base: Arm = HERE  # where workers of the gate's other side come from


class Pool:
    """Starts workers, hands out the live one, replaces a dead one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clients: dict[Role, Client] = {}  # the least recently used first
        self._unavailable: dict[tuple[str, str], WorkerFailure] = {}  # by adapter and arm
        self._not_started: Counter[tuple[str, str]] = Counter()  # likewise: failed starts
        self._inputs: dict[Key, Path] = {}
        self._writing = threading.Lock()
        self._numbers = itertools.count()
        self._mark = secrets.token_hex(2)  # a resumed run has logs of two

    def client(self, role: Role, *, fresh: bool = False) -> Client:
        """The live worker in a role. Raises WorkerFailure: `unsupported` when the framework is
        missing, which is found out once. Raises NotStarted."""
        if (role.adapter, role.arm) in self._unavailable:
            missing = self._unavailable[role.adapter, role.arm]
            raise WorkerFailure(missing.status, missing.reason, who=role.who)
        client = self._clients.pop(role, None)
        if client is not None and client.alive and not fresh:
            self._clients[role] = client
            return client
        if client is not None:
            client.close()
        try:
            self._clients[role] = self._start(role)
        except WorkerFailure as failure:
            # what an import does, it does again; but a busy machine may have been slow once
            self._not_started[role.adapter, role.arm] += 1
            known = self._not_started[role.adapter, role.arm] >= START_ATTEMPTS
            if failure.status == "unsupported" or known:
                self._unavailable[role.adapter, role.arm] = failure
            raise
        timing = [role for role in list(self._clients) if role.purpose == "time"]
        for least_used in timing[: max(0, len(timing) - KEPT)]:
            self.close(least_used)
        return self._clients[role]

    def close(self, role: Role) -> None:
        """Ends the worker in a role, if there is one."""
        client = self._clients.pop(role, None)
        if client is not None:
            client.close()

    def close_timed(self) -> None:
        """Ends all workers of which something is timed."""
        for role in [role for role in list(self._clients) if role.purpose in TIMED]:
            self.close(role)

    def close_all(self) -> None:
        """Ends all workers."""
        for role in list(self._clients):
            self.close(role)

    def hello(self, adapter: str) -> Mapping[str, Any] | None:
        """What a live worker of an adapter said of itself when it started, whatever it is for and
        however busy it is; not one of a gate's base. None where there is none."""
        live = [c for role, c in list(self._clients.items()) if role.adapter == adapter
                and role.arm != BASE]  # fmt: skip
        return live[0].hello if live else None

    def pids(self) -> list[int]:
        """The processes of all live workers."""
        return [client.pid for client in list(self._clients.values())]

    def inputs(self, case: Case, *, seed: int = SEED) -> Path:
        """A file with initial parameters, buffers and batches (`numerics.reference.TURNS`): the
        same bytes for every adapter. Another seed has other parameters and another first batch;
        those after it are of examples that come later, as are the ones on which a precision is
        calibrated."""
        scheme = PRECISIONS[case.precision].scheme if case.precision in PRECISIONS else None
        calibrated = scheme is not None and bool(scheme.calibration)
        key = (case.model, case.size, case.batch, case.length, seed, calibrated)
        with self._writing:
            return self._inputs.get(key) or self._write_inputs(key)

    def _write_inputs(self, key: Key) -> Path:
        model, size, batch, length, seed, calibrated = key
        network = models.get(model)
        config = network.config(size, length)
        params, buffers = network.initial(config, np.random.default_rng(seed))
        tensors = {f"parameter:{name}": value for name, value in params.items()}
        tensors |= {f"buffer:{name}": value for name, value in buffers.items()}
        usual = _usual_batch(model, size, batch)
        used = (seed + 1) * usual
        names = [f"calibration:{i}" for i in range(CALIBRATION)]
        names += TURNS[1:] if size != "full" else ()  # of which several do not fit into memory
        names += [UNSEEN]
        examples = network.example(config, used + len(names) * usual)
        tensors |= {f"batch:{n}": tiled(v[used - usual : used], batch) for n, v in examples.items()}
        for i, name in enumerate(names):
            if name.startswith("calibration") and not calibrated:
                continue
            later = slice(used + i * usual, used + (i + 1) * usual)
            tensors |= {f"{name}:{n}": tiled(v[later], batch) for n, v in examples.items()}
        path = self.scratch_file(f"inputs-{model}-{size}-b{batch}-s{length}-{seed}.npz")
        save_tensors(path, tensors)
        self._inputs[key] = path
        return path

    def scratch_file(self, name: str) -> Path:
        """A path for a temporary file of this run, not used before."""
        return self.settings.scratch / f"{next(self._numbers)}-{name}"

    def threads(self, role: Role) -> int:
        """Threads of a worker. One, where no time is taken and a case does not ask for more: sums
        come out in the same order everywhere, and a busy machine cannot make it wait for itself."""
        return role.threads or (1 if role.purpose == "judge" else self.settings.threads)

    def spec(
        self, case: Case, role: Role, noise: Noise | None = None, *, fault: str = ""
    ) -> dict[str, Any]:
        """What a worker has to build for `case`, as JSON-ready data."""
        spec = Spec(
            model=case.model,
            size=case.size,
            mode=case.mode,
            device=case.device,
            precision=case.precision,
            recipe=case.recipe or models.get(case.model).recipe,
            threads=self.threads(role),
            noise=noise,
            length=case.length,
            fault=fault,
        )
        return dataclasses.asdict(spec)

    def build(
        self, case: Case, role: Role, *, timeout: float, noise: Noise | None = None
    ) -> tuple[Client, dict[str, Any]]:
        """The worker in a role once it has built `case`, and what it answered."""
        client = self.client(role)
        spec, inputs = self.spec(case, role, noise), str(self.inputs(case))
        return client, client.request("build", timeout=timeout, spec=spec, inputs=inputs)

    def _start(self, role: Role) -> Client:
        settings, number = self.settings, next(self._numbers)
        malloc = MALLOC[role.purpose]
        if settings.allocator == "default" and malloc is PINNED_MALLOC:
            malloc = {}
        keeps = KEEPS.get(role.purpose, "nothing")
        # where nothing is kept, a directory of its own: whatever compilers do, they find nothing
        caches = settings.scratch / (f"caches-{number}" if keeps == "nothing" else "caches")
        environment = {
            **thread_environment(self.threads(role)),
            **malloc,
            **cache_environment(caches, keeps),
            **isa.environment(settings.isa, os.environ),
            # as much device memory as is needed, when it is needed: several workers share a device
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        }
        if role.purpose in ("judge", "repeat", "remember"):
            # spares Inductor a trial compilation of 6 s that every new cache directory costs
            environment["TORCHINDUCTOR_VEC_ISA_OK"] = "1"
        arm = settings.base if role.arm == BASE else HERE
        return Client(
            settings.registry.module(role.adapter),
            python=arm.python or settings.pythons.get(role.adapter, settings.python),
            environment=environment,
            log=settings.scratch / f"{role.adapter}-{role.purpose}-{number}-{self._mark}.log",
            memory_limit=settings.memory_limit,
            timeout=settings.case_timeout,
            processors=processors.chosen(self.threads(role)) if role.purpose in TIMED else (),
            project=arm.project,
            folders=[*arm.folders, *settings.registry.folders],
            name=role.arm,
            kept=settings.logs,
            who=role.who,
        )


def usual_batch(case: Case) -> int:
    """The batch whose reference a case has. A batch that is a multiple of the model's usual one
    holds the usual examples again and again: the mean loss, its gradients and the updates are
    then those of the usual batch, which is cheaper to compute in float64."""
    return _usual_batch(case.model, case.size, case.batch)


def _usual_batch(model: str, size: str, batch: int) -> int:
    usual = models.get(model).batch[size]
    return usual if batch % usual == 0 else batch


def tiled(value: np.ndarray, batch: int) -> np.ndarray:
    """`batch` examples: those that there are, again and again. (n, ...) -> (batch, ...)"""
    return value[np.arange(batch) % len(value)]
