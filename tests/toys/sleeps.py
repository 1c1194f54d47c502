"""A backend whose step never ends."""

import threading

from tests.toys import backend


class Program(backend.Program):
    def step(self, x):
        threading.Event().wait()


class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
