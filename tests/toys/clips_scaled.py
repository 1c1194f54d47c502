"""PyTorch that clips gradients before it takes the loss scale out of them."""

from adapters import torch_eager


class Program(torch_eager.Program):
    def _unscaled(self):
        super()._clip()
        return super()._unscaled()

    def _clip(self):
        pass


class Adapter(torch_eager.Adapter):
    def program(self, spec):
        return Program(spec)
