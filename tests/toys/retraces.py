"""A compiler that compiles again every hundredth step, and says so."""

from tests.toys import backend


class Program(backend.Program):
    steps = 0

    def step(self, x):
        self.steps += 1
        return super().step(x)

    def facts(self):
        return super().facts() | {"compilations": 1 + self.steps // 100}


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
