"""A backend with a profiler that has nothing to say."""

from tests.toys import backend


class Program(backend.Program):
    def profile(self, batch, steps, folder):
        path = folder / "trace.json"
        path.write_text('{"traceEvents": []}')
        return path


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
