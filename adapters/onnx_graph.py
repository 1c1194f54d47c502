"""An ONNX graph in the making: values, nodes, and the weights that nodes use."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adapters.counting import Shaped

OPSET = 21
IR_VERSION = 10  # the oldest that has this opset
INTEGER, BOOLEAN = np.dtype(np.int64), np.dtype(np.bool_)


@dataclass(frozen=True)
class Value(Shaped):
    """A value of the graph. `constant` is what a parameter or a constant holds; `dtype` None is the
    program's floating-point dtype."""

    name: str
    constant: np.ndarray | None = None
    dtype: np.dtype | None = None


class Graph:
    """Appends to `nodes` and `initializers`. A constant becomes an initializer when a node uses
    it, so that the graph carries a weight once, in the layout that its node wants."""

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._numbers = itertools.count()
        self.nodes: list[onnx.NodeProto] = []  # of the graph or the subgraph that is being made
        self.initializers: dict[str, onnx.TensorProto] = {}

    def parameter(self, name: str, value: np.ndarray) -> Value:
        array = np.asarray(value, self._dtype)
        return Value(array.shape, name, array)

    def _fresh(self, name: str) -> str:
        return f"{name}_{next(self._numbers)}"

    def _integers(self, *values: int) -> Value:
        array = np.array(values, INTEGER)
        return Value((len(values),), f"integers{values}", array, INTEGER)

    def _table(self, array: np.ndarray) -> Value:
        """A constant of integers or booleans."""
        return Value(array.shape, self._fresh("table"), array, array.dtype)

    def dtype(self, x: Value) -> np.dtype:
        return self._dtype if x.dtype is None else x.dtype

    def dtype_of(self, x: Value) -> str:
        return str(self.dtype(x).name)

    def cast(self, x: Value, dtype: np.dtype | str) -> Value:
        dtype = np.dtype(dtype)
        if self.dtype(x) == dtype:
            return x
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        return self._node("Cast", [x], x, dtype=dtype, to=kind)

    def result(self, x: Value) -> Value:
        """`x` as a value that a node of this very graph makes, which a graph's output has to be."""
        return self._node("Identity", [x], x)

    def _node(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        like: Shaped,
        *,
        dtype: np.dtype | None = None,
        **attributes: Any,
    ) -> Value:
        """The result of a new node, of the shape of `like` and the dtype of the first input."""
        if dtype is None and inputs[0] is not None:
            dtype = inputs[0].dtype
        return self._nodes(kind, inputs, [like], dtypes=[dtype], **attributes)[0]

    def _nodes(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        likes: Sequence[Shaped],
        *,
        dtypes: Sequence[np.dtype | None],
        **attributes: Any,
    ) -> list[Value]:
        """The results of a new node. An input that is None is left out."""
        label = self._fresh(kind)
        results = [
            Value(like.shape, f"{label}_{i}" if i else label, dtype=dtype)
            for i, (like, dtype) in enumerate(zip(likes, dtypes, strict=True))
        ]
        names = ["" if value is None else self._used(value) for value in inputs]
        while names and not names[-1]:
            names.pop()
        outputs = [result.name for result in results]
        self.nodes.append(helper.make_node(kind, names, outputs, label, **attributes))
        return results

    def _used(self, value: Value) -> str:
        if value.constant is not None and value.name not in self.initializers:
            tensor = numpy_helper.from_array(value.constant, value.name)
            self.initializers[value.name] = tensor
        return value.name

    def _subgraph(
        self, inputs: Sequence[Value], function: Callable[..., Sequence[Value]]
    ) -> tuple[onnx.GraphProto, list[Value]]:
        """The graph of `function`, which may use any value of the graph around it, and what comes
        out of it."""
        outer, self.nodes = self.nodes, []
        try:
            results = [self.result(value) for value in function(*inputs)]
            ends = [[self._info(v) for v in values] for values in (inputs, results)]
            return helper.make_graph(self.nodes, self._fresh("subgraph"), *ends), results
        finally:
            self.nodes = outer

    def _info(self, value: Value) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(self.dtype(value))
        return helper.make_tensor_value_info(value.name, kind, value.shape)

    def graph(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> onnx.ModelProto:
        """The graph from `inputs` to `outputs`, checked."""
        ends = [[self._info(v) for v in values] for values in (inputs, outputs)]
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
