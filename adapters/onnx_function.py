"""Single computations as ONNX graphs, in ONNX Runtime or, in float64, in onnx's evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx.shape_inference import InferenceError

from adapters import base
from adapters.base import Body, Setting, Unsupported, require
from adapters.onnx_graph import OPSET, Value
from adapters.onnx_ops import OnnxOps
from adapters.onnx_reference import WHERE, evaluator

#: What onnx's checker says of an operation that the standard does not have in a dtype.
NO_TYPE = "has unsupported type"

Start = Callable[[onnx.ModelProto], Any]  # makes what has `run(None, inputs)` of a graph


class Function(base.Function):
    """There is one graph, and one session, for each combination of the inputs' shapes."""

    def __init__(self, body: Body, setting: Setting, start: Start) -> None:
        """`start` makes a session of ONNX Runtime."""
        self._body, self._setting, self._start = body, setting, start
        self._dtype = np.dtype(setting.dtype)
        if setting.dtype == "float64":
            require(setting.device == "cpu", WHERE)
            self._start = evaluator
        #: The dtype in which numbers come and go: NumPy and ONNX Runtime share no bfloat16.
        self._outer = np.dtype(np.float32) if setting.dtype == "bfloat16" else self._dtype
        self._sessions: dict[Any, tuple[Any, list[str]]] = {}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = {name: self._array(value) for name, value in inputs.items()}
        key = tuple((name, x.shape, x.dtype) for name, x in arrays.items())
        if key not in self._sessions:
            model, names = self._graph(arrays)
            self._sessions[key] = self._start(model), names
        session, names = self._sessions[key]
        return dict(zip(names, map(np.array, session.run(None, arrays)), strict=True))

    def counts(self) -> dict[str, int | None]:
        made = len(self._sessions)
        return {"traces": made, "compilations": made, "graph_breaks": None}

    def _array(self, value: np.ndarray) -> np.ndarray:
        value = np.asarray(value)
        return np.asarray(value, self._outer if value.dtype.kind == "f" else None, order="C")

    def _graph(self, arrays: Mapping[str, np.ndarray]) -> tuple[onnx.ModelProto, list[str]]:
        """The graph, and the names of what comes out, in its order."""
        ops = OnnxOps(self._setting.dtype)
        entries = {name: Value(x.shape, name, dtype=x.dtype) for name, x in arrays.items()}
        tensors = {
            name: ops.cast(value, self._dtype) if value.dtype == self._outer else value
            for name, value in entries.items()
        }
        outputs = self._body(self._setting.noisy(ops), tensors)
        exits = [
            ops.result(ops.cast(v, self._outer) if ops.dtype(v) == self._dtype else v)
            for v in outputs.values()
        ]
        try:
            return ops.graph(list(entries.values()), exits), list(outputs)
        except InferenceError as error:
            if NO_TYPE in str(error):
                raise Unsupported(f"ONNX opset {OPSET}: {error}") from error
            raise
