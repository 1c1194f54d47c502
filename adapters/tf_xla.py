"""TensorFlow graphs compiled with XLA (`jit_compile=True`), on top of `tf_graph`."""

from __future__ import annotations

from adapters import tf_graph
from adapters.base import Probe, Spec, Unsupported
from adapters.tf_ops import TensorflowOps

__all__ = ["Adapter", "TensorflowOps"]


class Adapter(tf_graph.Adapter):
    compile_cache = True

    def program(self, spec: Spec) -> Program:
        return Program(spec)

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through tf_graph")


class Program(tf_graph.Program):
    jit_compile = True
