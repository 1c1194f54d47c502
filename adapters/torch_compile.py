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
from torch._dynamo.utils import counters
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.utils._triton import has_triton

from adapters import torch_eager
from adapters.base import Spec, require
from adapters.torch_eager import TorchOps

__all__ = ["Adapter", "TorchOps"]

BACKEND = "inductor"


class Adapter(torch_eager.Adapter):
    def program(self, spec: Spec) -> Program:
        require(spec.noise is None, "no noise here: TorchDynamo cannot trace NumPy's generator")
        if spec.device == "cuda":
            require(has_triton(), "no Triton, which Inductor needs on CUDA")
        else:
            require(_has_cpp_compiler(), "no C++ compiler, which Inductor needs on CPU; see CXX")
        # the counters and the code cache belong to one program: the previous one is gone
        torch._dynamo.reset()
        counters.clear()
        return Program(spec)


def _has_cpp_compiler() -> bool:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


class Program(torch_eager.Program):
    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=True, dynamic=False, backend=BACKEND)

    def facts(self) -> dict[str, Any]:
        graphs = counters["stats"]["unique_graphs"]
        return super().facts() | {
            "backend": BACKEND,
            "compiled_graphs": graphs,
            "captured_calls": counters["stats"]["calls_captured"],
            "graph_breaks": sum(counters["graph_break"].values()),
            "recompiles": graphs - 1,  # one function runs in a program, and is one full graph
        }
