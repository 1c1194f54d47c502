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

from adapters import faults, ops
from adapters.base import Adapter, Noise, Setting, Spec, Unsupported
from adapters.exercise import Call
from harness import clock, exercising, memory, process, timing
from harness.errors import explained
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
            "disturbs_storage": self.adapter.disturbs_storage,
            "import_time": self._import_time,
        }

    def contract(self) -> dict[str, Any]:
        """What the adapter lacks of the vocabulary."""
        implementation = self.adapter.ops
        return {"missing": ops.missing(implementation), "misshapen": ops.misshapen(implementation)}

    def exercise(
        self,
        *,
        setting: dict[str, Any],
        calls: dict[str, Any],
        by: dict[str, list[str]],
        noises: list[dict[str, Any] | None],
        inputs: str,
        out: str,
    ) -> dict[str, Any]:
        """Runs calls (`harness.exercising.run`), once for each of `noises`, whose number comes
        before the names of the results in `out`."""
        tensors: dict[str, np.ndarray] = {}
        failed: dict[str, dict[str, str]] = {}
        for number, noise in enumerate(noises):
            found, without = exercising.run(
                self.adapter,
                {key: Call(**call) for key, call in calls.items()},
                by,
                Setting(**setting, noise=Noise(**noise) if noise else None),
                load_tensors(Path(inputs)),
                explain=lambda error: explained(error, self.adapter),
            )
            tensors |= {f"{number}:{name}": value for name, value in found.items()}
            failed |= without
        save_tensors(Path(out), tensors)
        return {"failed": failed}

    def in_turn(
        self, *, setting: dict[str, Any], calls: dict[str, Any], inputs: str, out: str
    ) -> dict[str, Any]:
        """Runs one function on the inputs of several calls (`harness.exercising.run_in_turn`)."""
        found, counts = exercising.run_in_turn(
            self.adapter,
            {key: Call(**call) for key, call in calls.items()},
            Setting(**setting),
            load_tensors(Path(inputs)),
        )
        save_tensors(Path(out), found)
        return {"counts": counts}

    def default(self, *, trap: int, inputs: str, out: str) -> dict[str, Any]:
        """The framework's own default in a trap (`Adapter.default`): its result in `out`, and what
        was `told` of it. Or the `problem`: why there is none, or what was raised. `shared` is
        whether it is another adapter's."""
        kind = type(self.adapter)
        if kind.default is not Adapter.default and "default" not in vars(kind):
            return {"shared": True}
        try:
            value, told = self.adapter.default(trap, load_tensors(Path(inputs)))
        except Unsupported as error:
            return {"shared": False, "problem": str(error)}
        except Exception as error:
            return {"shared": False, "problem": f"raises {type(error).__name__}: {error}"[:300]}
        save_tensors(Path(out), {"default": np.asarray(value)})
        return {"shared": False, "told": told}

    # -- one program -------------------------------------------------------------------------

    def build(self, *, spec: dict[str, Any], inputs: str) -> dict[str, Any]:
        """Makes a program; replaces the one before."""
        timing.thaw()
        self._program = self._batch = None  # frees the one before first
        noise = spec.pop("noise")
        self._spec = Spec(**spec, noise=Noise(**noise) if noise else None)
        self._read(inputs)
        state = self._state()
        start = clock.now()
        self._program = self.adapter.build(self._spec, *state)
        seconds = clock.now() - start
        self._batch = self._program.put(self._host_batch)
        return {"build_time": seconds, "untimed": self._program.untimed}

    def reload(self, *, fault: str, inputs: str) -> dict[str, Any]:
        """Gives the live program other parameters and another batch, perhaps with a fault in them:
        nothing is compiled again."""
        planted = faults.find(fault)
        if planted is not None and planted.where not in ("weights", "data"):
            raise ValueError(f"{fault} is a fault of the program, which has to be built with it")
        self._spec = dataclasses.replace(self._spec, fault=fault)
        self._read(inputs)
        self._batch = self._program.put(self._host_batch)
        return {}

    def _read(self, inputs: str) -> None:
        """Reads the tensors of a program. Its batch has the planted fault, if there is one; the
        parameters are as they should be."""
        tensors = load_tensors(Path(inputs))
        self._params = _part(tensors, "parameter:")
        self._buffers = _part(tensors, "buffer:")
        batch = _part(tensors, "batch:")
        self._host_batch = faults.in_batch(batch, self._spec.fault, self._spec.dtype)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters and buffers as the program gets them."""
        fault = self._spec.fault
        return faults.in_weights(self._params, fault), faults.in_weights(self._buffers, fault)

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
        self._program.load(*self._state())
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

    def loaded(self, *, out: str) -> dict[str, Any]:
        """Writes the state to `out` as the program has it once it was given one."""
        self._program.load(self._params, self._buffers)
        params, buffers = self._program.state()
        tensors = {f"parameter:{name}": value for name, value in params.items()}
        save_tensors(Path(out), tensors | {f"buffer:{name}": v for name, v in buffers.items()})
        return {}

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
