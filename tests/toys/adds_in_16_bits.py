"""PyTorch with a dense layer that adds up in the dtype of what it multiplies."""

import torch

from adapters import torch_eager, torch_function
from adapters.torch_ops import TorchOps


class Ops(TorchOps):
    def dense(self, x, w, b=None):
        y = torch.zeros((*x.shape[:-1], w.shape[1]), dtype=x.dtype)
        for k in range(w.shape[0]):
            y = y + x[..., k : k + 1] * w[k]
        return y if b is None else y + b


class Function(torch_function.Function):
    vocabulary = Ops


class Adapter(torch_eager.Adapter):
    def function(self, body, setting):
        self._configure(setting.device, setting.threads)
        return Function(body, setting)
