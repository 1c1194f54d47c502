"""Reads quantized layers from a graph as ONNX Runtime optimized it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adapters.onnx_integers import Weight, Weights
from adapters.quantization import Layer, Numbers, Range

HWIO = (2, 3, 1, 0)  # of OIHW, as axes
#: DynamicQuantizeLinear, of the standard: from the whole tensor's minimum and maximum.
DYNAMIC = Range(axes=None, symmetric=False, low=0, high=255)


class Graph:
    """A graph whose nodes are looked up by the values between them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.maker = {output: node for node in self.nodes for output in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.users[name].append(node)

    def only_user(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that uses a value, where there is one such, and it is of this kind."""
        users = self.users[name]
        return users[0] if len(users) == 1 and users[0].op_type == kind else None

    def numbers(self, scale: str, zero: str) -> Numbers:
        """Those of a tensor, from two constants, of which the second has the integers' dtype."""
        zeros = self.constants[zero]
        ends = np.iinfo(zeros.dtype)
        return Numbers(self.constants[scale], zeros.astype(np.int64), int(ends.min), int(ends.max))


@dataclass(frozen=True)
class Found:
    """A layer in a graph: constants as they are there, and the names of values.

    kernel  the node's kind
    w       integers, in the vocabulary's layout; `dtype` is that in which they are stored
    first   whether channels come first in `x` and `y`
    bias    real numbers
    """

    kernel: str
    x: str
    y: str
    w: np.ndarray
    dtype: str
    w_numbers: Numbers
    x_numbers: Numbers | Range | None = None
    y_numbers: Numbers | None = None
    bias: np.ndarray | None = None
    first: bool = False
    relu: bool = False
    attributes: Mapping[str, int] = field(default_factory=dict)

    def layer(
        self, weight: Weight, values: Mapping[str, np.ndarray], shape: Sequence[int]
    ) -> Layer:
        """The layer as it ran, with `values` by name; into the vocabulary's came `shape`."""
        x, y = values[self.x], values[self.y]
        if self.first:
            x, y = (t.transpose(0, 2, 3, 1) for t in (x, y))
        if weight.op == "dense":  # the graph may have one row after the other
            x, y = x.reshape(shape), y.reshape(*shape[:-1], y.shape[-1])
        return Layer(
            weight.name, weight.op, x, self.w, y, self.w_numbers, self.x_numbers, self.y_numbers,
            self.bias, self.attributes, self.relu, weight.folded,
        )  # fmt: skip


def found(model: onnx.ModelProto, weights: Weights) -> list[tuple[Weight, Found]]:
    """The layers of an optimized graph that multiply integers or dequantize their weights."""
    graph = Graph(model)
    layers = []
    for node in graph.nodes:
        at = READERS.get(node.op_type)
        if at is None:
            continue
        place, read = at
        name = node.input[place]
        maker = graph.maker.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            name = maker.input[0]
        if name not in graph.constants or graph.constants[name].dtype.kind == "f":
            continue  # a float32 layer
        weight = weights.find(name)
        if weight is not None:
            layers.append((weight, read(graph, node)))
    return layers


# -- one reader for each kind of node --------------------------------------------------------------


def _dense(graph: Graph, name: str, scale: str, zero: str) -> dict[str, Any]:
    """What is known of a weight (K, N)."""
    w = graph.constants[name]
    return {"w": w, "dtype": w.dtype.name, "w_numbers": graph.numbers(scale, zero)}


def _convolution(graph: Graph, name: str, scale: np.ndarray, zero: np.ndarray) -> dict[str, Any]:
    """What is known of a weight (channels, inputs, h, w)."""
    w = graph.constants[name]
    ends = np.iinfo(w.dtype)
    flat = scale.reshape(-1), zero.reshape(-1).astype(np.int64)
    numbers = Numbers(*flat, int(ends.min), int(ends.max))
    return {"w": w.transpose(HWIO), "dtype": w.dtype.name, "w_numbers": numbers}


def _sizes(node: onnx.NodeProto) -> dict[str, int]:
    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {
        "stride": told["strides"][0], "padding": told["pads"][0],
        "dilation": told.get("dilations", [1])[0], "groups": told.get("group", 1),
    }  # fmt: skip


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    values = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return values[0] if values else default


def _sum_bias(graph: Graph, names: Sequence[str], x: Numbers, w: Numbers) -> np.ndarray | None:
    """A bias of int32, in steps of the products that it is added to, as real numbers."""
    if not names or not names[0]:
        return None
    step = np.asarray(x.scale, np.float64) * np.asarray(w.scale, np.float64)
    return graph.constants[names[0]] * step


def _output(graph: Graph, names: Sequence[str]) -> dict[str, Any]:
    """Of integers that come out; nothing where real numbers do. Where 0 is the least of them, what
    is negative becomes 0."""
    if not names or not names[0]:
        return {}
    numbers = graph.numbers(*names)
    return {"y_numbers": numbers, "relu": bool((numbers.zero == numbers.low).all())}


def _qlinear_conv(graph: Graph, node: onnx.NodeProto) -> Found:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.input
    constants = graph.constants
    known = _convolution(graph, w, constants[w_scale], constants[w_zero])
    numbers = graph.numbers(x_scale, x_zero)
    return Found(
        node.op_type, x, node.output[0], x_numbers=numbers,
        bias=_sum_bias(graph, bias, numbers, known["w_numbers"]),
        first=not _attribute(node, "channels_last", 0), attributes=_sizes(node),
        **known, **_output(graph, [y_scale, y_zero]),
    )  # fmt: skip


def _qgemm(graph: Graph, node: onnx.NodeProto) -> Found:
    x, x_scale, x_zero, w, w_scale, w_zero, *rest = node.input
    known = _dense(graph, w, w_scale, w_zero)
    numbers = graph.numbers(x_scale, x_zero)
    return Found(
        node.op_type, x, node.output[0], x_numbers=numbers,
        bias=_sum_bias(graph, rest[:1], numbers, known["w_numbers"]),
        **known, **_output(graph, rest[1:]),
    )  # fmt: skip


def _qlinear_matmul(graph: Graph, node: onnx.NodeProto) -> Found:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.input
    return Found(
        node.op_type, x, node.output[0], x_numbers=graph.numbers(x_scale, x_zero),
        **_dense(graph, w, w_scale, w_zero), **_output(graph, [y_scale, y_zero]),
    )  # fmt: skip


def _matmul_integer_to_float(graph: Graph, node: onnx.NodeProto) -> Found:
    x, w, x_scale, w_scale, x_zero, w_zero, *bias = node.input
    x, numbers = _incoming(graph, x, x_scale, x_zero)
    return Found(
        node.op_type, x, node.output[0], x_numbers=numbers, bias=_real_bias(graph, bias),
        **_dense(graph, w, w_scale, w_zero),
    )  # fmt: skip


def _incoming(graph: Graph, x: str, scale: str, zero: str) -> tuple[str, Numbers | Range]:
    """What comes in: integers whose numbers are constants, or real numbers that
    DynamicQuantizeLinear makes integers."""
    if scale in graph.constants:
        return x, graph.numbers(scale, zero)
    return graph.maker[scale].input[0], DYNAMIC


def _real_bias(graph: Graph, names: Sequence[str]) -> np.ndarray | None:
    return graph.constants[names[0]].reshape(-1) if names and names[0] else None


def _dynamic_quantize_matmul(graph: Graph, node: onnx.NodeProto) -> Found:
    x, w, w_scale, w_zero, *bias = node.input
    return Found(
        node.op_type, x, node.output[0], x_numbers=DYNAMIC, bias=_real_bias(graph, bias),
        **_dense(graph, w, w_scale, w_zero),
    )  # fmt: skip


def _conv_integer(graph: Graph, node: onnx.NodeProto) -> Found:
    """With the nodes behind it: a cast, the product with the scales, and the sum with the bias."""
    x, w, x_zero, w_zero = node.input
    cast = graph.only_user(node.output[0], "Cast")
    scaled = graph.only_user(cast.output[0], "Mul") if cast else None
    if cast is None or scaled is None:
        raise ValueError(f"behind {node.name} is no Cast with a Mul, but should be")
    (scales,) = (graph.maker[name] for name in scaled.input if name != cast.output[0])
    x_scale, w_scale = scales.input
    incoming, numbers = _incoming(graph, x, x_scale, x_zero)
    y, bias = scaled.output[0], None
    plus = graph.only_user(y, "Add")
    if plus is not None:
        bias = _real_bias(graph, [name for name in plus.input if name in graph.constants])
        y = y if bias is None else plus.output[0]
    return Found(
        node.op_type, incoming, y, x_numbers=numbers, bias=bias, first=True,
        attributes=_sizes(node),
        **_convolution(graph, w, graph.constants[w_scale], graph.constants[w_zero]),
    )  # fmt: skip


def _matmul_nbits(graph: Graph, node: onnx.NodeProto) -> Found:
    """Of the integers, without a zero of their own, the standard one is 2^(bits-1)."""
    x, packed, scale, *rest = node.input
    if any(rest[:2]):
        raise ValueError(f"{node.name} has zeros or an order of its own, but should have neither")
    k, n, bits, group = (_attribute(node, name, 0) for name in ("K", "N", "bits", "block_size"))
    q = graph.constants[packed].reshape(n, -1)
    if bits == 4:
        q = np.stack([q & 15, q >> 4], axis=-1).reshape(n, -1)
    scales = graph.constants[scale].reshape(n, -1)  # (N, groups)
    if (scales == scales[:, :1]).all():
        scales = scales[:, 0]  # one for each channel
    else:
        scales = np.repeat(scales, group, axis=1)[:, :k].T  # (K, N)
    numbers = Numbers(scales, np.array(2 ** (bits - 1)), 0, 2**bits - 1)
    return Found(
        node.op_type, x, node.output[0], q[:, :k].T, f"uint{bits}", numbers,
        bias=_real_bias(graph, rest[2:]),
    )  # fmt: skip


def _conv(graph: Graph, node: onnx.NodeProto) -> Found:
    """A convolution of real numbers whose weight DequantizeLinear makes of integers."""
    x, w, *bias = node.input
    maker = graph.maker[w]
    q, scale, *zero = maker.input
    zeros = graph.constants[zero[0]] if zero and zero[0] else np.zeros(1, np.int64)
    return Found(
        maker.op_type, x, node.output[0], bias=_real_bias(graph, bias), first=True,
        attributes=_sizes(node),
        **_convolution(graph, q, graph.constants[scale], zeros),
    )  # fmt: skip


#: Kind of node -> the place of its weight among the inputs, and what reads it.
READERS: dict[str, tuple[int, Callable[[Graph, onnx.NodeProto], Found]]] = {
    "QLinearConv": (3, _qlinear_conv),
    "QGemm": (3, _qgemm),
    "QLinearMatMul": (3, _qlinear_matmul),
    "MatMulIntegerToFloat": (1, _matmul_integer_to_float),
    "DynamicQuantizeMatMul": (1, _dynamic_quantize_matmul),
    "ConvInteger": (1, _conv_integer),
    "MatMulNBits": (1, _matmul_nbits),
    "Conv": (1, _conv),
}
