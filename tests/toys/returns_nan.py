"""A backend whose output is NaN."""

import numpy as np

from tests.toys import backend


class Program(backend.Program):
    def fetch(self, value):
        return np.full_like(value, np.nan)


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
