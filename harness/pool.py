"""Live workers, one per adapter and purpose, started when first needed."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adapters import model as models
from adapters.base import Noise, Spec
from adapters.registry import Registry
from harness.client import (
    PINNED_MALLOC,
    RETURNING_MALLOC,
    Client,
    WorkerFailure,
    thread_environment,
)
from harness.protocol import save_tensors
from results.records import Case

SEED = 0  # of every model's initial parameters

#: What a worker is for. Programs that judge never share a process with programs that are timed.
MALLOC = {"judge": PINNED_MALLOC, "time": PINNED_MALLOC, "remember": RETURNING_MALLOC}


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


class Pool:
    """Starts workers, hands out the live one, replaces a dead one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clients: dict[tuple[str, str], Client] = {}
        self._unavailable: dict[str, WorkerFailure] = {}
        self._inputs: dict[tuple[str, str, int], Path] = {}
        self._writing = threading.Lock()
        self._numbers = itertools.count()

    def client(self, adapter: str, purpose: str, *, fresh: bool = False) -> Client:
        """The live worker of `adapter` for `purpose`. Raises WorkerFailure: `unsupported` when the
        framework is missing, which is found out once."""
        if adapter in self._unavailable:
            raise self._unavailable[adapter]
        key = (adapter, purpose)
        client = self._clients.get(key)
        if client is not None and client.alive and not fresh:
            return client
        self.close(adapter, purpose)
        try:
            self._clients[key] = self._start(adapter, purpose)
        except WorkerFailure as failure:
            if failure.status == "unsupported":
                self._unavailable[adapter] = failure
            raise
        return self._clients[key]

    def close(self, adapter: str, purpose: str) -> None:
        """Ends the worker of `adapter` for `purpose`, if there is one."""
        client = self._clients.pop((adapter, purpose), None)
        if client is not None:
            client.close()

    def close_all(self) -> None:
        """Ends all workers."""
        for adapter, purpose in list(self._clients):
            self.close(adapter, purpose)

    def inputs(self, model: str, size: str, batch: int) -> Path:
        """A file with initial parameters, buffers and one batch: the same bytes for every
        adapter."""
        key = (model, size, batch)
        with self._writing:
            return self._inputs.get(key) or self._write_inputs(key)

    def _write_inputs(self, key: tuple[str, str, int]) -> Path:
        model, size, batch = key
        network = models.get(model)
        config = network.sizes[size]
        params, buffers = network.initial(config, np.random.default_rng(SEED))
        tensors = {f"parameter:{name}": value for name, value in params.items()}
        tensors |= {f"buffer:{name}": value for name, value in buffers.items()}
        example = network.example(config, batch)
        tensors |= {f"batch:{name}": value for name, value in example.items()}
        path = self.scratch_file(f"inputs-{model}-{size}-b{batch}.npz")
        save_tensors(path, tensors)
        self._inputs[key] = path
        return path

    def scratch_file(self, name: str) -> Path:
        """A path for a temporary file of this run, not used before."""
        return self.settings.scratch / f"{next(self._numbers)}-{name}"

    def threads(self, purpose: str) -> int:
        """Threads of a worker. One, where no time is taken: sums come out in the same order
        everywhere, and a busy machine cannot make it wait for itself."""
        return 1 if purpose == "judge" else self.settings.threads

    def spec(self, case: Case, purpose: str, noise: Noise | None = None) -> dict[str, Any]:
        """What a worker for `purpose` has to build for `case`, as JSON-ready data."""
        spec = Spec(
            model=case.model,
            size=case.size,
            mode=case.mode,
            device=case.device,
            precision=case.precision,
            recipe=case.recipe or models.get(case.model).recipe,
            threads=self.threads(purpose),
            noise=noise,
        )
        return dataclasses.asdict(spec)

    def _start(self, adapter: str, purpose: str) -> Client:
        settings = self.settings
        number = next(self._numbers)
        # a directory of its own: a compiler's cache is empty, so a first call is a cold one
        caches = settings.scratch / f"caches-{number}"
        environment = {
            **thread_environment(self.threads(purpose)),
            **MALLOC[purpose],
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
            "TRITON_CACHE_DIR": str(caches / "triton"),
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        }
        if purpose != "time":
            # spares Inductor a trial compilation of 6 s that every new cache directory costs
            environment["TORCHINDUCTOR_VEC_ISA_OK"] = "1"
        return Client(
            settings.registry.module(adapter),
            python=settings.pythons.get(adapter, settings.python),
            environment=environment,
            log=settings.scratch / f"worker-{number}-{adapter}-{purpose}.log",
            memory_limit=settings.memory_limit,
            timeout=settings.case_timeout,
        )
