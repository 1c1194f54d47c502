"""TensorFlow graphs compiled with XLA (`jit_compile=True`), on top of `tf_graph`."""

from __future__ import annotations

from adapters import tf_graph
from adapters.base import Spec
from adapters.tf_graph import TensorflowOps

__all__ = ["Adapter", "TensorflowOps"]


class Adapter(tf_graph.Adapter):
    def program(self, spec: Spec) -> Program:
        return Program(spec)


class Program(tf_graph.Program):
    jit_compile = True
