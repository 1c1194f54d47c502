"""Takes over parameters, and begins with an optimizer that remembers nothing."""

from tests.toys import trains


class Program(trains.Program):
    def resume(self, state):
        self.load(state.params, state.buffers)
        self.averages, self.steps = dict(state.averages), state.steps


class Adapter(trains.Adapter):
    Program = Program
