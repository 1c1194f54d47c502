"""TensorFlow graphs: tf.function without XLA."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config
from tensorflow.python.util import _pywrap_util_port

from adapters import base, tf_optimizers, tf_probes, tf_trace, trees
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
from adapters.policy import computing_low, results
from adapters.precisions import PRECISIONS
from adapters.tf_defaults import DEFAULTS
from adapters.tf_function import Function
from adapters.tf_ops import TensorflowOps
from adapters.trees import Tree


class Adapter(base.Adapter):
    framework = "tensorflow"
    execution = "graph"
    precisions = tuple(PRECISIONS)
    ops: type[TensorflowOps] = TensorflowOps
    jit_compile = False  # `tf_xla` sets this
    _device = "cpu"  # of the last build

    def versions(self) -> dict[str, str]:
        return {"tensorflow": tf.__version__}

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, tf.errors.ResourceExhaustedError)

    def is_missing_kernel(self, error: BaseException) -> bool:
        told = str(error)
        unregistered = "No registered" in told or "gradient registry has no entry" in told
        unregistered |= isinstance(error, TypeError) and "not in list of allowed values" in told
        # oneDNN has none for this dtype on this processor
        aborted = isinstance(error, tf.errors.AbortedError) and "could not create a" in told
        return isinstance(error, tf.errors.UnimplementedError) or unregistered or aborted

    def program(self, spec: Spec) -> Program:
        """A program without its state; `tf_xla` overrides this."""
        return Program(spec)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        self._configure(spec.device, spec.threads, tf32=spec.numbers.tf32)
        program = self.program(spec)
        program.load(params, buffers)
        return program

    def function(self, body: Body, setting: Setting) -> Function:
        self._configure(setting.device, setting.threads)
        ops = setting.noisy(self.ops(tf.as_dtype(setting.dtype)))
        place, jit_compile = _place(setting.device), self.jit_compile
        return Function(body, ops, setting.dtype, place=place, jit_compile=jit_compile)

    def _configure(self, device: str, threads: int, *, tf32: bool = False) -> None:
        gpus = tf.config.list_physical_devices("GPU")
        require(device != "cuda" or bool(gpus), "no CUDA device: TensorFlow lists no GPU")
        for gpu in gpus:  # for the CPU too: the runtime, once started, takes no such setting
            tf.config.experimental.set_memory_growth(gpu, True)
        _set_threads(threads)
        # rather an error than a quiet return to the CPU
        tf.config.set_soft_device_placement(False)
        # fp32 means float32: TF32 in matrix products and convolutions has a precision of its own
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        self._device = device

    def default(self, trap: int, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        return DEFAULTS.ask(trap, inputs)

    def devices(self) -> list[str]:
        return ["cpu", "cuda"] if tf.config.list_physical_devices("GPU") else ["cpu"]

    def libraries(self) -> dict[str, str]:
        built = {name: str(value) for name, value in tf.sysconfig.get_build_info().items()}
        return built | {"onednn": str(_onednn()), "compiler": tf.version.COMPILER_VERSION}

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        self._configure(device, threads)
        return tf_probes.probe(limit, _place(device), device)

    def reset_device_memory(self) -> bool:
        if self._device != "cuda":
            return False
        tf.config.experimental.reset_memory_stats("GPU:0")
        return True

    def device_memory(self) -> dict[str, int] | None:
        if self._device != "cuda":  # TensorFlow has numbers for the CPU, which are zeros
            return None
        return {"peak": tf.config.experimental.get_memory_info("GPU:0")["peak"]}


def _fetched(x: Any) -> np.ndarray:
    """NumPy has no bfloat16: float32 holds it exactly."""
    return np.array(tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x)


def _name(dtype: tf.DType) -> str:
    return str(dtype.name)


def _bytes(variables: Iterable[tf.Variable]) -> int:
    return sum(v.dtype.size * v.shape.num_elements() for v in variables)


def _place(device: str) -> str:
    return "/GPU:0" if device == "cuda" else "/CPU:0"


def _onednn() -> bool:
    """Whether kernels of oneDNN are built in and used."""
    return _pywrap_util_port.IsMklEnabled() and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"


def _set_threads(threads: int) -> None:
    """TensorFlow takes these until its runtime starts, that is, until the first build."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        started = tf.config.threading.get_intra_op_parallelism_threads()
        raise Unsupported(
            f"{threads} threads, but TensorFlow started with {started} and cannot change"
        ) from error


class Program(base.Program):
    untimed = ""
    jit_compile = False  # `tf_xla` sets these two
    vocabulary: type[TensorflowOps] = TensorflowOps

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._dtype = tf.as_dtype(spec.dtype)
        self._device = _place(spec.device)
        self._vocabulary = spec.vocabulary(
            lambda dtype: self.vocabulary(tf.as_dtype(dtype)), native=computing_low
        )
        self._network = spec.network(self._vocabulary)
        self._infer = self._compiled(self._forward)
        self._train = self._compiled(self._update)
        self._differentiate = self._compiled(self._backward)
        self._params: dict[str, tf.Variable] = {}
        self._scaling: dict[str, tf.Variable] = {}  # of the loss; empty where there is none
        self._output_dtype = ""

    def _compiled(self, function: Callable[..., Any]) -> Any:
        return tf.function(function, autograph=False, jit_compile=self.jit_compile)

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        if not self._params:
            self._make_variables(params, buffers)
        else:  # TensorFlow would keep the memory of the values that it was made with
            for variables, values in ((self._params, params), (self._buffers, buffers)):
                for name, variable in variables.items():
                    variable.assign(values[name])
        if self._spec.trains:
            with tf.device(self._device):
                self._optimizer.reset()
                self._set_scaling(scale=self._spec.training.scale.initial, good=0, taken=0)
            self._steps = 0

    def _set_scaling(self, **values: Any) -> None:
        for name, variable in self._scaling.items():
            variable.assign(tf.cast(values[name], variable.dtype))

    def _make_variables(
        self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]
    ) -> None:
        """Once, because a trace belongs to its variables: with new ones it would run again."""
        training, recipe = self._spec.trains, self._spec.training
        with tf.device(self._device):
            self._params = {
                name: self._variable(value, trainable=training and recipe.trains(name))
                for name, value in params.items()
            }
            self._buffers = {n: self._variable(v) for n, v in buffers.items()}
            if training:
                self._trained = recipe.trained(self._params)
                self._optimizer = tf_optimizers.Optimizer(recipe, self._trained)
                if self._spec.numbers.scaled:
                    starts = {"scale": 1.0, "good": 0, "taken": 0}
                    self._scaling = {name: tf.Variable(value) for name, value in starts.items()}

    def _variable(self, value: np.ndarray, *, trainable: bool = False) -> tf.Variable:
        return tf.Variable(value, dtype=self._dtype, trainable=trainable)

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        with tf.device(self._device):
            x, y = (trees.over(self._placed, trees.part(batch, name)) for name in ("x", "y"))
        self._signature = [trees.over(tf.TensorSpec.from_tensor, tree) for tree in (x, y)]
        return x, y

    def memory_of(self, batch: Any) -> list[np.ndarray]:
        return [_fetched(tensor) for tree in batch for tensor in trees.leaves(tree)]

    def _placed(self, value: np.ndarray) -> tf.Tensor:
        return tf.constant(value, self._dtype if value.dtype.kind == "f" else None)

    def step(self, batch: Any) -> Any:
        x, y = batch
        if not self._spec.trains:
            return self._infer(x)
        loss = self._train(x, y, *self._rate())
        self._steps += 1
        return loss

    def _rate(self) -> tuple[tf.Tensor, ...]:
        """The learning rate of the next step, unless all steps have the same: that one is part
        of the graph."""
        recipe = self._spec.training
        if recipe.schedule.is_constant:
            return ()
        with tf.device(self._device):
            return (tf.constant(recipe.rate(self._taken() + 1), self._dtype),)

    def _taken(self) -> int:
        """Steps that were done: with loss scaling, only the device knows."""
        return int(self._scaling["taken"]) if self._scaling else self._steps

    def _tensors(self) -> dict[str, tf.Tensor]:
        return {n: tf.convert_to_tensor(v) for n, v in (self._params | self._buffers).items()}

    def _forward(self, x: Tree) -> Tree:
        with tf.device(self._device):
            output = self._network.forward(self._tensors(), x)[0]
        self._output_dtype = trees.dtypes(output, _name)
        return output

    def _update(self, x: Tree, y: Tree, *rate: tf.Tensor) -> tf.Tensor:
        with tf.device(self._device):
            loss, _, gradients, buffers = self._backward(x, y)
            given = rate[0] if rate else self._spec.training.rate(1)
            if self._scaling:
                self._apply_if_finite(gradients, given)
            else:
                self._optimizer.apply(gradients, given)
            for name, value in buffers.items():
                self._buffers[name].assign(value)
        return loss

    def _apply_if_finite(self, gradients: dict[str, tf.Tensor], rate: Any) -> None:
        constants, (scale, good, taken) = self._spec.training.scale, self._scaling.values()
        each = [tf.reduce_all(tf.math.is_finite(g)) for g in gradients.values()]
        finite = tf.reduce_all(tf.stack(each))

        def apply() -> tf.Tensor:
            self._optimizer.apply(gradients, rate)
            return tf.constant(0)

        tf.cond(finite, apply, lambda: tf.constant(0))
        grows = tf.equal(good + 1, constants.interval)
        factor = tf.where(finite, tf.where(grows, constants.growth, 1.0), constants.backoff)
        scale.assign(scale * factor)
        good.assign(tf.where(finite & ~grows, good + 1, 0))
        taken.assign_add(tf.cast(finite, taken.dtype))

    def _backward(self, x: Tree, y: Tree) -> tuple[Any, ...]:
        with tf.device(self._device):
            if self._spec.training.accumulation == 1:
                return self._gradients_of(self._tensors(), x, y)
            return self._accumulated(x, y)

    def _accumulated(self, x: Tree, y: Tree) -> tuple[Any, ...]:
        """A loop in the graph: unrolled, micro-batches would take memory at the same time."""
        recipe, tensors = self._spec.training, self._tensors()
        parts, size = recipe.accumulation, recipe.micro_batch(trees.examples(x))
        xs, ys = tf.nest.map_structure(lambda t: tf.reshape(t, (parts, size, *t.shape[1:])), (x, y))

        def add(i: tf.Tensor, total: Any, buffers: Any, losses: Any, outputs: Any) -> Any:
            part = tf.nest.map_structure(lambda t: t[i], (xs, ys))
            loss, output, gradients, updated = self._gradients_of(tensors | buffers, *part)
            total = {name: value + gradients[name] for name, value in total.items()}
            outputs = trees.over(lambda kept, value: kept.write(i, value), outputs, output)
            return i + 1, total, buffers | updated, losses.write(i, loss), outputs

        zeros = {name: tf.zeros_like(variable) for name, variable in self._trained.items()}
        buffers = {name: tensors[name] for name in self._buffers}
        output = self._network.forward(tensors, trees.over(lambda t: t[:1], x))[0]  # its structure
        kept = trees.over(lambda _: tf.TensorArray(self._dtype, parts), output)
        start = (tf.constant(0), zeros, buffers, tf.TensorArray(self._dtype, parts), kept)
        _, total, buffers, losses, outputs = tf.while_loop(
            lambda i, *_: i < parts, add, start, parallel_iterations=1
        )
        gradients = {name: value / parts for name, value in total.items()}
        output = trees.over(lambda kept: kept.concat(), outputs)
        return tf.reduce_mean(losses.stack()), output, gradients, buffers

    def _gradients_of(self, tensors: dict[str, tf.Tensor], x: Tree, y: Tree) -> tuple[Any, ...]:
        params = {name: tensors[name] for name in self._trained}
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss, output, buffers = self._network.loss(tensors, x, y)
            scaled = loss * self._scaling["scale"] if self._scaling else loss
        self._output_dtype = trees.dtypes(output, _name)
        # by a parameter that the loss does not depend on: zero, not missing
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(scaled, params, unconnected_gradients=zero)
        # that of a table is a list of rows, in which one may be there several times
        gradients = {name: tf.convert_to_tensor(g) for name, g in gradients.items()}
        if self._scaling:
            gradients = {name: g / self._scaling["scale"] for name, g in gradients.items()}
        return loss, output, gradients, buffers

    def wait(self, value: Any) -> None:
        if self._spec.device == "cuda":
            tf.test.experimental.sync_devices()

    def fetch(self, value: Any) -> Tree:
        return trees.over(_fetched, value)

    def gradients(self, batch: Any) -> Gradients:
        loss, output, gradients, _ = self._differentiate(*batch)
        arrays = {name: self.fetch(g) for name, g in gradients.items()}
        return Gradients(self.fetch(loss), self.fetch(output), arrays)

    def state(self) -> State:
        kept = self._params, self._buffers, self._optimizer.averages, self._optimizer.slots
        params, buffers, averages, slots = tf.nest.map_structure(_fetched, kept)
        scaling = {n: np.array(v) for n, v in self._scaling.items() if n != "taken"}
        return State(params, buffers, averages, slots, self._taken(), scaling)

    def resume(self, state: State) -> None:
        self.load(state.params, state.buffers)
        for name, value in state.averages.items():
            self._optimizer.averages[name].assign(value)
        self._optimizer.resume(state.slots, state.steps)
        if state.scaling:
            self._set_scaling(**state.scaling, taken=state.steps)
        self._steps = state.steps

    def save(self, folder: Path) -> None:
        self._checkpoint(tf.Variable(self._steps)).write(str(folder / "checkpoint"))

    def restore(self, folder: Path) -> None:
        steps = tf.Variable(0)
        self._checkpoint(steps).read(str(folder / "checkpoint")).assert_consumed()
        self._steps = int(steps)

    def _checkpoint(self, steps: tf.Variable) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(
            params=self._params,
            buffers=self._buffers,
            optimizer=self._optimizer.variables(),
            scaling=self._scaling,
            steps=steps,
        )

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        with watch("trace"):
            self._concrete(batch)
        return self.step(batch)  # XLA compiles in here, and TensorFlow does not tell how long

    @property
    def _function(self) -> Any:
        return self._train if self._spec.trains else self._infer

    def _concrete(self, batch: Any) -> Any:
        """The graph for such a batch, traced if it is not yet."""
        inputs = (*batch, *self._rate()) if self._spec.trains else batch[:1]
        return self._function.get_concrete_function(*inputs)

    def profile(self, batch: Any, steps: int, folder: Path) -> Path:
        with tf.profiler.experimental.Profile(str(folder)):
            for _ in range(steps):
                self.fetch(self.step(batch))
        return tf_trace.convert(next(folder.glob("**/*.xplane.pb")), folder / "trace.json.gz")

    def facts(self) -> dict[str, Any]:
        device = next(iter(self._params.values())).device
        facts = {
            "parameter_dtypes": sorted({v.dtype.name for v in self._params.values()}),
            "output_dtype": self._output_dtype,
            "policy": results(self._vocabulary),
            "held_bytes": self._held(),
            "device_kind": "cuda" if "GPU" in device else "cpu",
            "device": device,
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "interop_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "compilations": self._function.experimental_get_tracing_count(),
            "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
            "onednn": _onednn(),
            "soft_device_placement": tf.config.get_soft_device_placement(),
            "deterministic_ops": config.is_op_determinism_enabled(),
            "TF_XLA_FLAGS": os.environ.get("TF_XLA_FLAGS"),
        }
        if self.jit_compile:
            # of a graph that must compile, XLA compiles everything or raises
            graph = self._concrete(self._signature).function_def
            facts["compiled_share"] = float(graph.attr["_XlaMustCompile"].b)
        return facts

    def _held(self) -> dict[str, int]:
        kept = _bytes([*self._params.values(), *self._buffers.values()])
        if not self._spec.trains:
            return {"parameter": kept, "gradient": 0, "optimizer": 0}
        own = self._optimizer
        slots = [slot for named in own.slots.values() for slot in named.values()]
        optimizer = _bytes([*slots, *own.averages.values()])
        return {
            "parameter": kept,
            "gradient": _bytes(self._trained.values()),
            "optimizer": optimizer,
        }
