"""torch.compile that quietly runs Python in the middle of a network."""

import torch

from adapters import torch_compile, torch_eager
from adapters.torch_ops import TorchOps


class BreakingOps(TorchOps):
    def relu(self, x):
        torch._dynamo.graph_break()
        return super().relu(x)


class Program(torch_compile.Program):
    def compiled(self, function):
        return torch.compile(function, fullgraph=False, dynamic=False)


class Adapter(torch_compile.Adapter):
    def program(self, spec):
        super().program(spec)  # for its checks and counters
        torch_eager.TorchOps = BreakingOps
        return Program(spec)
