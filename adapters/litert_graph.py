"""A flatbuffer of LiteRT beside the interpreter that runs it: which parameter is the weight of each
contraction, and in what integers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from adapters.base import require
from adapters.quantization import Numbers

try:
    from ai_edge_litert import schema_py_generated as schema
except ImportError:
    from tensorflow.lite.python import schema_py_generated as schema

#: Operation -> which of its inputs may be a weight.
WEIGHT = {
    "FULLY_CONNECTED": 1,
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "CONV_3D": 1,
    "TRANSPOSE_CONV": 1,
    "CONV_3D_TRANSPOSE": 1,
    "BATCH_MATMUL": 1,
}
#: Those that the vocabulary knows as `dense` and `conv2d`.
JUDGED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
LEAST = 0.5  # of the elements of all weights have to be integers
#: How far a weight may be away from the parameter that it was made of, normwise: in int8 with one
#: scale for a tensor of unlike channels it is 0.05, and weights of different layers are at 1.
ALIKE = 0.3
SAMPLE = 64


@dataclass(frozen=True)
class Contraction:
    """An operation of the graph. x, w, bias, y are indices of tensors; bias is -1 where there is
    none. `stored` is the tensor whose bytes are the weight: `w`, or what that is dequantized from
    first."""

    node: int
    kind: str
    x: int
    w: int
    bias: int
    y: int
    stored: int


@dataclass(frozen=True)
class Match:
    """The parameter that a weight was made of."""

    name: str
    turned: bool  # the weight is its transpose
    folded: bool  # its channels were multiplied by something before


class Graph:
    """A flatbuffer, and the interpreter that has its tensors.

    params      name -> float64 array in the layout of the vocabulary
    """

    def __init__(self, content: bytes, interpreter: Any, params: Mapping[str, np.ndarray]) -> None:
        self._subgraph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
        self._interpreter = interpreter
        self._params = {n: p for n, p in params.items() if p.ndim in (2, 4)}
        self.nodes = interpreter._get_ops_details()
        self.tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
        self._given = {d["index"] for d in interpreter.get_input_details()}
        plain = (node for node in self.nodes if node["op_name"] != "DELEGATE")
        self._made = {int(y): node for node in plain for y in node["outputs"]}
        self._matches: dict[int, Match | None] = {}

    def _is_constant(self, tensor: int) -> bool:
        return tensor in self.tensors and tensor not in self._made and tensor not in self._given

    def is_computed(self, tensor: int) -> bool:
        return tensor in self._made

    def constants(self) -> list[dict[str, Any]]:
        """The tensors that inference needs and that are numbers: those with decimals, and integers
        that stand for such."""
        used = {int(i) for node in self.nodes for i in node["inputs"] if i >= 0}
        found = (self.tensors[i] for i in sorted(used) if self._is_constant(i))
        return [t for t in found if is_float(t) or scales_of(t).size]

    @cached_property
    def contractions(self) -> list[Contraction]:
        """Those by a constant, in the order in which they run."""
        return list(self._contractions())

    def _contractions(self) -> Iterator[Contraction]:
        for node in self.nodes:
            kind, inputs = node["op_name"], [int(i) for i in node["inputs"]]
            if kind not in WEIGHT:
                continue
            w = stored = inputs[WEIGHT[kind]]
            before = self._made.get(w)
            if before is not None and before["op_name"] == "DEQUANTIZE":
                stored = int(before["inputs"][0])
            if self._is_constant(stored):
                bias = inputs[2] if len(inputs) > 2 else -1
                y = int(node["outputs"][0])
                yield Contraction(node["index"], kind, inputs[0], w, bias, y, stored)

    @cached_property
    def weights(self) -> dict[int, bool]:
        """Tensor with a weight -> whether every contraction by it multiplies integers."""
        found: dict[int, bool] = {}
        for one in self.contractions:
            integers = one.w == one.stored and not is_float(self.tensors[one.w])
            found[one.stored] = found.get(one.stored, True) and integers
        return found

    def require_integers(self) -> None:
        """Raises Unsupported where less than half of the elements of all weights are integers in
        layers that the vocabulary knows."""
        sizes: dict[bool, int] = {True: 0, False: 0}
        left: dict[str, None] = {}
        for one in {each.stored: each for each in self.contractions}.values():
            known = self.weights[one.stored] and self.match(one) is not None
            sizes[known] += math.prod(self.tensors[one.stored]["shape"])
            if not known:
                left[one.kind] = None
        share = sizes[True] / max(1, sum(sizes.values()))
        require(
            share >= LEAST,
            "TensorFlow's converter made integers of layers with only "
            f"{share:.0%} of the elements of this model's weights: it left some of "
            f"{', '.join(left)} as they are. Where ranges are dynamic, it leaves all tensors of "
            "less than 1024 elements",
        )

    def dtypes(self) -> dict[str, str]:
        """Name of the weight of a dense or conv2d layer -> name of the dtype it is stored in."""
        found = {}
        for one in self.contractions:
            match = self.match(one)
            if match is not None:
                found[match.name] = dtype_of(self.tensors[one.stored])
        return found

    def kernels(self) -> list[str]:
        """The contractions of integers: their operation, the dtypes that go in and out, and whether
        a delegate runs them."""
        found = set()
        for one in self.contractions:
            if self.weights[one.stored]:
                x, w, y = (dtype_of(self.tensors[i]) for i in (one.x, one.w, one.y))
                runner = "XNNPACK" if self.is_delegated(one) else "builtin"
                found.add(f"{runner} {one.kind}({x}, {w}) -> {y}")
        return sorted(found)

    def match(self, one: Contraction) -> Match | None:
        """The parameter that is nearest to a weight, apart from a factor of each channel."""
        if one.stored not in self._matches:
            self._matches[one.stored] = self._nearest(one)
        return self._matches[one.stored]

    def _nearest(self, one: Contraction) -> Match | None:
        if one.kind not in JUDGED:
            return None
        q, numbers = self.weight(one)
        w = q.astype(np.float64) if numbers is None else numbers.real(q)
        least, match = ALIKE, None
        for name, param in self._params.items():
            for turned in (False, True) if one.kind == "FULLY_CONNECTED" else (False,):
                candidate = param.T if turned else param
                if candidate.shape != w.shape:
                    continue
                error = _unlike(w, candidate)
                if error < least:
                    step = 2.0**-23 * np.abs(candidate) if numbers is None else 0.51 * numbers.scale
                    folded = bool((np.abs(w - candidate) > step).any())
                    least, match = error, Match(name, turned, folded)
        return match

    def weight(self, one: Contraction) -> tuple[np.ndarray, Numbers | None]:
        """What is stored, in the layout of the vocabulary, and its numbers; None for floats."""
        w, details = self.value(one.stored), self.tensors[one.stored]
        w = in_vocabulary(w, one.kind)
        if is_float(details):
            return w, None
        scale, zero = scales_of(details), details["quantization_parameters"]["zero_points"]
        if len(zero) == 1:  # one scale, which some kernels repeat for each channel
            scale = np.unique(scale)
        return w, Numbers(scale, np.zeros(1, np.int64) + np.unique(zero), -127, 127)

    def value(self, tensor: int) -> np.ndarray:
        return self._interpreter.get_tensor(tensor)

    def numbers(self, tensor: int) -> Numbers | None:
        """Of an activation; None for floats."""
        details = self.tensors[tensor]
        if is_float(details):
            return None
        info, known = np.iinfo(details["dtype"]), details["quantization_parameters"]
        return Numbers(
            scales_of(details), known["zero_points"].astype(np.int64), info.min, info.max
        )

    def is_delegated(self, one: Contraction) -> bool:
        """Whether a delegate runs it: then the weight goes into that."""
        inside = (node["inputs"] for node in self.nodes if node["op_name"] == "DELEGATE")
        return any(one.w in inputs for inputs in inside)

    def padding(self, one: Contraction) -> tuple[int, int]:
        """(tensor, n): what comes into a contraction before n zeros are put around the image by an
        operation of its own. (x, 0) where there is none."""
        before = self._made.get(one.x)
        if before is None or before["op_name"] != "PAD":
            return one.x, 0
        source, widths = int(before["inputs"][0]), self.value(int(before["inputs"][1]))
        n = int(widths[1, 0])
        if not np.array_equal(widths, [[0, 0], [n, n], [n, n], [0, 0]]):
            return one.x, 0
        return source, n

    def options(self, one: Contraction) -> Any:
        """The attributes of a contraction, as an object of the schema."""
        classes = {
            "FULLY_CONNECTED": schema.FullyConnectedOptions,
            "CONV_2D": schema.Conv2DOptions,
            "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions,
        }
        table = self._subgraph.Operators(one.node).BuiltinOptions()
        options = classes[one.kind]()
        options.Init(table.Bytes, table.Pos)
        return options


def _unlike(w: np.ndarray, wanted: np.ndarray) -> float:
    """How far w is away from `wanted`, normwise, when each channel of that has a factor. Judged by
    about `SAMPLE` rows."""
    rows, others = (a.reshape(-1, a.shape[-1]) for a in (w, wanted))
    step = max(1, len(rows) // SAMPLE)
    rows, others = rows[::step], others[::step]
    power = np.maximum((others**2).sum(axis=0), np.finfo(np.float64).tiny)
    factor = (rows * others).sum(axis=0) / power
    return float(np.linalg.norm(rows - others * factor)) / (float(np.linalg.norm(rows)) or 1.0)


def in_vocabulary(w: np.ndarray, kind: str) -> np.ndarray:
    """A weight of LiteRT as the vocabulary has it: (in, out), (h, w, in / groups, out)."""
    if kind == "FULLY_CONNECTED":
        return w.T
    if kind == "CONV_2D":
        return w.transpose(1, 2, 3, 0)
    if kind == "DEPTHWISE_CONV_2D":
        return w.transpose(1, 2, 0, 3)
    return w


def is_float(tensor: Mapping[str, Any]) -> bool:
    return bool(np.dtype(tensor["dtype"]).kind == "f")


def dtype_of(tensor: Mapping[str, Any]) -> str:
    return str(np.dtype(tensor["dtype"]).name)


def scales_of(tensor: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(tensor["quantization_parameters"]["scales"])
