"""JAX: one jitted function per step, with optax."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from adapters import base
from adapters.base import Gradients, Spec, Unsupported
from adapters.ops import Array, Ops
from adapters.training import Recipe


class JaxOps(Ops):
    """XLA's own layouts are those of the vocabulary: nothing is transposed but heads."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype

    def constant(self, value: np.ndarray) -> Array:
        return jnp.asarray(value, self._dtype)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return jnp.reshape(x, tuple(shape))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return jnp.transpose(x, tuple(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return jnp.concatenate(list(xs), axis=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        return lax.slice_in_dim(x, start, stop, axis=axis)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return jnp.broadcast_to(x, tuple(shape))

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def relu(self, x: Array) -> Array:
        return jax.nn.relu(x)

    def gelu(self, x: Array) -> Array:
        return jax.nn.gelu(x, approximate=False)

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        # rows first: XLA's CPU gradient of w is slower when it contracts two axes
        y = x.reshape(-1, x.shape[-1]) @ w
        y = y if b is None else y + b
        return y.reshape(*x.shape[:-1], w.shape[-1])

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        y = lax.conv_general_dilated(
            x,
            w,
            window_strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y if b is None else y + b

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(q.shape[-1])
        return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return jnp.mean(x, axis=axis if isinstance(axis, int) else tuple(axis))

    def softmax(self, x: Array) -> Array:
        return jax.nn.softmax(x)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        sizes, strides = (1, window, window, 1), (1, stride, stride, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, "VALID")

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        mean, var = _moments(x, axes=(-1,))
        return (x - mean) / jnp.sqrt(var + epsilon) * scale + offset

    def batch_norm(
        self,
        x: Array,
        scale: Array,
        offset: Array,
        mean: Array,
        var: Array,
        *,
        train: bool,
        momentum: float,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        if not train:
            return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + offset, mean, var
        n = math.prod(x.shape[:-1])
        batch_mean, batch_var = _moments(x, axes=tuple(range(x.ndim - 1)))
        y = (x - batch_mean) * (lax.rsqrt(batch_var + epsilon) * scale) + offset
        new_mean = (1 - momentum) * mean + momentum * batch_mean.reshape(-1)
        new_var = (1 - momentum) * var + momentum * n / (n - 1) * batch_var.reshape(-1)
        return y, new_mean, new_var

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _moments(x: Array, *, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance, axes kept."""
    mean = x.mean(axes, keepdims=True)
    centred = x - mean
    return mean, (centred * centred).mean(axes, keepdims=True)


class Adapter(base.Adapter):
    framework = "jax"
    ops = JaxOps

    def versions(self) -> dict[str, str]:
        import jaxlib

        return {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "optax": optax.__version__,
        }

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        # Both are global and looked at by every trace, so they hold while this program lives
        jax.config.update("jax_enable_x64", spec.dtype == "float64")
        # fp32 means float32: no TF32 or bfloat16 in matrix products or convolutions
        jax.config.update("jax_default_matmul_precision", "highest")
        program = Program(spec, _device(spec.device))
        program.load(params, buffers)
        return program


def _device(name: str) -> jax.Device:
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        raise Unsupported(f"no {name} device: {error}") from error


class State(NamedTuple):
    params: dict[str, jax.Array]
    buffers: dict[str, jax.Array]
    optimizer: Any


class Program(base.Program):
    untimed = ""

    def __init__(self, spec: Spec, device: jax.Device) -> None:
        self._spec, self._device = spec, device
        self._network = spec.network(JaxOps(spec.dtype))
        self._optimizer = _make_optimizer(spec.training)
        self._infer = jax.jit(self._forward)
        self._train = jax.jit(self._update, donate_argnums=0)
        self._differentiate = jax.jit(self._backward)
        self._output_dtype = ""

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        placed = [
            {name: self._array(v) for name, v in values.items()} for values in (params, buffers)
        ]
        slots = self._optimizer.init(placed[0]) if self._spec.mode == "train" else ()
        # all on the device from the start: a first step with other placements compiles twice
        self._state = jax.device_put(State(placed[0], placed[1], slots), self._device)

    def _array(self, value: np.ndarray, dtype: str | None = None) -> jax.Array:
        # a copy: the CPU client may share memory with NumPy, and a training step overwrites it
        return jnp.array(value, dtype or self._spec.dtype, copy=True, device=self._device)

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        return self._array(batch["x"]), self._array(batch["y"], "int32")

    def step(self, batch: Any) -> Any:
        x, y = batch
        if self._spec.mode == "infer":
            return self._infer(self._state, x)
        loss, self._state = self._train(self._state, x, y)
        return loss

    def _forward(self, state: State, x: jax.Array) -> jax.Array:
        output = self._network.forward({**state.params, **state.buffers}, x)[0]
        self._output_dtype = output.dtype.name
        return output

    def _update(self, state: State, x: jax.Array, y: jax.Array) -> tuple[jax.Array, State]:
        (loss, (_, buffers)), gradients = self._backward(state, x, y)
        updates, slots = self._optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return loss, State(params, {**state.buffers, **buffers}, slots)

    def _backward(self, state: State, x: jax.Array, y: jax.Array) -> Any:
        def loss_of(params: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            loss, output, buffers = self._network.loss({**params, **state.buffers}, x, y)
            self._output_dtype = output.dtype.name
            return loss, (output, buffers)

        return jax.value_and_grad(loss_of, has_aux=True)(state.params)

    def wait(self, value: Any) -> None:
        jax.block_until_ready((value, self._state))

    def fetch(self, value: Any) -> np.ndarray:
        return np.array(value)

    def gradients(self, batch: Any) -> Gradients:
        (loss, (output, _)), gradients = self._differentiate(self._state, *batch)
        arrays = {name: self.fetch(g) for name, g in gradients.items()}
        return Gradients(self.fetch(loss), self.fetch(output), arrays)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return tuple(  # type: ignore[return-value]
            {name: self.fetch(v) for name, v in tensors.items()}
            for tensors in (self._state.params, self._state.buffers)
        )

    def facts(self) -> dict[str, Any]:
        step = self._infer if self._spec.mode == "infer" else self._train
        return {
            "parameter_dtypes": sorted({v.dtype.name for v in self._state.params.values()}),
            "output_dtype": self._output_dtype,
            "device": str(next(iter(self._state.params.values())).device),
            "threads": _cpu_threads(),
            "platform": self._device.platform,
            "x64": jax.config.jax_enable_x64,
            "default_matmul_precision": jax.config.jax_default_matmul_precision,
            "compilation_cache_dir": jax.config.jax_compilation_cache_dir,
            "compilations": step._cache_size(),
            "NPROC": os.environ.get("NPROC"),
            "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        }


def _cpu_threads() -> int | None:
    """The size of XLA's CPU thread pool, by the names of this process's threads: no interface
    tells it. NPROC in the environment sets it. None where there is no /proc."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return names.count("tf_XLAEigen") if names else None


class _AdamState(NamedTuple):
    steps: jax.Array
    first: dict[str, jax.Array]
    second: dict[str, jax.Array]


def _make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    if recipe.optimizer == "sgd":
        optimizer = optax.sgd(recipe.learning_rate, momentum=recipe.momentum)
    else:
        optimizer = _adamw(recipe)
    if recipe.clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(recipe.clip_norm), optimizer)


def _adamw(recipe: Recipe) -> optax.GradientTransformation:
    """optax.adamw with 1 - beta^t by expm1: optax's own computes beta^t in float32, which makes
    the first update wrong by 7e-6."""
    lr, decay = recipe.learning_rate, recipe.learning_rate * recipe.weight_decay
    (beta1, beta2), tree_map = recipe.betas, jax.tree.map

    def init(params: Any) -> _AdamState:
        zeros = optax.tree.zeros_like(params)
        return _AdamState(jnp.zeros((), jnp.int32), zeros, optax.tree.zeros_like(params))

    def update(gradients: Any, state: _AdamState, params: Any = None) -> tuple[Any, _AdamState]:
        steps = state.steps + 1
        first = tree_map(lambda m, g: beta1 * m + (1 - beta1) * g, state.first, gradients)
        second = tree_map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.second, gradients)

        def move(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            t = steps.astype(p.dtype)
            c1, c2 = (-jnp.expm1(t * math.log(beta)) for beta in recipe.betas)
            return -decay * p - lr * (m / c1) / (jnp.sqrt(v / c2) + recipe.epsilon)

        return tree_map(move, params, first, second), _AdamState(steps, first, second)

    return optax.GradientTransformation(init, update)
