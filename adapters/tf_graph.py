"""TensorFlow graphs: tf.function without XLA."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from adapters import base
from adapters.base import Gradients, Spec, Unsupported, require
from adapters.ops import Array, Ops


class TensorflowOps(Ops):
    """TensorFlow's own layouts are those of the vocabulary: nothing is transposed but heads."""

    def __init__(self, dtype: tf.DType) -> None:
        self._dtype = dtype

    def constant(self, value: np.ndarray) -> Array:
        return tf.constant(value, self._dtype)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return tf.reshape(x, tuple(shape))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return tf.transpose(x, tuple(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return tf.concat(list(xs), axis=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        begin, size = [0] * len(x.shape), list(x.shape)
        begin[axis], size[axis] = start, stop - start
        return tf.slice(x, begin, size)  # the gradient of x[...] is slower

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return tf.broadcast_to(x, tuple(shape))

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def relu(self, x: Array) -> Array:
        return tf.nn.relu(x)

    def gelu(self, x: Array) -> Array:
        # tf.nn.gelu rounds sqrt(2) to float32 even in float64: an error of 9e-10
        return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))

    def matmul(self, a: Array, b: Array) -> Array:
        return tf.matmul(a, b)

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        # rows first: the gradient of a broadcast matmul is slower
        y = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), w)
        y = y if b is None else tf.nn.bias_add(y, b)
        return tf.reshape(y, (*x.shape[:-1], w.shape[-1]))

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        y = tf.nn.conv2d(x, w, stride, _pads(w, stride=stride, padding=padding))
        return y if b is None else tf.nn.bias_add(y, b)

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        q, k, v = (tf.transpose(t, (0, 2, 1, 3)) for t in (q, k, v))  # (N, heads, S, D)
        q = q * (1.0 / math.sqrt(q.shape[-1]))
        weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))  # (N, heads, S, S)
        return tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return tf.reduce_mean(x, axis=axis)

    def softmax(self, x: Array) -> Array:
        return tf.nn.softmax(x)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        return tf.nn.max_pool2d(x, window, stride, "VALID")

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        var = tf.reduce_mean(centred * centred, -1, keepdims=True)
        return centred * tf.math.rsqrt(var + epsilon) * scale + offset

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
        if self._dtype == tf.float32 and len(x.shape) == 4:  # all that the fused kernel takes
            y, new_mean, new_var, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=scale,
                offset=offset,
                mean=mean,
                variance=var,
                epsilon=epsilon,
                exponential_avg_factor=momentum if train else 1.0,
                is_training=train,
            )
            return (y, new_mean, new_var) if train else (y, mean, var)
        if not train:
            return tf.nn.batch_normalization(x, mean, var, offset, scale, epsilon), mean, var
        batch_mean, batch_var = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        y = tf.nn.batch_normalization(x, batch_mean, batch_var, offset, scale, epsilon)
        n = math.prod(x.shape[:-1])
        new_mean = (1 - momentum) * mean + momentum * batch_mean
        new_var = (1 - momentum) * var + momentum * n / (n - 1) * batch_var
        return y, new_mean, new_var

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_mean(losses)


def _pads(w: Array, *, stride: int, padding: int) -> Any:
    """`padding` zeros on all sides, by a name where there is one: those kernels are faster.
    With a stride "SAME" would pad other sides."""
    if padding == 0:
        return "VALID"
    if stride == 1 and tuple(w.shape[:2]) == (2 * padding + 1, 2 * padding + 1):
        return "SAME"
    return [[0, 0], [padding, padding], [padding, padding], [0, 0]]


class Adapter(base.Adapter):
    framework = "tensorflow"
    ops = TensorflowOps

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
        gpus = tf.config.list_physical_devices("GPU")
        require(spec.device != "cuda" or bool(gpus), "no CUDA device: TensorFlow lists no GPU")
        for gpu in gpus:  # for the CPU too: the runtime, once started, takes no such setting
            tf.config.experimental.set_memory_growth(gpu, True)
        _set_threads(spec.threads)
        # fp32 means float32: no TF32 in matrix products or convolutions
        tf.config.experimental.enable_tensor_float_32_execution(False)
        program = self.program(spec)
        program.load(params, buffers)
        return program


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
        self._device = "/GPU:0" if spec.device == "cuda" else "/CPU:0"
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

    def facts(self) -> dict[str, Any]:
        infer = self._spec.mode == "infer"
        step = self._infer if infer else self._train
        # the trace that ran: asking for it by its signature makes no new one
        graph = step.get_concrete_function(*self._signature[: 1 if infer else 2]).function_def
        return {
            "parameter_dtypes": sorted({v.dtype.name for v in self._params.values()}),
            "output_dtype": self._output_dtype,
            "device": next(iter(self._params.values())).device,
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "interop_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "traces": step.experimental_get_tracing_count(),
            # of a graph that must compile, XLA compiles everything or raises
            "xla_must_compile": graph.attr["_XlaMustCompile"].b,
            "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
        }
