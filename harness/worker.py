"""The child process: loads one adapter, answers requests until its standard input closes.

`python -m harness.worker --adapter MODULE --answers FD`. Needs numpy and the adapter's
framework; nothing else. The parent is `harness.client`.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adapters import ops
from adapters.base import Noise, Spec, Unsupported
from harness import clock, memory, timing
from harness.protocol import VERSION, decode, encode, load_tensors, save_tensors

STEADY_MEMORY_STEPS = 5
PR_SET_PDEATHSIG = 1


class Worker:
    """One adapter and at most one program. Every public method is a request."""

    def __init__(self, module: str) -> None:
        start = clock.now()
        self._adapter = importlib.import_module(module).Adapter()
        self._import_time = clock.now() - start
        self._program: Any = None

    def hello(self) -> dict[str, Any]:
        """Who is there."""
        return {
            "protocol": VERSION,
            "framework": self._adapter.framework,
            "versions": {**self._adapter.versions(), "numpy": np.__version__},
            "python": sys.version.split()[0],
            "executable": sys.executable,
            "import_time": self._import_time,
        }

    def contract(self) -> dict[str, Any]:
        """What the adapter lacks of the vocabulary."""
        implementation = self._adapter.ops
        return {"missing": ops.missing(implementation), "misshapen": ops.misshapen(implementation)}

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
        self._program = self._adapter.build(self._spec, self._params, self._buffers)
        seconds = clock.now() - start
        self._batch = self._program.put(_part(tensors, "batch:"))
        return {"build_time": seconds, "untimed": self._program.untimed}

    def first_call(self) -> dict[str, Any]:
        """The first step, with whatever the framework does on it."""
        start = clock.now()
        self._step()
        return {"first_call_time": clock.now() - start}

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

    def warm_up(self) -> dict[str, Any]:
        """Steps until steady."""
        return dataclasses.asdict(timing.warm_up(self._step))

    def block(self, *, steps: int) -> dict[str, Any]:
        """Times one block."""
        program, batch = self._program, self._batch
        return dataclasses.asdict(timing.block(lambda: program.step(batch), program.wait, steps))

    def remember(self, *, spec: dict[str, Any], inputs: str) -> dict[str, Any]:
        """Measures host memory of build, first call and steady steps in this process, above what
        was resident before the build."""
        before = memory.resident()
        memory.reset_peak()
        self.build(spec=spec, inputs=inputs)
        self._step()
        compile_peak = memory.peak() - before
        for _ in range(STEADY_MEMORY_STEPS):
            self._step()
        self._params = self._buffers = {}  # the host's copies are not the program's
        memory.resident()
        memory.reset_peak()
        for _ in range(STEADY_MEMORY_STEPS):
            self._step()
        return {"compile_peak_bytes": compile_peak, "host_peak_bytes": memory.peak() - before}

    def facts(self) -> dict[str, Any]:
        """The effective configuration, read back."""
        return self._program.facts()

    def _step(self) -> None:
        self._program.wait(self._program.step(self._batch))


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _serve(worker: Worker, answer: Callable[[dict[str, Any]], None]) -> None:
    for line in sys.stdin.buffer:
        request = decode(line)
        try:
            method = getattr(worker, request["op"])
            answer({"id": request["id"], "result": method(**request["arguments"])})
        except Exception as error:
            traceback.print_exc()
            answer({"id": request["id"], "error": _explain(error, worker._adapter)})


def _explain(error: Exception, adapter: Any) -> dict[str, str]:
    """An exception as an outcome's status and reason."""
    if isinstance(error, Unsupported):
        return {"status": "unsupported", "reason": str(error)}
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0][:500]
    if isinstance(error, MemoryError) or adapter.is_out_of_memory(error):
        return {"status": "out_of_memory", "reason": reason}
    return {"status": "failed", "reason": reason}


def _missing(error: ImportError, module: str) -> dict[str, str]:
    """An adapter that cannot be imported: its framework is missing, or it is broken."""
    traceback.print_exc()
    itself = f"{module}.".startswith(f"{error.name}.")
    if isinstance(error, ModuleNotFoundError) and error.name and not itself:
        package = error.name.split(".")[0]
        reason = f"Python package {package!r} is not installed in {sys.executable}"
        return {"status": "unsupported", "reason": reason}
    return {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}


def _die_with_parent() -> None:
    """A parent that is killed leaves no worker behind, not even one that hangs."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m harness.worker")
    parser.add_argument("--adapter", required=True, help="dotted path of the adapter's module")
    parser.add_argument("--answers", required=True, type=int, help="file descriptor for answers")
    arguments = parser.parse_args()
    _die_with_parent()
    pipe = os.fdopen(arguments.answers, "wb", buffering=0)

    def answer(message: dict[str, Any]) -> None:
        line = encode(message)
        while line:
            line = line[pipe.write(line) :]

    try:
        worker = Worker(arguments.adapter)
    except ImportError as error:
        answer({"id": 0, "error": _missing(error, arguments.adapter)})
        return
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        answer({"id": 0, "error": {"status": "failed", "reason": reason}})
        return
    answer({"id": 0, "result": worker.hello()})
    _serve(worker, answer)


if __name__ == "__main__":
    main()
