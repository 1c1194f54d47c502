"""A backend that raises."""

from tests.toys import backend


class Adapter(backend.Adapter):
    def build(self, spec, params, buffers):
        raise RuntimeError("the toy <b>kernel</b> refused")
