"""A backend that allocates until it is killed."""

import numpy as np

from tests.toys import backend


class Program(backend.Program):
    def step(self, x):
        kept = []
        while True:
            kept.append(np.ones(2**21))


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
