"""A backend with a device, whose clock says how long nothing took: it never runs the steps."""

from tests.toys import backend


class Program(backend.Program):
    def device_seconds(self, run):
        return 0.001


class Adapter(backend.Adapter):
    def build(self, spec, params, buffers):
        program = Program(spec)
        program.load(params, buffers)
        return program
