"""What drives TensorFlow to the limits of a device."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from adapters import probes
from adapters.base import Probe, Unsupported

#: Rows of the matrices of an int8 product: TensorFlow's does 20 GOP/s on a core that can do 1,000.
INT8_ROWS = 1024

NO_KERNEL = (
    tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnimplementedError
)  # fmt: skip


def probe(limit: str, place: str, device: str) -> Probe:
    """For `adapters.base.Adapter.probe`; `place` is TensorFlow's name of the device."""
    with tf.device(place):
        return _bandwidth() if limit == "bandwidth" else _matrix_product(limit, place, device)


def _bandwidth() -> Probe:
    n, work = probes.bandwidth()
    total, term = tf.Variable(tf.ones(n)), tf.ones(n)

    def add() -> tf.Tensor:
        total.assign_add(term, read_value=False)
        return tf.constant(0)

    return Probe(tf.function(add, autograph=False), _wait, work)


def _matrix_product(limit: str, place: str, device: str) -> Probe:
    most = INT8_ROWS if limit == "matmul_int8" else probes.MATRICES_CUDA
    n, work = probes.matrix_product(limit, device, most=most)
    dtype, result = {
        "matmul_fp32": (tf.float32, tf.float32),
        "matmul_bf16": (tf.bfloat16, tf.bfloat16),
        "matmul_int8": (tf.int8, tf.int32),
    }[limit]
    a = tf.cast(tf.ones((n, n)), dtype)

    def multiply(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        with tf.device(place):
            return tf.matmul(a, b, output_type=result)

    product = tf.function(multiply, autograph=False)
    try:
        product(a[:1], a)
    except NO_KERNEL as error:
        raise Unsupported(f"TensorFlow has no {limit}: {error}".splitlines()[0]) from error
    step = product.get_concrete_function(a, a)
    return Probe(lambda: step(a, a), _wait, work)


def _wait(value: Any) -> None:
    tf.test.experimental.sync_devices()
