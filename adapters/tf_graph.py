"""TensorFlow graphs: tf.function without XLA."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config
from tensorflow.python.util import _pywrap_util_port

from adapters import base, tf_probes, tf_trace
from adapters.base import Gradients, Probe, Spec, Stopwatch, Unsupported, require
from adapters.tf_ops import TensorflowOps


class Adapter(base.Adapter):
    framework = "tensorflow"
    ops = TensorflowOps
    _device = "cpu"  # of the last build

    def versions(self) -> dict[str, str]:
        return {"tensorflow": tf.__version__}

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, tf.errors.ResourceExhaustedError)

    def program(self, spec: Spec) -> Program:
        """A program without its state; `tf_xla` overrides this."""
        return Program(spec)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        self._configure(spec.device, spec.threads)
        program = self.program(spec)
        program.load(params, buffers)
        return program

    def _configure(self, device: str, threads: int) -> None:
        gpus = tf.config.list_physical_devices("GPU")
        require(device != "cuda" or bool(gpus), "no CUDA device: TensorFlow lists no GPU")
        for gpu in gpus:  # for the CPU too: the runtime, once started, takes no such setting
            tf.config.experimental.set_memory_growth(gpu, True)
        _set_threads(threads)
        # rather an error than a quiet return to the CPU
        tf.config.set_soft_device_placement(False)
        # fp32 means float32: no TF32 in matrix products or convolutions
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._device = device

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
    jit_compile = False  # `tf_xla` sets this

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._dtype = tf.as_dtype(spec.dtype)
        self._device = _place(spec.device)
        self._network = spec.network(TensorflowOps(self._dtype))
        self._infer = self._compiled(self._forward)
        self._train = self._compiled(self._update)
        self._differentiate = self._compiled(self._backward)
        self._params: dict[str, tf.Variable] = {}
        self._output_dtype = ""

    def _compiled(self, function: Callable[..., Any]) -> Any:
        return tf.function(function, autograph=False, jit_compile=self.jit_compile)

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        if not self._params:
            self._make_variables(params, buffers)
        for variables, values in ((self._params, params), (self._buffers, buffers)):
            for name, variable in variables.items():
                variable.assign(values[name])
        for slot in self._slots:
            slot.assign(tf.zeros_like(slot))

    def _make_variables(
        self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]
    ) -> None:
        """Once, because a trace belongs to its variables: with new ones it would run again."""
        training = self._spec.mode == "train"
        moments = {"sgd": 1, "adamw": 2}[self._spec.training.optimizer] if training else 0
        with tf.device(self._device):
            self._params = {n: self._variable(v, trainable=training) for n, v in params.items()}
            self._buffers = {n: self._variable(v) for n, v in buffers.items()}
            self._moments = [
                {n: self._variable(np.zeros_like(v)) for n, v in params.items()}
                for _ in range(moments)
            ]
            self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._slots = [self._steps, *(m for group in self._moments for m in group.values())]

    def _variable(self, value: np.ndarray, *, trainable: bool = False) -> tf.Variable:
        return tf.Variable(value, dtype=self._dtype, trainable=trainable)

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        with tf.device(self._device):
            x, y = tf.constant(batch["x"], self._dtype), tf.constant(batch["y"], tf.int64)
        self._signature = [tf.TensorSpec.from_tensor(t) for t in (x, y)]
        return x, y

    def step(self, batch: Any) -> Any:
        x, y = batch
        if self._spec.mode == "infer":
            return self._infer(x)
        return self._train(x, y)

    def _tensors(self) -> dict[str, tf.Tensor]:
        return {n: tf.convert_to_tensor(v) for n, v in (self._params | self._buffers).items()}

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        with tf.device(self._device):
            output = self._network.forward(self._tensors(), x)[0]
        self._output_dtype = output.dtype.name
        return output

    def _update(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.device(self._device):
            loss, _, gradients, buffers = self._backward(x, y)
            gradients = self._clip(gradients)
            {"sgd": self._sgd, "adamw": self._adamw}[self._spec.training.optimizer](gradients)
            for name, value in buffers.items():
                self._buffers[name].assign(value)
        return loss

    def _backward(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.device(self._device), tf.GradientTape() as tape:
            loss, output, buffers = self._network.loss(self._tensors(), x, y)
        self._output_dtype = output.dtype.name
        return loss, output, tape.gradient(loss, self._params), buffers

    def _clip(self, gradients: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        max_norm = self._spec.training.clip_norm
        if max_norm is None:
            return gradients
        scale = tf.minimum(max_norm / tf.linalg.global_norm(list(gradients.values())), 1.0)
        return {name: g * scale for name, g in gradients.items()}

    def _sgd(self, gradients: dict[str, tf.Tensor]) -> None:
        recipe, (velocity,) = self._spec.training, self._moments
        for name, gradient in gradients.items():
            tf.raw_ops.ResourceApplyMomentum(
                var=self._params[name].handle,
                accum=velocity[name].handle,
                lr=self._number(recipe.learning_rate),
                grad=gradient,
                momentum=self._number(recipe.momentum),
            )

    def _adamw(self, gradients: dict[str, tf.Tensor]) -> None:
        recipe, (first, second) = self._spec.training, self._moments
        correction1, correction2 = self._corrections()
        # With its powers of beta at 0 the kernel does p -= lr * m / (sqrt(v) + epsilon). These
        # two make that the pinned formula, whose epsilon is outside of the corrected root.
        lr = recipe.learning_rate * tf.sqrt(correction2) / correction1
        epsilon = recipe.epsilon * tf.sqrt(correction2)
        decay = recipe.learning_rate * recipe.weight_decay
        beta1, beta2 = (self._number(beta) for beta in recipe.betas)
        for name, gradient in gradients.items():
            variable = self._params[name]
            variable.assign_sub(decay * variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first[name].handle,
                v=second[name].handle,
                beta1_power=self._number(0.0),
                beta2_power=self._number(0.0),
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                epsilon=epsilon,
                grad=gradient,
            )

    def _corrections(self) -> tuple[tf.Tensor, ...]:
        """1 - beta^t of both betas at the step that begins. Beta is taken as rounded to the
        dtype because the kernel computes 1 - beta from that: 1 - 0.999 is off by 1.3e-5 in
        float32, in numerator and denominator alike."""
        t = tf.cast(self._steps.assign_add(1), self._dtype)
        rounded = (float(self._dtype.as_numpy_dtype(beta)) for beta in self._spec.training.betas)
        return tuple(-tf.math.expm1(t * math.log(beta)) for beta in rounded)

    def _number(self, value: float) -> tf.Tensor:
        return tf.constant(value, self._dtype)

    def wait(self, value: Any) -> None:
        if self._spec.device == "cuda":
            tf.test.experimental.sync_devices()

    def fetch(self, value: Any) -> np.ndarray:
        return np.array(value)

    def gradients(self, batch: Any) -> Gradients:
        loss, output, gradients, _ = self._differentiate(*batch)
        arrays = {name: self.fetch(g) for name, g in gradients.items()}
        return Gradients(self.fetch(loss), self.fetch(output), arrays)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return tuple(  # type: ignore[return-value]
            {name: self.fetch(v) for name, v in variables.items()}
            for variables in (self._params, self._buffers)
        )

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        with watch("trace"):
            self._concrete(batch)
        return self.step(batch)  # XLA compiles in here, and TensorFlow does not tell how long

    @property
    def _function(self) -> Any:
        return self._infer if self._spec.mode == "infer" else self._train

    def _concrete(self, batch: Any) -> Any:
        """The graph for such a batch, traced if it is not yet."""
        inputs = batch[:1] if self._spec.mode == "infer" else batch
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
            "device_kind": "cuda" if "GPU" in device else "cpu",
            "device": device,
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "interop_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "compilations": self._function.experimental_get_tracing_count(),
            "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
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
