"""What a worker can be asked: one adapter, at most one program, and one method per request."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adapters import ops
from adapters.base import Noise, Spec
from harness import clock, memory, process, timing
from harness.protocol import VERSION, load_tensors, save_tensors

STEADY_MEMORY_STEPS = 5
PROFILED_STEPS = 5


class Watch:
    """The `adapters.base.Stopwatch` of a first step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = clock.now()
        yield
        self.note(part, clock.now() - start)

    def note(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds


class Requests:
    """Every public method is a request; its arguments and its result are plain data."""

    def __init__(self, module: str) -> None:
        start = clock.now()
        self.adapter = importlib.import_module(module).Adapter()
        self._import_time = clock.now() - start
        self._program: Any = None

    def hello(self) -> dict[str, Any]:
        """Who is there."""
        return {
            "protocol": VERSION,
            "framework": self.adapter.framework,
            "versions": {**self.adapter.versions(), "numpy": np.__version__},
            "python": sys.version.split()[0],
            "executable": sys.executable,
            "compile_cache": self.adapter.compile_cache,
            "import_time": self._import_time,
        }

    def contract(self) -> dict[str, Any]:
        """What the adapter lacks of the vocabulary."""
        implementation = self.adapter.ops
        return {"missing": ops.missing(implementation), "misshapen": ops.misshapen(implementation)}

    # -- one program -------------------------------------------------------------------------

    def build(self, *, spec: dict[str, Any], inputs: str) -> dict[str, Any]:
        """Makes a program; replaces the one before."""
        timing.thaw()
        self._program = self._batch = None  # frees the one before first
        noise = spec.pop("noise")
        self._spec = Spec(**spec, noise=Noise(**noise) if noise else None)
        tensors = load_tensors(Path(inputs))
        self._params = _part(tensors, "parameter:")
        self._buffers = _part(tensors, "buffer:")
        start = clock.now()
        self._program = self.adapter.build(self._spec, self._params, self._buffers)
        seconds = clock.now() - start
        self._host_batch = _part(tensors, "batch:")
        self._batch = self._program.put(self._host_batch)
        return {"build_time": seconds, "untimed": self._program.untimed}

    def first_call(self) -> dict[str, Any]:
        """The first step, with whatever the framework does on it; in seconds."""
        watch = Watch()
        start = clock.now()
        self._program.wait(self._program.first_step(self._batch, watch))
        seconds = clock.now() - start
        parts = {f"{part}_time": taken for part, taken in watch.seconds.items()}
        return {"first_call_time": seconds, **parts}

    def agree(self, *, steps: list[int], out: str) -> dict[str, Any]:
        """Writes the tensors to be judged to `out`, from the initial state on."""
        self._program.load(self._params, self._buffers)
        if self._spec.mode == "infer":
            tensors = {"output": self._program.fetch(self._program.step(self._batch))}
        else:
            tensors = self._training_tensors(steps)
        save_tensors(Path(out), tensors)
        return {}

    def _training_tensors(self, steps: list[int]) -> dict[str, np.ndarray]:
        first = self._program.gradients(self._batch)
        tensors = {"output": first.output, "loss": first.loss}
        tensors |= {f"gradient:{name}": g for name, g in first.gradients.items()}
        for number in range(1, max(steps) + 1):
            loss = self._program.fetch(self._program.step(self._batch))
            if number not in steps:
                continue
            params, buffers = self._program.state()
            tensors[f"loss@{number}"] = loss
            # what is judged is the change: beside the parameter it would drown
            tensors |= {
                f"update@{number}:{name}": value - self._params[name].astype(value.dtype)
                for name, value in params.items()
            }
            tensors |= {f"buffer@{number}:{name}": value for name, value in buffers.items()}
        return tensors

    def facts(self) -> dict[str, Any]:
        """The effective configuration, read back from the framework and from the process."""
        return {**self._program.facts(), "libraries": self.adapter.libraries(), **process.facts()}

    def compilations(self) -> dict[str, Any]:
        """How often the program was traced or compiled so far, and how often it gave up."""
        facts = self._program.facts()
        return {name: facts.get(name) for name in ("compilations", "graph_breaks")}

    # -- time --------------------------------------------------------------------------------

    def warm_up(self) -> dict[str, Any]:
        """Steps until steady."""
        return dataclasses.asdict(timing.warm_up(self._step))

    def block(self, *, steps: int) -> dict[str, Any]:
        """Times one block."""
        program, batch = self._program, self._batch
        on_device = program.device_seconds if self._spec.device != "cpu" else timing.untold
        taken = timing.block(lambda: program.step(batch), program.wait, steps, on_device)
        return dataclasses.asdict(taken)

    def single(self, *, what: str) -> dict[str, Any]:
        """Seconds of single calls: "latency", "dispatch" or "transfer"."""
        program, batch = self._program, self._batch
        if what == "latency":
            return {"seconds": timing.latencies(self._step)}
        if what == "dispatch":
            return {"seconds": timing.dispatches(lambda: program.step(batch), program.wait)}
        # what is brought over already has the program's dtype: converting is no transfer
        host = {
            name: _in_dtype(value, self._spec.dtype) for name, value in self._host_batch.items()
        }
        return {"seconds": timing.transfers(lambda: program.put(host), program.wait)}

    def probe(self, *, limit: str, device: str, threads: int) -> dict[str, Any]:
        """The largest rate at which the adapter reaches a limit of the machine, per second."""
        probe = self.adapter.probe(limit, device, threads)
        return {"rate": timing.rate(probe.step, probe.wait, probe.work)}

    def profile(self, *, folder: str) -> dict[str, Any]:
        """Traces some steps with the framework's own profiler. Never while anything is timed."""
        return {"path": str(self._program.profile(self._batch, PROFILED_STEPS, Path(folder)))}

    # -- memory ------------------------------------------------------------------------------

    def remember(self, *, spec: dict[str, Any], inputs: str) -> dict[str, Any]:
        """Measures memory of build, first call and steady steps in this process: of the host above
        what was resident before the build, of the device as its allocator counts."""
        before = memory.resident()
        memory.reset_peak()
        self.build(spec=spec, inputs=inputs)
        self._step()
        compile_peak = memory.peak() - before
        device = self.adapter.device_memory()
        for _ in range(STEADY_MEMORY_STEPS):
            self._step()
        # the host's copies are not the program's
        self._params = self._buffers = self._host_batch = {}
        held = memory.resident()
        memory.reset_peak()
        resettable = self.adapter.reset_device_memory()
        for _ in range(STEADY_MEMORY_STEPS):
            self._step()
        peak = memory.peak()
        found = {
            "compile_peak_bytes": compile_peak,
            "host_peak_bytes": peak - before,
            "step_peak_bytes": peak - held,
        }
        if device is not None:
            steady = self.adapter.device_memory()
            found["device_peak_bytes"] = steady["peak"]
            if "reserved" in steady:
                found["device_reserved_bytes"] = steady["reserved"]
            if resettable:
                found["device_compile_peak_bytes"] = device["peak"]
        tensors = load_tensors(Path(inputs))
        self._params, self._buffers = _part(tensors, "parameter:"), _part(tensors, "buffer:")
        return found

    def _step(self) -> None:
        self._program.wait(self._program.step(self._batch))


def _in_dtype(value: np.ndarray, dtype: str) -> np.ndarray:
    return value.astype(dtype) if value.dtype.kind == "f" else value


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
