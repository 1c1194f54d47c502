"""Single computations in PyTorch, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from adapters import base
from adapters.base import Body, Setting
from adapters.torch_noise import MonteCarlo
from adapters.torch_ops import TorchOps

Tensors = dict[str, torch.Tensor]


class Function(base.Function):
    vocabulary = TorchOps

    def __init__(self, body: Body, setting: Setting) -> None:
        self._like: Any = {"dtype": getattr(torch, setting.dtype), "device": setting.device}
        ops = self.vocabulary(**self._like)
        self._arithmetic = MonteCarlo(setting.noise) if setting.noise else nullcontext()
        self._run = self.compiled(lambda inputs: dict(body(ops, inputs)))

    def compiled(self, function: Callable[[Tensors], Tensors]) -> Callable[[Tensors], Tensors]:
        """`function` as this adapter runs it; `torch_compile` overrides this."""
        return function

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = self._put(inputs)
        with self._arithmetic, torch.no_grad():
            outputs = self._run(tensors)
        return {name: _fetch(value) for name, value in outputs.items()}

    def pullback(
        self,
        inputs: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
        by: Sequence[str],
    ) -> dict[str, np.ndarray]:
        tensors, seeds = self._put(inputs), self._put(cotangents)
        for name in by:
            tensors[name].requires_grad_()
        with self._arithmetic:
            outputs = self._run(tensors)
            dependent = [name for name in seeds if outputs[name].requires_grad]
            if dependent:
                torch.autograd.backward(
                    [outputs[name] for name in dependent], [seeds[name] for name in dependent]
                )
        gradients = {name: tensors[name].grad for name in by}
        return {
            name: _fetch(torch.zeros_like(tensors[name]) if g is None else g)
            for name, g in gradients.items()
        }

    def _put(self, arrays: Mapping[str, np.ndarray]) -> Tensors:
        return {name: self._tensor(value) for name, value in arrays.items()}

    def _tensor(self, value: np.ndarray) -> torch.Tensor:
        tensor = torch.tensor(value, device=self._like["device"])
        return tensor.to(self._like["dtype"]) if tensor.is_floating_point() else tensor


def _fetch(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
