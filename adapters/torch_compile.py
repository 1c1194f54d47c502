"""PyTorch through torch.compile (TorchDynamo and Inductor), on top of `torch_eager`.

The forward pass with its loss, and the backward pass, are compiled; the optimizer is PyTorch's
fused one, as in eager mode. `fullgraph=True`: a graph break is an error, never a quiet return
to eager.

A single function is compiled as PyTorch does by default: graph breaks happen and are counted, and
shapes are taken for dynamic when a second one comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.utils import clear_compilation_metrics, counters, get_compilation_metrics
from torch._inductor import metrics
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.utils._triton import has_triton

from adapters import torch_eager, torch_function
from adapters.base import Body, Probe, Setting, Spec, Stopwatch, Unsupported, require
from adapters.precisions import PRECISIONS
from adapters.torch_ops import TorchOps

__all__ = ["Adapter", "TorchOps"]

BACKEND = "inductor"
COUNTED = ("traces", "compilations", "graph_breaks")  # of a function
NOISE = "no noise here: it is measured eagerly, below the operations that a compiler fuses"

# Inductor makes a while_loop of PyTorch's scan, and reads its counter with `item`
torch._dynamo.config.capture_scalar_outputs = True


class Adapter(torch_eager.Adapter):
    execution = "inductor"
    compile_cache = True

    def prepare(self, precision: str) -> None:
        if PRECISIONS[precision].scheme is not None:
            import_module("adapters.torch_static")

    def program(self, spec: Spec) -> Program:
        require(spec.noise is None, NOISE)
        start(spec.device)
        if spec.numbers.scheme is None:
            return Program(spec)
        from adapters import torch_inductor

        return torch_inductor.program(spec)

    def function(self, body: Body, setting: Setting) -> Function:
        require(setting.noise is None, NOISE)
        self._configure(setting.device, setting.threads)
        start(setting.device)
        return Function(body, setting)

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through torch_eager")


def start(device: str) -> None:
    """Makes sure that there is a compiler, and forgets what was compiled before: counters, code
    cache and recompile limit belong to one program or function."""
    if device == "cuda":
        require(has_triton(), "no Triton, which Inductor needs on CUDA")
    else:
        require(_has_cpp_compiler(), "no C++ compiler, which Inductor needs on CPU; see CXX")
    torch._dynamo.reset()
    counters.clear()
    metrics.reset()


def _has_cpp_compiler() -> bool:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


class Program(torch_eager.Program):
    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=True, dynamic=False, backend=BACKEND)

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        clear_compilation_metrics()
        result = self.step(batch)
        for record in get_compilation_metrics():  # the forward's frame, then the backward's graph
            whole, backend, backward = (
                (microseconds or 0) / 1e6
                for microseconds in (
                    record.dynamo_cumulative_compile_time_us,
                    record.aot_autograd_cumulative_compile_time_us,
                    record.backward_cumulative_compile_time_us,
                )
            )
            watch.note("trace", whole - backend)
            watch.note("compile", backend + backward)
        return result

    def facts(self) -> dict[str, Any]:
        graphs = counters["stats"]["unique_graphs"]
        kernels, calls = metrics.generated_kernel_count, counters["inductor"]["extern_calls"]
        # with fullgraph, Dynamo counts no frames; of a graph that never came to Inductor neither
        # AOTAutograd nor Inductor knows
        compiled = counters["aot_autograd"]["ok"] if kernels + calls else 0
        return super().facts() | {
            "compilations": graphs,
            "graph_breaks": sum(counters["graph_break"].values()),
            "compiled_share": compiled / max(graphs, 1),
            "backend": BACKEND,
            "generated_kernels": kernels,
            "library_calls": calls,  # that the generated code makes, to BLAS for example
            "captured_calls": counters["stats"]["calls_captured"],
            "compile_cache_hits": counters["inductor"]["fxgraph_cache_hit"],
            "compile_cache_misses": counters["inductor"]["fxgraph_cache_miss"],
        }


class Function(torch_function.Function):
    """The backward pass of `pullback` is compiled by AOTAutograd, as in training."""

    def __init__(self, body: Body, setting: Setting) -> None:
        super().__init__(body, setting)
        self._counts: Counter[str] = Counter()

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        run = torch.compile(function, backend=BACKEND)

        def counted(inputs: torch_function.Tensors) -> torch_function.Tensors:
            before = _counted()
            try:
                return run(inputs)
            finally:
                self._counts.update(_counted() - before)

        return counted

    def counts(self) -> dict[str, int | None]:
        return {name: self._counts[name] for name in COUNTED}

    def compiled_share(self) -> float:
        """0 where TorchDynamo made nothing of any frame of Python that it was given, or was given
        none, as where it is switched off. Else 1: by default PyTorch runs what it cannot compile
        eagerly, and `counts` has the graph breaks."""
        return float(self._counts["compiled_frames"] > 0)


def _counted() -> Counter[str]:
    """Of all that TorchDynamo has seen since `_start`."""
    return Counter(
        compiled_frames=counters["frames"]["ok"],
        traces=counters["frames"]["total"],  # a frame goes on as a new one behind a graph break
        compilations=counters["stats"]["unique_graphs"],
        graph_breaks=sum(counters["graph_break"].values()),
    )
