"""ONNX Runtime, inference only. The operations append nodes to an ONNX graph.

In float64 ONNX Runtime's CPU kernels lack Conv and Erf, so there onnx's reference evaluator runs
the very same graph: it proves what the graph means, and its speed is nobody's business.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from adapters import base
from adapters.base import Gradients, Spec, Unsupported, require
from adapters.counting import CountingOps, Shaped
from adapters.ops import Array, Ops

OPSET = 21
IR_VERSION = 10  # the oldest that has this opset
INFERENCE_ONLY = "ONNX Runtime runs inference only"

NCHW, NHWC = (0, 3, 1, 2), (0, 2, 3, 1)  # as axes of a Transpose
OIHW = (3, 2, 0, 1)


@dataclass(frozen=True)
class Value(Shaped):
    """A value of the graph; `constant` is what a parameter or a constant holds."""

    name: str
    constant: np.ndarray | None = None


class OnnxOps(Ops):
    """Appends to `nodes` and `initializers`. A constant becomes an initializer when a node uses
    it, so that the graph carries a weight once, in the layout that its node wants."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._shapes = CountingOps()
        self._constants = itertools.count()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def parameter(self, name: str, value: np.ndarray) -> Value:
        array = np.asarray(value, self._dtype)
        return Value(array.shape, name, array)

    def _node(
        self, kind: str, inputs: Sequence[Value | None], like: Shaped, **attributes: Any
    ) -> Value:
        """The result, of the shape of `like`, of a new node."""
        result = Value(like.shape, f"{kind}_{len(self.nodes)}")
        names = [self._used(value) for value in inputs if value is not None]
        self.nodes.append(helper.make_node(kind, names, [result.name], result.name, **attributes))
        return result

    def _used(self, value: Value) -> str:
        if value.constant is not None and value.name not in self.initializers:
            tensor = numpy_helper.from_array(value.constant, value.name)
            self.initializers[value.name] = tensor
        return value.name

    def _integers(self, *values: int) -> Value:
        return Value((len(values),), f"integers{values}", np.array(values, np.int64))

    def constant(self, value: np.ndarray) -> Array:
        return self.parameter(f"constant_{next(self._constants)}", value)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        made = self._shapes.reshape(x, shape)
        return self._node("Reshape", [x, self._integers(*made.shape)], made)

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        made = self._shapes.transpose(x, axes)
        if x.constant is not None:
            name = f"{x.name}:{''.join(map(str, axes))}"
            return Value(made.shape, name, np.ascontiguousarray(x.constant.transpose(axes)))
        return self._node("Transpose", [x], made, perm=list(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return self._node("Concat", list(xs), self._shapes.concat(xs, axis=axis), axis=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        made = self._shapes.slice(x, axis=axis, start=start, stop=stop)
        bounds = [self._integers(n) for n in (start, stop, axis)]
        return self._node("Slice", [x, *bounds], made)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        made = self._shapes.broadcast_to(x, shape)
        return self._node("Expand", [x, self._integers(*made.shape)], made)

    def add(self, a: Array, b: Array) -> Array:
        return self._node("Add", [a, b], self._shapes.add(a, b))

    def multiply(self, a: Array, b: Array) -> Array:
        return self._node("Mul", [a, b], self._shapes.multiply(a, b))

    def relu(self, x: Array) -> Array:
        return self._node("Relu", [x], x)

    def gelu(self, x: Array) -> Array:
        # spelled out: ONNX Runtime makes its Gelu of this, and the reference evaluator sees Erf
        root, one, half = (self.constant(np.array(c)) for c in (math.sqrt(2.0), 1.0, 0.5))
        erf = self._node("Erf", [self._node("Div", [x, root], x)], x)
        return self.multiply(self.multiply(x, self.add(erf, one)), half)

    def matmul(self, a: Array, b: Array) -> Array:
        return self._node("MatMul", [a, b], self._shapes.matmul(a, b))

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        made = self._shapes.dense(x, w, b)
        if len(x.shape) == 2:
            return self._node("Gemm", [x, w, b], made)
        y = self._node("MatMul", [x, w], made)
        return y if b is None else self._node("Add", [y, b], made)

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        made = self._shapes.conv2d(x, w, b, stride=stride, padding=padding)
        y = self._node(
            "Conv",
            [self.transpose(x, NCHW), self.transpose(w, OIHW), b],
            self._shapes.transpose(made, NCHW),
            strides=[stride, stride],
            pads=[padding] * 4,
        )
        return self.transpose(y, NHWC)

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        scale = self.constant(np.array(1.0 / math.sqrt(q.shape[-1])))
        q, v = (self.transpose(t, (0, 2, 1, 3)) for t in (q, v))  # (N, heads, S, D)
        scores = self.matmul(self.multiply(q, scale), self.transpose(k, (0, 2, 3, 1)))
        return self.transpose(self.matmul(self.softmax(scores), v), (0, 2, 1, 3))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        axes = self._integers(*([axis] if isinstance(axis, int) else axis))
        return self._node("ReduceMean", [x, axes], self._shapes.mean(x, axis=axis), keepdims=0)

    def softmax(self, x: Array) -> Array:
        return self._node("Softmax", [x], x, axis=-1)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        made = self._shapes.max_pool2d(x, window=window, stride=stride)
        y = self._node(
            "MaxPool",
            [self.transpose(x, NCHW)],
            self._shapes.transpose(made, NCHW),
            kernel_shape=[window, window],
            strides=[stride, stride],
        )
        return self.transpose(y, NHWC)

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        return self._node("LayerNormalization", [x, scale, offset], x, axis=-1, epsilon=epsilon)

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
        require(not train, INFERENCE_ONLY)
        last = len(x.shape) - 1
        channels_first = (0, last, *range(1, last))
        inner = self.transpose(x, channels_first)
        y = self._node(
            "BatchNormalization", [inner, scale, offset, mean, var], inner, epsilon=epsilon
        )
        return self.transpose(y, tuple(np.argsort(channels_first))), mean, var

    def model(self, x: Value, output: Value) -> onnx.ModelProto:
        """The graph from `x` to `output`, checked."""
        kind = helper.np_dtype_to_tensor_dtype(self._dtype)
        ends = [[helper.make_tensor_value_info(v.name, kind, v.shape)] for v in (x, output)]
        graph = helper.make_graph(self.nodes, "model", *ends, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model


class Adapter(base.Adapter):
    framework = "onnxruntime"
    ops = OnnxOps

    def versions(self) -> dict[str, str]:
        return {"onnxruntime": ort.__version__, "onnx": onnx.__version__}

    def is_out_of_memory(self, error: BaseException) -> bool:
        return "Failed to allocate memory" in str(error)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        require(spec.mode == "infer", INFERENCE_ONLY)
        program = Program(spec)
        program.load(params, buffers)
        return program


class Program(base.Program):
    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._engine = (_Reference if spec.dtype == "float64" else _Runtime)(spec)
        self.untimed = self._engine.untimed

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._values = {**params, **buffers}
        self._shape: tuple[int, ...] = ()  # of the batches that there is a graph for
        self._bound: Any = None  # the batch that the next run reads

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        x = np.array(batch["x"], self._spec.dtype, order="C")
        return x.shape, self._engine.put(x)

    def step(self, batch: Any) -> Any:
        """The output. It lies in the same memory in every step."""
        if batch is not self._bound:
            self._bind(batch)
        return self._engine.run()

    def _bind(self, batch: Any) -> None:
        shape, x = batch
        if shape != self._shape:  # shapes in the graph are static
            self._model = self._build(shape)
            self._engine.start(self._model)
            self._shape = shape
        self._engine.bind(x)
        self._bound = batch

    def _build(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        ops = OnnxOps(self._spec.dtype)
        p = {name: ops.parameter(name, value) for name, value in self._values.items()}
        x = Value(shape, "x")
        return ops.model(x, self._spec.network(ops).forward(p, x)[0])

    def wait(self, value: Any) -> None:
        """There is nothing to wait for: a run returns when it is done."""

    def fetch(self, value: Any) -> np.ndarray:
        return self._engine.fetch(value)

    def gradients(self, batch: Any) -> Gradients:
        raise Unsupported(INFERENCE_ONLY)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        raise Unsupported(INFERENCE_ONLY)

    def facts(self) -> dict[str, Any]:
        tensors = self._model.graph.initializer
        dtypes = {helper.tensor_dtype_to_np_dtype(t.data_type) for t in tensors}
        return {
            "parameter_dtypes": sorted(d.name for d in dtypes if d.kind == "f"),
            "opset": self._model.opset_import[0].version,
            "graph_nodes": len(self._model.graph.node),
            **self._engine.facts(),
        }


class _Runtime:
    """ONNX Runtime, with input and output bound to memory on the device."""

    untimed = ""

    def __init__(self, spec: Spec) -> None:
        self._device = spec.device
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[spec.device]
        there = ort.get_available_providers()
        require(provider in there, f"no {provider}: this onnxruntime has {', '.join(there)}")
        # fp32 means float32: no TF32 in matrix products or convolutions
        self._providers = [(provider, {"use_tf32": "0"} if spec.device == "cuda" else {})]
        self._options = ort.SessionOptions()
        self._options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._options.intra_op_num_threads = spec.threads
        self._options.inter_op_num_threads = 1
        self._options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if spec.device == "cuda":  # rather an error than a quiet return to the CPU
            self._options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")

    def put(self, x: np.ndarray) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(x, self._device)

    def start(self, model: onnx.ModelProto) -> None:
        self._session = ort.InferenceSession(
            model.SerializeToString(), self._options, providers=self._providers
        )
        output = self._session.get_outputs()[0]
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(
            output.shape, np.float32, self._device
        )
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_output(output.name, self._output)

    def bind(self, x: ort.OrtValue) -> None:
        self._binding.bind_ortvalue_input("x", x)

    def run(self) -> ort.OrtValue:
        self._session.run_with_iobinding(self._binding)
        return self._output

    def fetch(self, value: ort.OrtValue) -> np.ndarray:
        return np.array(value.numpy())

    def facts(self) -> dict[str, Any]:
        options = self._session.get_session_options()
        return {
            "engine": "onnxruntime",
            "output_dtype": self._output.numpy().dtype.name,
            "device": self._output.device_name(),
            "threads": options.intra_op_num_threads,
            "interop_threads": options.inter_op_num_threads,
            "graph_optimization_level": options.graph_optimization_level.name,
            "providers": self._session.get_providers(),
            "nodes_by_provider": self._nodes_by_provider(),
        }

    def _nodes_by_provider(self) -> dict[str, int] | None:
        """Counted before providers fuse; None where onnxruntime is too old to tell."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return None
        counts: Counter[str] = Counter()
        for part in self._session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
        return dict(counts)


class _Reference:
    """onnx's own evaluator, which has every operation in float64."""

    untimed = "float64 runs in onnx's reference evaluator: ONNX Runtime has no float64 Conv or Erf"

    def __init__(self, spec: Spec) -> None:
        require(spec.device == "cpu", "float64 runs in onnx's reference evaluator, on CPU only")

    def put(self, x: np.ndarray) -> np.ndarray:
        return x

    def start(self, model: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(model, new_ops=[Erf])

    def bind(self, x: np.ndarray) -> None:
        self._x = x

    def run(self) -> np.ndarray:
        (self._output,) = self._evaluator.run(None, {"x": self._x})
        return self._output

    def fetch(self, value: np.ndarray) -> np.ndarray:
        return np.array(value)

    def facts(self) -> dict[str, Any]:
        return {
            "engine": "onnx.reference.ReferenceEvaluator",
            "output_dtype": self._output.dtype.name,
            "device": "cpu",
            "threads": None,  # NumPy's, which nobody sets here
        }


class Erf(OpRun):
    """In place of onnx's own, which rounds erf to float32 whatever its input."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)
