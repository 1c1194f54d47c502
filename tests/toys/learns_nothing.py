"""Computes everything, and moves by next to nothing."""

from tests.toys import learns_late


class Program(learns_late.Program):
    share = 1e-6


class Adapter(learns_late.Adapter):
    Program = Program
