"""The modules of `torch_native` in torch.compile."""

from __future__ import annotations

import torch

from adapters import torch_compile
from adapters.base import Spec, require
from adapters.controls import torch_native
from adapters.trees import Tree


class Adapter(torch_compile.Adapter):
    def program(self, spec: Spec) -> Program:
        models = torch_native.NETWORKS
        require(spec.model in models, f"there is no native PyTorch control of {spec.model}")
        torch_compile.start(spec.device)
        return Program(spec)


class Program(torch_native.Program, torch_compile.Program):
    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._compiled = torch.compile(self._module, fullgraph=True, dynamic=False)

    def predict(self, x: Tree) -> Tree:
        return self._compiled(x)
