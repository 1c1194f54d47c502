"""PyTorch, eager."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters import base, probes, torch_optimizers, trees
from adapters.base import Body, Gradients, Probe, Setting, Spec, State, require
from adapters.policy import results, unchanged
from adapters.precisions import PRECISIONS
from adapters.torch_defaults import DEFAULTS
from adapters.torch_function import Function
from adapters.torch_noise import MonteCarlo
from adapters.torch_ops import DTYPES, TorchOps, dtype_name, stored, viewed, views
from adapters.trees import Tree


class Adapter(base.Adapter):
    framework = "torch"
    execution = "eager"
    ops = TorchOps
    precisions = tuple(PRECISIONS)
    disturbs_storage = True
    _device = "cpu"  # of the last build

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def is_out_of_memory(self, error: BaseException) -> bool:
        allocator = isinstance(error, RuntimeError) and "not enough memory" in str(error)
        return allocator or isinstance(error, torch.OutOfMemoryError)

    def is_missing_kernel(self, error: BaseException) -> bool:
        told = str(error)
        phrases = (
            "not implemented for '",
            "does not support bool",
            "not create a primitive descriptor",
        )
        known = any(phrase in told for phrase in phrases)
        return known or isinstance(error, NotImplementedError)

    def prepare(self, precision: str) -> None:
        if PRECISIONS[precision].scheme is not None:
            import_module("adapters.torch_quantized")

    def program(self, spec: Spec) -> Program:
        """A program without its state; `torch_compile` overrides this."""
        if spec.numbers.scheme is None:
            return Program(spec)
        from adapters import torch_quantized

        return torch_quantized.program(spec)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        self._configure(spec.device, spec.threads, tf32=spec.numbers.tf32)
        program = self.program(spec)
        program.load(params, buffers)
        return program

    def function(self, body: Body, setting: Setting) -> Function:
        self._configure(setting.device, setting.threads)
        return Function(body, setting)

    def _configure(self, device: str, threads: int, *, tf32: bool = False) -> None:
        if device == "cuda":
            require(torch.cuda.is_available(), "no CUDA device: torch.cuda.is_available() is False")
        torch.set_num_threads(threads)
        # fp32 means float32: TF32 in matrix products and convolutions has a precision of its own
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        self._device = device

    def default(self, trap: int, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        return DEFAULTS.ask(trap, inputs)

    def devices(self) -> list[str]:
        return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

    def libraries(self) -> dict[str, str]:
        built = torch.__config__.show()
        patterns = {
            "mkl": r"Math Kernel Library Version (\S+)",
            "onednn": r"MKL-DNN (v\S+)",
            "openmp": r"OpenMP (\d+)",
            "blas": r"BLAS_INFO=(\w+)",
            "lapack": r"LAPACK_INFO=(\w+)",
            "compiler": r"(GCC \S+|clang \S+)",
            "cuda": r"CUDA Runtime (\S+)",
            "cudnn": r"CuDNN (\S+)",
        }
        found = {name: re.search(pattern, built) for name, pattern in patterns.items()}
        versions = {name: match[1] for name, match in found.items() if match}
        return versions | {"cpu_capability": torch.backends.cpu.get_cpu_capability()}

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        self._configure(device, threads)
        if limit == "bandwidth":
            n, work = probes.bandwidth()
            a, b = torch.ones(n, device=device), torch.ones(n, device=device)
            return Probe(lambda: a.add_(b), self._wait, work)
        n, work = probes.matrix_product(limit, device)
        if limit == "matmul_int8":
            a = torch.ones(n, n, dtype=torch.int8, device=device)
            # second operand: cuBLASLt wants it by columns
            return Probe(lambda: torch._int_mm(a, a.t()), self._wait, work)
        dtype = {"matmul_fp32": torch.float32, "matmul_bf16": torch.bfloat16}[limit]
        a, b, c = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(3))
        return Probe(lambda: torch.mm(a, b, out=c), self._wait, work)

    def _wait(self, value: Any) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

    def reset_device_memory(self) -> bool:
        if self._device != "cuda":
            return False
        torch.cuda.reset_peak_memory_stats()
        return True

    def device_memory(self) -> dict[str, int] | None:
        if self._device != "cuda":
            return None
        return {
            "peak": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
        }


class Program(base.Program):
    untimed = ""
    quantizes = False  # whether it follows the scheme of a precision

    def __init__(self, spec: Spec) -> None:
        require(self.quantizes or spec.numbers.scheme is None, "it computes in floating point only")
        self._spec = spec
        self._like = {"dtype": getattr(torch, spec.dtype), "device": spec.device}
        # rounding noise is below the vocabulary here, where the optimizer is disturbed as well
        self._vocabulary = spec.vocabulary(self.operations, native=unchanged)
        network = replace(spec, noise=None).network(self._vocabulary)
        seen = self.seen
        self._recipe = spec.training
        self._scaler: torch.amp.GradScaler | None = None
        self._noise = MonteCarlo(spec.noise) if spec.noise else None
        self._infer = self.compiled(lambda p, x: network.forward(seen(p), x)[0])
        self._loss = self.compiled(lambda p, x, y: network.loss(seen(p), x, y))
        self._output_dtype = ""  # until a step has run

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as this program runs it; `torch_compile` overrides this."""
        return function

    def operations(self, dtype: str) -> TorchOps:
        """The vocabulary in a dtype; `torch_quantized` overrides this."""
        return TorchOps(DTYPES[dtype], self._spec.device)

    def seen(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """What the model gets of stored tensors; `torch_quantized` overrides this."""
        return views(tensors)

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        training = self._spec.trains
        if self._noise:
            self._noise.draw_anew()
        self._params = self._stored(params)
        for name, tensor in self._params.items():
            tensor.requires_grad_(training and self._recipe.trains(name))
        self._buffers = {name: torch.tensor(v, **self._like) for name, v in buffers.items()}
        if training:
            self._trained = self._recipe.trained(self._params)
            self._averages = torch_optimizers.averages(self._recipe, self._trained)
            self._make_optimizer()

    def _make_optimizer(self, steps: int = 0) -> None:
        self._steps = steps
        trained = list(self._trained.values())
        self._optimizer = torch_optimizers.make(self._recipe, trained, steps=steps)
        self._scaler = self._make_scaler()

    def _make_scaler(self) -> torch.amp.GradScaler | None:
        scale = self._recipe.scale
        if not self._spec.numbers.scaled:
            return None
        return torch.amp.GradScaler(
            self._spec.device, scale.initial, scale.growth, scale.backoff, scale.interval
        )

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        return trees.over(self._placed, trees.part(batch, "x")), trees.over(
            self._placed, trees.part(batch, "y")
        )

    def memory_of(self, batch: Any) -> list[np.ndarray]:
        return [_bits(tensor) for tree in batch for tensor in trees.leaves(tree)]

    def _placed(self, value: np.ndarray) -> torch.Tensor:
        dtype = self._like["dtype"] if value.dtype.kind == "f" else None  # integers stay int64
        return torch.tensor(value, dtype=dtype, device=self._spec.device)

    def step(self, batch: Any) -> Any:
        x, y = batch
        if not self._spec.trains:
            with self._noise or nullcontext(), torch.inference_mode(), self._autocast():
                output = self._infer({**self._params, **self._buffers}, x)
            self._output_dtype = trees.dtypes(output, dtype_name)
            return output
        with self._noise or nullcontext():
            loss, _ = self._backward(x, y)
            if self._scaler and not self._unscaled():
                return loss
            with self._noise.wide() if self._noise else nullcontext():
                self._clip()
                self._optimizer.step()
                torch_optimizers.average(self._recipe, self._averages, self._trained)
        self._steps += 1
        return loss

    def _unscaled(self) -> bool:
        """Takes the scale out of the gradients and adapts it; whether all of them are finite.
        GradScaler.step calls fused optimizers in any case, whose hooks would count the step."""
        assert self._scaler is not None
        before = self._scaler.get_scale()
        self._scaler.unscale_(self._optimizer)
        self._scaler.update()
        return self._scaler.get_scale() >= before

    def _backward(self, x: Tree, y: Tree) -> tuple[torch.Tensor, Tree]:
        self._optimizer.zero_grad(set_to_none=True)
        parts = self._recipe.accumulation
        if parts == 1:
            return self._add_gradients(x, y)
        self._recipe.micro_batch(trees.examples(x))  # raises where there are no equal ones
        pairs = zip(trees.split(x, parts), trees.split(y, parts), strict=True)
        losses, outputs = zip(*(self._add_gradients(*pair, parts) for pair in pairs), strict=True)
        return torch.stack(losses).mean(), trees.over(lambda *ts: torch.cat(ts), *outputs)

    def _add_gradients(self, x: Tree, y: Tree, parts: int = 1) -> tuple[torch.Tensor, Tree]:
        """(loss, output) of a micro-batch, one of `parts`, whose gradients are added up."""
        with self._autocast():
            loss, output, buffers = self._loss({**self._params, **self._buffers}, x, y)
        scaled = loss if parts == 1 else loss / parts
        (self._scaler.scale(scaled) if self._scaler else scaled).backward()
        self._buffers = self._buffers | {name: b.detach() for name, b in buffers.items()}
        self._output_dtype = trees.dtypes(output, dtype_name)
        for p in self._trained.values():
            if p.grad is None:  # the loss does not depend on it: its gradient is zero, not missing
                p.grad = torch.zeros_like(p)
        return loss.detach(), output

    def _autocast(self) -> AbstractContextManager[None]:
        """PyTorch's own policy, where that is asked for."""
        numbers = self._spec.numbers
        if not numbers.native:
            return nullcontext()
        return torch.autocast(self._spec.device, DTYPES[numbers.low])

    def _clip(self) -> None:
        torch_optimizers.clip(self._recipe, list(self._trained.values()))

    def wait(self, value: Any) -> None:
        if self._spec.device == "cuda":
            torch.cuda.synchronize()

    def fetch(self, value: Any) -> Tree:
        return trees.over(_fetched, value)

    def gradients(self, batch: Any) -> Gradients:
        buffers = self._buffers
        with self._noise or nullcontext():
            loss, output = self._backward(*batch)
        self._buffers = buffers
        scale = self._scaler.get_scale() if self._scaler else 1.0
        gradients = {n: self._viewed(n, p.grad) / scale for n, p in self._trained.items()}
        return Gradients(self.fetch(loss), self.fetch(output), gradients)

    def state(self) -> State:
        slots = torch_optimizers.slots(self._recipe, self._optimizer, self._trained)
        return State(
            self._views(self._params),
            self._views(self._buffers),
            self._views(self._averages),
            {letter: self._views(tensors) for letter, tensors in slots.items()},
            self._steps,
            self._scaling(),
        )

    def _scaling(self) -> dict[str, np.ndarray]:
        if self._scaler is None:
            return {}
        kept = self._scaler.state_dict()
        return {"scale": np.array(kept["scale"]), "good": np.array(kept["_growth_tracker"])}

    def resume(self, state: State) -> None:
        self.load(state.params, state.buffers)
        self._averages = self._stored(state.averages)
        self._make_optimizer(state.steps)
        if state.scaling and self._scaler:
            scale, good = float(state.scaling["scale"]), int(state.scaling["good"])
            own = self._scaler.state_dict()
            self._scaler.load_state_dict(own | {"scale": scale, "_growth_tracker": good})
        if state.slots:
            slots = {letter: self._stored(values) for letter, values in state.slots.items()}
            torch_optimizers.put_slots(
                self._recipe, self._optimizer, self._trained, slots, steps=state.steps
            )

    def save(self, folder: Path) -> None:
        kept = {
            "model": {**self._params, **self._buffers},
            "averages": self._averages,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict() if self._scaler else {},
            "steps": self._steps,
        }
        torch.save(kept, folder / "checkpoint.pt")

    def restore(self, folder: Path) -> None:
        kept = torch.load(folder / "checkpoint.pt", weights_only=True)
        with torch.no_grad():
            for name, tensor in {**self._params, **self._buffers}.items():
                tensor.copy_(kept["model"][name])
        self._averages = kept["averages"]
        self._make_optimizer(kept["steps"])
        self._optimizer.load_state_dict(kept["optimizer"])
        if self._scaler:
            self._scaler.load_state_dict(kept["scaler"])

    def export(self, folder: Path) -> None:
        require(not self._spec.trains, "this program trains")
        torch.save({**self._params, **self._buffers}, folder / "model.pt")

    def _views(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        return {name: self._viewed(name, tensor) for name, tensor in tensors.items()}

    def _stored(self, values: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {n: stored(n, torch.tensor(v, **self._like)) for n, v in values.items()}

    def _viewed(self, name: str, tensor: torch.Tensor) -> np.ndarray:
        """A tensor of a parameter's shape, in the boundary's layout."""
        return _fetched(viewed(name, tensor))

    def device_seconds(self, run: Callable[[], None]) -> float | None:
        if self._spec.device != "cuda":
            run()
            return None
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3  # it is in milliseconds

    def profile(self, batch: Any, steps: int, folder: Path) -> Path:
        with torch.profiler.profile() as profiler:  # all activities that there are
            for _ in range(steps):
                self.wait(self.step(batch))
        path = folder / "trace.json"
        profiler.export_chrome_trace(str(path))
        return path

    def facts(self) -> dict[str, Any]:
        kept = self._kept(self._params)
        device = kept[0].device
        return {
            "parameter_dtypes": sorted({dtype_name(tensor.dtype) for tensor in kept}),
            "output_dtype": self._output_dtype,
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
            "policy": results(self._vocabulary),
            "held_bytes": self._held(),
            "device_kind": device.type,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "compilations": None,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cuda_matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
            "mkl": torch.backends.mkl.is_available(),
            "sdpa_flash": torch.backends.cuda.flash_sdp_enabled(),
        }

    def _kept(self, values: Mapping[str, Any]) -> list[torch.Tensor]:
        """The tensors that parameters are; `torch_quantized` overrides this."""
        return list(values.values())

    def _held(self) -> dict[str, int]:
        found = {"parameter": _bytes(self._kept({**self._params, **self._buffers}))}
        if not self._spec.trains:
            return {**found, "gradient": 0, "optimizer": 0}
        slots = [x for kept in self._optimizer.state.values() for x in kept.values()]
        tensors = [x for x in slots if isinstance(x, torch.Tensor)]
        gradients = [p.grad for p in self._trained.values() if p.grad is not None]
        optimizer = _bytes([*tensors, *self._averages.values()])
        return {**found, "gradient": _bytes(gradients), "optimizer": optimizer}


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _bits(tensor: torch.Tensor) -> np.ndarray:
    """The memory of a tensor; on another device than the CPU, a copy."""
    tensor = tensor.detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _fetched(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
