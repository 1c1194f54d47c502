"""Single computations in TensorFlow: graphs, with XLA or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from adapters import base
from adapters.base import Body
from adapters.ops import Ops

Tensors = dict[str, tf.Tensor]


class Function(base.Function):
    def __init__(self, body: Body, ops: Ops, dtype: str, *, place: str, jit_compile: bool) -> None:
        self._body, self._ops, self._dtype = body, ops, tf.as_dtype(dtype)
        self._place, self._jit_compile = place, jit_compile
        self._run = self._compiled(self._forward)
        self._differentiate = self._compiled(self._backward)

    def _compiled(self, function: Callable[..., Tensors]) -> Any:
        return tf.function(function, autograph=False, jit_compile=self._jit_compile)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return _fetch(self._run(self._put(inputs)))

    def pullback(
        self,
        inputs: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
        by: Sequence[str],
    ) -> dict[str, np.ndarray]:
        gradients = self._differentiate(self._put(inputs), self._put(cotangents), tuple(by))
        return _fetch(gradients)

    def counts(self) -> dict[str, int | None]:
        traces = (f.experimental_get_tracing_count() for f in (self._run, self._differentiate))
        return {"traces": sum(traces), "compilations": None, "graph_breaks": None}

    def compiled_share(self) -> float:
        """Where functions run eagerly there is no graph. Of a graph that must compile, XLA compiles
        everything or raises."""
        return float((self.counts()["traces"] or 0) > 0)

    def _forward(self, inputs: Tensors) -> Tensors:
        with tf.device(self._place):
            return dict(self._body(self._ops, inputs))

    def _backward(self, inputs: Tensors, cotangents: Tensors, by: tuple[str, ...]) -> Tensors:
        with tf.device(self._place):
            with tf.GradientTape() as tape:
                tape.watch([inputs[name] for name in by])
                outputs = self._forward(inputs)
            gradients = tape.gradient(
                [outputs[name] for name in cotangents],
                [inputs[name] for name in by],
                list(cotangents.values()),
                tf.UnconnectedGradients.ZERO,
            )
            # of a lookup it is a list of rows
            return {n: tf.convert_to_tensor(g) for n, g in zip(by, gradients, strict=True)}

    def _put(self, arrays: Mapping[str, np.ndarray]) -> Tensors:
        with tf.device(self._place):
            return {name: self._tensor(np.asarray(value)) for name, value in arrays.items()}

    def _tensor(self, value: np.ndarray) -> tf.Tensor:
        return tf.constant(value, self._dtype if value.dtype.kind == "f" else None)


def _fetch(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _array(tensor: tf.Tensor) -> np.ndarray:
    value = np.array(tensor.numpy())
    return value.astype(np.float32) if tensor.dtype == tf.bfloat16 else value
