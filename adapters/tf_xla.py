"""TensorFlow graphs compiled with XLA (`jit_compile=True`), on top of `tf_graph`."""

from __future__ import annotations

import tensorflow as tf

from adapters import tf_graph
from adapters.base import Probe, Spec, Unsupported
from adapters.ops import Array
from adapters.tf_ops import TensorflowOps


class XlaOps(TensorflowOps):
    """TensorFlow's operations, but for what XLA computes otherwise."""

    def max(self, x: Array, *, axis: int) -> Array:
        largest = super().max(x, axis=axis)
        if not x.dtype.is_floating:
            return largest
        # XLA's reduction passes over NaN on a CPU
        missing = tf.reduce_any(tf.math.is_nan(x), axis)
        return tf.where(missing, tf.constant(float("nan"), x.dtype), largest)


class Adapter(tf_graph.Adapter):
    execution = "xla"
    ops = XlaOps
    jit_compile = True
    compile_cache = True

    def program(self, spec: Spec) -> Program:
        return Program(spec)

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through tf_graph")


class Program(tf_graph.Program):
    jit_compile = True
    vocabulary = XlaOps
