"""Is right for as long as anybody looks; when it has run for a while, it gives its last output
again and again, which is faster."""

from tests.toys import backend

PATIENCE = 20  # calls


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)


class Program(backend.Program):
    calls = 0

    def step(self, x):
        self.calls += 1
        if self.calls <= PATIENCE:
            self.kept = super().step(x)
        return self.kept
