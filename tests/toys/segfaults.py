"""A backend that reads address 0, after printing what looks like an answer, and much more."""

import ctypes

from tests.toys import backend


class Program(backend.Program):
    def step(self, x):
        print('{"id": 2, "result": {}}\n' * 100_000, flush=True)
        print("about to read address 0", flush=True)
        ctypes.string_at(0)


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
