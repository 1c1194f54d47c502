"""JAX: one jitted function per step, with optax."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from safetensors.numpy import save_file

from adapters import base, jax_optimizers, probes, trees
from adapters.base import (
    Body,
    Gradients,
    Probe,
    Setting,
    Spec,
    State,
    Stopwatch,
    Unsupported,
    require,
)
from adapters.jax_defaults import DEFAULTS
from adapters.jax_function import Function
from adapters.jax_ops import JaxOps
from adapters.ops import Ops
from adapters.policy import computing_low, results
from adapters.precisions import PRECISIONS
from adapters.trees import Tree


class Adapter(base.Adapter):
    framework = "jax"
    execution = "xla"
    ops = JaxOps
    precisions = tuple(name for name in PRECISIONS if name != "int8_dynamic_legacy")
    compile_cache = True
    _device: jax.Device | None = None  # of the last build

    def versions(self) -> dict[str, str]:
        import jaxlib

        return {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "optax": optax.__version__,
            **{n: metadata.version(n) for n in ("qwix",) if importlib.util.find_spec(n)},
        }

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)

    def prepare(self, precision: str) -> None:
        if PRECISIONS[precision].scheme is not None:
            _quantized()

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        x64, tf32 = spec.dtype == "float64", spec.numbers.tf32
        make = _quantized().maker(spec) if spec.numbers.scheme else Program
        program = make(spec, self._configure(spec.device, x64=x64, tf32=tf32))
        program.load(params, buffers)
        return program

    def function(self, body: Body, setting: Setting) -> Function:
        self._device = _device(setting.device)
        if setting.device == "cpu":
            _require_threads(setting.threads)
        return Function(body, setting, self._device)

    def _configure(self, device: str, *, x64: bool, tf32: bool = False) -> jax.Device:
        # Both are global and looked at by every trace, so they hold while this program lives
        jax.config.update("jax_enable_x64", x64)
        # fp32 means float32: no TF32 or bfloat16 in matrix products or convolutions
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
        self._device = _device(device)
        return self._device

    def default(self, trap: int, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        return DEFAULTS.ask(trap, inputs)

    def devices(self) -> list[str]:
        return ["cpu", "cuda"] if _has("cuda") else ["cpu"]

    def libraries(self) -> dict[str, str]:
        client = (self._device or jax.devices()[0]).client
        return {"backend": client.platform, "backend_version": client.platform_version}

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        place = self._configure(device, x64=False)
        if device == "cpu":
            _require_threads(threads)
        if limit == "bandwidth":
            return _bandwidth(place)
        n, work = probes.matrix_product(limit, device)
        # bfloat16 into float32: on the CPU the product into bfloat16 is five times slower
        dtype, result = {
            "matmul_fp32": ("float32", "float32"),
            "matmul_bf16": ("bfloat16", "float32"),
            "matmul_int8": ("int8", "int32"),
        }[limit]
        a = jnp.ones((n, n), dtype, device=place)
        product = jax.jit(lambda a, b: lax.dot(a, b, preferred_element_type=result))
        return Probe(lambda: product(a, a), jax.block_until_ready, work)

    def device_memory(self) -> dict[str, int] | None:
        """Since the process started: JAX cannot reset it."""
        statistics = self._device.memory_stats() if self._device else None
        return {"peak": statistics["peak_bytes_in_use"]} if statistics else None


def _bandwidth(place: jax.Device) -> Probe:
    n, work = probes.bandwidth()
    a, b = (jnp.ones(n, "float32", device=place) for _ in range(2))
    add = jax.jit(jnp.add, donate_argnums=0)

    def step() -> jax.Array:
        nonlocal a  # its memory, donated, becomes that of the result
        a = add(a, b)
        return a

    return Probe(step, jax.block_until_ready, work)


def _device(name: str) -> jax.Device:
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        raise Unsupported(f"no {name} device: {error}") from error


def _has(platform: str) -> bool:
    try:
        return bool(jax.devices(platform))
    except RuntimeError:
        return False


class Tensors(NamedTuple):
    """All state of a program."""

    params: dict[str, jax.Array]  # those that are trained
    frozen: dict[str, jax.Array]  # the others
    buffers: dict[str, jax.Array]
    optimizer: Any
    averages: dict[str, jax.Array]
    scaling: dict[str, jax.Array]  # of the loss; empty where there is none


class Program(base.Program):
    untimed = ""

    def __init__(self, spec: Spec, device: jax.Device) -> None:
        self._spec, self._device = spec, device
        self._vocabulary = self._make_ops()
        self._network = spec.network(self._vocabulary)
        self._optimizer = jax_optimizers.make(spec.training)
        self._infer = jax.jit(self._forward)
        self._train = jax.jit(self._update, donate_argnums=0)
        self._differentiate = jax.jit(self._backward)
        self._output_dtype = ""

    def _make_ops(self) -> Ops:
        return self._spec.vocabulary(JaxOps, native=computing_low)

    def _tensors(self, params: Mapping[str, jax.Array], state: Tensors) -> dict[str, Any]:
        """What the network gets by name; `params` are those that are trained."""
        return {**params, **state.frozen, **state.buffers}

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        recipe = self._spec.training
        trained = recipe.trained(params)
        frozen = {name: value for name, value in params.items() if name not in trained}
        own = self._arrays(trained)
        slots = self._optimizer.init(own) if self._spec.trains else ()
        averages = self._arrays(trained if recipe.average else {})
        scaling = self._scaling() if self._spec.trains and self._spec.numbers.scaled else {}
        rest = self._arrays(frozen), self._arrays(buffers), slots, averages, scaling
        state = Tensors(own, *rest)
        # all on the device from the start: a first step with other placements compiles twice
        self._state = jax.device_put(state, self._device)
        self._steps = 0

    def _scaling(self) -> dict[str, jax.Array]:
        """Loss scaling before the first step."""
        scale = jnp.float32(self._spec.training.scale.initial)
        return {"scale": scale, "good": jnp.int32(0), "taken": jnp.int32(0)}

    def _arrays(self, values: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        return {name: self._array(value) for name, value in values.items()}

    def _array(self, value: np.ndarray) -> jax.Array:
        # a copy: the CPU client may share memory with NumPy, and a training step overwrites it
        dtype = {"f": self._spec.dtype, "i": "int32"}.get(value.dtype.kind)
        return jnp.array(value, dtype, copy=True, device=self._device)

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        return tuple(trees.over(self._array, trees.part(batch, name)) for name in ("x", "y"))

    def memory_of(self, batch: Any) -> list[np.ndarray]:
        return [_fetched(array) for tree in batch for array in trees.leaves(tree)]

    def step(self, batch: Any) -> Any:
        x, y = batch
        if not self._spec.trains:
            return self._infer(self._state, x)
        loss, self._state = self._train(self._state, x, y, *self._rate())
        self._steps += 1
        return loss

    def _rate(self) -> tuple[float, ...]:
        """The learning rate of the next step, unless all steps have the same: that one is compiled
        in."""
        recipe = self._spec.training
        return () if recipe.schedule.is_constant else (recipe.rate(self._taken() + 1),)

    def _taken(self) -> int:
        """Steps that were done: with loss scaling, only the device knows."""
        scaling = self._state.scaling
        return int(scaling["taken"]) if scaling else self._steps

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        with watch("trace"):
            given = (*batch, *self._rate()) if self._spec.trains else batch[:1]
            lowered = self._jitted.trace(self._state, *given).lower()
        with watch("compile"):
            lowered.compile()
        return self.step(batch)  # finds what was compiled: JAX keeps it with the lowered function

    @property
    def _jitted(self) -> Any:
        return self._train if self._spec.trains else self._infer

    def _forward(self, state: Tensors, x: Tree) -> Tree:
        output = self._network.forward(self._tensors(state.params, state), x)[0]
        self._output_dtype = trees.dtypes(output, _name)
        return output

    def _update(
        self, state: Tensors, x: Tree, y: Tree, *rate: jax.Array
    ) -> tuple[jax.Array, Tensors]:
        (loss, (_, buffers)), gradients = self._backward(state, x, y)
        if not state.scaling:
            new = self._stepped(state, gradients, *rate)
            return loss, new._replace(buffers={**state.buffers, **buffers})
        finite = jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(gradients)]).all()
        new = lax.cond(finite, lambda: self._stepped(state, gradients, *rate), lambda: state)
        scaling = self._rescaled(state.scaling, finite)
        return loss, new._replace(buffers={**state.buffers, **buffers}, scaling=scaling)

    def _rescaled(self, scaling: dict[str, jax.Array], finite: jax.Array) -> dict[str, jax.Array]:
        constants, good = self._spec.training.scale, scaling["good"] + 1
        grown = jnp.where(good == constants.interval, constants.growth, 1.0)
        factor = jnp.where(finite, grown, constants.backoff)
        kept = finite & (good < constants.interval)
        taken = scaling["taken"] + finite
        return {
            "scale": scaling["scale"] * factor, "good": jnp.where(kept, good, 0), "taken": taken
        }  # fmt: skip

    def _stepped(
        self, state: Tensors, gradients: dict[str, jax.Array], *rate: jax.Array
    ) -> Tensors:
        given = {"rate": rate[0]} if rate else {}
        updates, slots = self._optimizer.update(gradients, state.optimizer, state.params, **given)
        params = optax.apply_updates(state.params, updates)
        d = self._spec.training.average
        averages = {name: d * a + (1 - d) * params[name] for name, a in state.averages.items()}
        return state._replace(params=params, optimizer=slots, averages=averages)

    def _backward(self, state: Tensors, x: Tree, y: Tree) -> Any:
        whole = self._spec.training.accumulation == 1
        return (self._gradients_of if whole else self._accumulated)(state, x, y)

    def _accumulated(self, state: Tensors, x: Tree, y: Tree) -> Any:
        parts, examples = self._spec.training.accumulation, trees.examples(x)
        size = self._spec.training.micro_batch(examples)

        def add(carry: Any, micro_batch: Any) -> Any:
            buffers, total = carry
            part = self._gradients_of(state._replace(buffers=buffers), *micro_batch)
            (loss, (output, updated)), gradients = part
            total = jax.tree.map(jnp.add, total, gradients)
            return ({**buffers, **updated}, total), (loss, output)

        split = jax.tree.map(lambda a: a.reshape(parts, size, *a.shape[1:]), (x, y))
        start = (state.buffers, optax.tree.zeros_like(state.params))
        (buffers, total), (losses, outputs) = lax.scan(add, start, split)
        gradients = jax.tree.map(lambda g: g / parts, total)
        output = jax.tree.map(lambda a: a.reshape(examples, *a.shape[2:]), outputs)
        return (jnp.mean(losses), (output, buffers)), gradients

    def _gradients_of(self, state: Tensors, x: Tree, y: Tree) -> Any:
        def loss_of(params: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            loss, output, buffers = self._network.loss(self._tensors(params, state), x, y)
            self._output_dtype = trees.dtypes(output, _name)
            scaled = loss * state.scaling["scale"] if state.scaling else loss
            return scaled, (loss, output, buffers)

        (_, (loss, *others)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        if state.scaling:
            gradients = jax.tree.map(lambda g: g / state.scaling["scale"], gradients)
        return (loss, tuple(others)), gradients

    def wait(self, value: Any) -> None:
        # of the state only where steps change it: to walk hundreds of arrays takes microseconds
        jax.block_until_ready((value, self._state) if self._spec.trains else value)

    def fetch(self, value: Any) -> Tree:
        return trees.over(_fetched, value)

    def gradients(self, batch: Any) -> Gradients:
        (loss, (output, _)), gradients = self._differentiate(self._state, *batch)
        arrays = {name: self.fetch(g) for name, g in gradients.items()}
        return Gradients(self.fetch(loss), self.fetch(output), arrays)

    def state(self) -> State:
        own = self._state
        kept = ({**own.params, **own.frozen}, own.buffers, own.averages)
        params, buffers, averages = jax.tree.map(_fetched, kept)
        slots = jax.tree.map(_fetched, jax_optimizers.slots(own.optimizer))
        scaling = {n: np.array(v) for n, v in own.scaling.items() if n != "taken"}
        return State(params, buffers, averages, slots, self._taken(), scaling)

    def resume(self, state: State) -> None:
        self.load(state.params, state.buffers)
        slots = {letter: self._arrays(values) for letter, values in state.slots.items()}
        optimizer = jax_optimizers.with_slots(
            self._spec.training, self._state.optimizer, slots, state.steps
        )
        averages = self._arrays(state.averages)
        known = {**state.scaling, "taken": state.steps}
        scaling = {n: jnp.asarray(known.get(n, v), v.dtype) for n, v in self._state.scaling.items()}
        resumed = self._state._replace(optimizer=optimizer, averages=averages, scaling=scaling)
        self._state = jax.device_put(resumed, self._device)
        self._steps = state.steps

    def save(self, folder: Path) -> None:
        """JAX has no format of its own; NumPy's is the usual one where orbax is not."""
        arrays: dict[str, Any] = self.state().flat()
        np.savez(folder / "checkpoint.npz", **arrays)

    def restore(self, folder: Path) -> None:
        with np.load(folder / "checkpoint.npz") as kept:
            self.resume(State.of(dict(kept)))

    def export(self, folder: Path) -> None:
        """Parameters and buffers as safetensors: JAX has no format of its own for a model, and the
        program is Python."""
        require(not self._spec.trains, "a program that trains is saved; inference is exported")
        save_file(self._exported(), folder / "model.safetensors")

    def _exported(self) -> dict[str, np.ndarray]:
        own = self._state
        tensors = self._tensors(own.params, own)
        return {name: np.asarray(value) for name, value in tensors.items()}

    def profile(self, batch: Any, steps: int, folder: Path) -> Path:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            for _ in range(steps):
                self.wait(self.step(batch))
        return next(folder.glob("**/perfetto_trace.json.gz"))

    def facts(self) -> dict[str, Any]:
        params = jax.tree.leaves((self._state.params, self._state.frozen))
        device = params[0].device
        executables = self._jitted._cache_size()
        return {
            "parameter_dtypes": sorted({v.dtype.name for v in params}),
            "output_dtype": self._output_dtype,
            "tf32": jax.config.jax_default_matmul_precision == "tensorfloat32",
            "policy": results(self._vocabulary),
            "held_bytes": self._held(),
            "device_kind": "cuda" if device.platform == "gpu" else device.platform,
            "device": str(device),
            "threads": _cpu_threads(),
            "compilations": executables,
            # where jit is disabled JAX runs operation by operation, and there is no executable
            "compiled_share": float(executables > 0),
            "platform": device.platform,
            "x64": jax.config.jax_enable_x64,
            "default_matmul_precision": jax.config.jax_default_matmul_precision,
            "compilation_cache": jax.config.jax_enable_compilation_cache,
            "compilation_cache_dir": jax.config.jax_compilation_cache_dir,
            "NPROC": os.environ.get("NPROC"),
            "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        }

    def _held(self) -> dict[str, int]:
        own = self._state
        return {
            "parameter": _bytes((own.params, own.frozen, own.buffers)),
            "gradient": _bytes(own.params) if self._spec.trains else 0,
            "optimizer": _bytes((own.optimizer, own.averages)),
        }


def _quantized() -> Any:
    """`adapters.jax_quantized`, which needs qwix."""
    try:
        from adapters import jax_quantized
    except ModuleNotFoundError as error:
        if error.name != "qwix":
            raise
        reason = "qwix is not installed; pip install 'assay[jax,quantization]'"
        raise Unsupported(reason) from error
    return jax_quantized


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _fetched(x: jax.Array) -> np.ndarray:
    """NumPy has no bfloat16: float32 holds it exactly."""
    return np.array(x.astype("float32") if x.dtype == jnp.bfloat16 else x)


def _name(dtype: Any) -> str:
    return str(dtype.name)


def _cpu_threads() -> int | None:
    """The size of XLA's CPU thread pool, by the names of this process's threads: no interface
    tells it. NPROC in the environment sets it. None where there is no /proc."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return names.count("tf_XLAEigen") if names else None


def _require_threads(threads: int) -> None:
    """JAX takes a number of threads from the environment only."""
    found = _cpu_threads()
    require(found in (None, threads), f"{threads} threads, but XLA has {found}; see NPROC")
