"""A backend that runs float64 where float32 was asked."""

import dataclasses

from tests.toys import backend


class Adapter(backend.Adapter):
    def program(self, spec):
        return backend.Program(dataclasses.replace(spec, precision="fp64"))
