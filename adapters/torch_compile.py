"""PyTorch through torch.compile (TorchDynamo and Inductor), on top of `torch_eager`.

The forward pass with its loss, and the backward pass, are compiled; the optimizer is PyTorch's
fused one, as in eager mode. `fullgraph=True`: a graph break is an error, never a quiet return
to eager.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.utils import clear_compilation_metrics, counters, get_compilation_metrics
from torch._inductor import metrics
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.utils._triton import has_triton

from adapters import torch_eager
from adapters.base import Probe, Spec, Stopwatch, Unsupported, require
from adapters.torch_ops import TorchOps

__all__ = ["Adapter", "TorchOps"]

BACKEND = "inductor"


class Adapter(torch_eager.Adapter):
    compile_cache = True

    def program(self, spec: Spec) -> Program:
        require(spec.noise is None, "no noise here: TorchDynamo cannot trace NumPy's generator")
        if spec.device == "cuda":
            require(has_triton(), "no Triton, which Inductor needs on CUDA")
        else:
            require(_has_cpp_compiler(), "no C++ compiler, which Inductor needs on CPU; see CXX")
        # the counters and the code cache belong to one program: the previous one is gone
        torch._dynamo.reset()
        counters.clear()
        metrics.reset()
        return Program(spec)

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through torch_eager")


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
