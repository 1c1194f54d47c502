"""Programs of integers in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from adapters import onnx_integers as integers
from adapters import onnx_layers as reading
from adapters.base import Spec, require
from adapters.onnx_graph import Value
from adapters.onnx_ops import OnnxOps
from adapters.onnx_runtime import Program, inputs_of
from adapters.onnx_session import kept, optimized
from adapters.onnx_weight_only import weight_only
from adapters.ops import Array
from adapters.quantization import Layer, Scheme
from adapters.unfused import Unfused

MOST = 0.5  # of the elements of all weights of layers become integers, at least
NO_FLOAT8 = "ONNX Runtime has no CPU kernel that multiplies float8: its GemmFloat8 is for CUDA"
NO_INT16 = (
    "ONNX Runtime has no CPU kernel that multiplies int16: QuantizeLinear and DequantizeLinear "
    "would round to int16, and layers would multiply in float32"
)
NO_CUDA = "this adapter quantizes for ONNX Runtime's CPU provider, whose kernels multiply integers"
LEFT = (
    "{share:.0%} of the elements of this model's weights would become integers, but should at "
    "least {most:.0%}: ONNX Runtime keeps {left} in float32"
)
Found = tuple[onnx.ModelProto, list[tuple[integers.Weight, reading.Found]]]


class Watched(Unfused, OnnxOps):
    """The vocabulary, which remembers the layers whose weight is a parameter: what came into each
    call, by the weight's name. A recurrence is made of dense layers, as nobody sees what comes into
    those inside of DynamicQuantizeLSTM."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype)
        self.calls: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        self.ops: dict[str, str] = {}

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self._note("dense", x, w)
        return super().dense(x, w, b)

    def conv2d(self, x: Array, w: Array, b: Array | None = None, **sizes: int) -> Array:
        self._note("conv2d", x, w)
        return super().conv2d(x, w, b, **sizes)

    def _note(self, op: str, x: Array, w: Array) -> None:
        if w.constant is not None:
            self.ops[w.name] = op
            self.calls[w.name].append(tuple(x.shape))


class Quantized(Program):
    """The graph of the float32 program, with integers."""

    def __init__(self, spec: Spec) -> None:
        scheme = spec.numbers.scheme
        assert scheme is not None
        require(not scheme.floating, NO_FLOAT8)
        require(scheme.activation_bits <= 8, NO_INT16)
        require(spec.device == "cpu", NO_CUDA)
        self._scheme: Scheme = scheme
        super().__init__(spec)
        self._runtime: Any = self._engine

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        super().load(params, buffers)
        self._sizes = {name: value.size for name, value in params.items()}
        self._calibrated: dict[str, Value] | None = None  # inputs of the graph in the file

    def calibrate(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        require(bool(self._scheme.calibration), "this precision has no calibration")
        arrays = [self._arrays(batch) for batch in batches]
        inputs = inputs_of(arrays[0])
        model = integers.static(self._float(inputs), self._weights, self._scheme, arrays)
        # in a file, as ONNX Runtime's tool leaves it: in memory it would be a copy of the weights
        self._folder = tempfile.TemporaryDirectory(prefix="assay-onnx-")
        onnx.save(model, self._file)
        self._calibrated = inputs

    @property
    def _file(self) -> Path:
        return Path(self._folder.name) / "model.onnx"

    def _vocabulary(self) -> Watched:
        self._watched = Watched(self._spec.dtype)
        return self._watched

    def _build(self, inputs: dict[str, Value]) -> onnx.ModelProto:
        scheme = self._scheme
        if scheme.calibration:
            known = self._calibrated or {}
            if known != inputs:
                shapes = [{n: v.shape for n, v in some.items()} for some in (inputs, known)]
                raise ValueError(f"a batch of {shapes[0]}, but calibration was with {shapes[1]}")
            return onnx.load(self._file)
        if scheme.activation_bits:
            return integers.dynamic(self._float(inputs), self._weights)
        return weight_only(self._float(inputs), self._weights, scheme.weight_bits)

    def _float(self, inputs: dict[str, Value]) -> onnx.ModelProto:
        """The graph that integers are put into. Raises Unsupported if too few can be."""
        model = integers.prepared(super()._build(inputs))
        self._calls, ops_by_name = self._watched.calls, self._watched.ops
        del self._watched  # it has the weights in float32
        ops = {name: op for name, op in ops_by_name.items() if name in self._sizes}
        self._weights = integers.Weights(ops)
        self._check(model, ops)
        return model

    def _check(self, model: onnx.ModelProto, ops: Mapping[str, str]) -> None:
        """Refuses a model of which too little would become integers."""
        kinds = ("dense",) if self._scheme.weight_bits == 4 else ("dense", "conv2d")
        weights = (self._weights.find(node.input[1]) for node in self._weights.nodes(model))
        self._taken = {weight.name for weight in weights if weight and weight.op in kinds}
        whole = sum(self._sizes[name] for name in ops)
        share = sum(self._sizes[name] for name in self._taken) / max(1, whole)
        left = ", ".join(sorted({ops[name] for name in set(ops) - self._taken})) or "everything"
        require(share >= MOST, LEFT.format(share=share, most=MOST, left=left))

    def _start(self, inputs: dict[str, Value], model: onnx.ModelProto) -> None:
        super()._start(inputs, model)
        self._read: Found | None = None

    def _found(self) -> Found:
        """The graph as ONNX Runtime runs it, and its layers."""
        if self._read is None:
            model = optimized(self._graph(), self._spec.device, self._runtime.options())
            layers = reading.found(model, self._weights)
            silent = self._taken - {weight.name for weight, _ in layers}
            if silent:
                raise RuntimeError(f"ONNX Runtime computes with {sorted(silent)} in float32")
            self._read = model, layers
        return self._read

    def layers(self, batch: Any) -> list[Layer]:
        outputs = [np.array(value.numpy()) for value in self.step(batch)]
        model, layers = self._found()
        names = {name for _, one in layers for name in (one.x, one.y)}
        feed = {name: value.numpy() for name, value in batch[1].items()}
        values = kept(
            model, sorted(names), feed, device=self._spec.device, options=self._runtime.options()
        )
        for output, result in zip(outputs, model.graph.output, strict=True):
            if not np.array_equal(output, values[result.name], equal_nan=True):
                raise RuntimeError("the graph that keeps its values gives other outputs")
        calls = {name: iter(shapes) for name, shapes in self._calls.items()}
        return [one.layer(weight, values, next(calls[weight.name])) for weight, one in layers]

    def facts(self) -> dict[str, Any]:
        model, layers = self._found()
        tensors = [numpy_helper.to_array(t) for t in model.graph.initializer]
        dtypes = {weight.name: one.dtype for weight, one in layers}
        floats = {t.dtype.name for t in tensors if t.dtype.kind == "f"}
        return {
            **super().facts(),
            "parameter_dtypes": sorted(floats | set(dtypes.values())),
            "held_bytes": {"parameter": sum(t.nbytes for t in tensors)},
            "weight_dtypes": dtypes,
            "integer_kernels": sorted({one.kernel for _, one in layers}),
        }
