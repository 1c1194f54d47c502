"""Single computations in JAX, jitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np

from adapters import base
from adapters.base import Body, Setting
from adapters.jax_ops import JaxOps

Tensors = dict[str, jax.Array]


class Function(base.Function):
    def __init__(self, body: Body, setting: Setting, device: jax.Device) -> None:
        self._body, self._device, self._dtype = body, device, setting.dtype
        self._ops = setting.noisy(JaxOps(setting.dtype))
        self._traces = 0
        self._run = jax.jit(self._outputs)
        self._pull = jax.jit(self._gradients, static_argnames="by")

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._configured():
            outputs = self._run(self._put(inputs))
            return {name: _fetch(value) for name, value in outputs.items()}

    def pullback(
        self,
        inputs: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
        by: Sequence[str],
    ) -> dict[str, np.ndarray]:
        with self._configured():
            gradients = self._pull(self._put(inputs), self._put(cotangents), by=tuple(by))
            return {name: _fetch(value) for name, value in gradients.items()}

    def counts(self) -> dict[str, int | None]:
        executables = self._run._cache_size() + self._pull._cache_size()
        return {"traces": self._traces, "compilations": executables, "graph_breaks": None}

    def compiled_share(self) -> float:
        """Where jit is disabled JAX runs operation by operation, and there is no executable."""
        return float(self._run._cache_size() + self._pull._cache_size() > 0)

    def _outputs(self, inputs: Tensors) -> Tensors:
        self._traces += 1
        return dict(self._body(self._ops, inputs))

    def _gradients(self, inputs: Tensors, cotangents: Tensors, by: tuple[str, ...]) -> Tensors:
        def outputs(wanted: Tensors) -> Tensors:
            every = self._outputs({**inputs, **wanted})
            return {name: every[name] for name in cotangents}

        _, pull = jax.vjp(outputs, {name: inputs[name] for name in by})
        return pull(cotangents)[0]

    @contextmanager
    def _configured(self) -> Iterator[None]:
        """64 bits in every precision, for JAX would make int64 inputs int32; a float32 tensor stays
        one. fp32 means float32: no TF32 or bfloat16 in matrix products or convolutions."""
        with (
            jax.enable_x64(True),
            jax.default_matmul_precision("highest"),
            jax.default_device(self._device),
        ):
            yield

    def _put(self, arrays: Mapping[str, np.ndarray]) -> Tensors:
        return {name: self._array(value) for name, value in arrays.items()}

    def _array(self, value: np.ndarray) -> jax.Array:
        dtype = self._dtype if jnp.issubdtype(value.dtype, jnp.floating) else value.dtype
        # a copy: the CPU client may share memory with NumPy, where the caller may change it
        return jnp.array(value, dtype, copy=True, device=self._device)


def _fetch(value: jax.Array) -> np.ndarray:
    return np.array(value, np.float32 if value.dtype == jnp.bfloat16 else None)
