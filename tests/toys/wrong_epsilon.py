"""A backend with a wrong epsilon in layer normalisation, which only float64 can tell for sure."""

from adapters.numpy_reference import NumpyOps
from tests.toys import backend


class WrongOps(NumpyOps):
    def layer_norm(self, x, scale, offset, *, epsilon):
        return super().layer_norm(x, scale, offset, epsilon=2 * epsilon)


class Program(backend.Program):
    def step(self, x):
        return self.spec.forward(WrongOps(), self.tensors, x)[0]


class Adapter(backend.Adapter):
    ops = WrongOps

    def program(self, spec):
        return Program(spec)
