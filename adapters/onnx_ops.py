"""The vocabulary in ONNX: operations append nodes to a graph."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adapters.base import require
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
        return _checked(
            helper.make_graph(self.nodes, "model", *ends, list(self.initializers.values()))
        )


def single_node(kind: str, shape: Sequence[int], types: Sequence[int]) -> onnx.ModelProto:
    """The graph of one binary operation; `types` are those of its inputs and of its output."""
    a, b, result = (
        helper.make_tensor_value_info(name, element_type, shape)
        for name, element_type in zip(("a", "b", "result"), types, strict=True)
    )
    node = helper.make_node(kind, ["a", "b"], ["result"])
    return _checked(helper.make_graph([node], kind, [a, b], [result]))


def _checked(graph: onnx.GraphProto) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model
