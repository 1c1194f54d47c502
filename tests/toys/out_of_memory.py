"""A backend whose allocator refuses batches of more than 16 examples."""

from tests.toys import backend


class Program(backend.Program):
    def step(self, x):
        if len(x) > 16:
            raise MemoryError(f"cannot allocate for {len(x)} examples")
        return super().step(x)


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
