"""A backend that fills 64 MiB in each step and frees them."""

import numpy as np

from tests.toys import backend


class Program(backend.Program):
    def step(self, x):
        np.ones(2**23)
        return super().step(x)


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
