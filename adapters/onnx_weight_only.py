"""Puts integers into an ONNX graph for the weights alone: layers multiply real numbers."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adapters.onnx_integers import Weights, initializer, scales_of

GROUP = 128  # inputs that share a scale of int4, the default of ONNX Runtime's own quantizer
SMALLEST = 16  # group that MatMulNBits takes
FLOAT32 = 1  # the accuracy_level at which MatMulNBits does not quantize what comes in


def weight_only(model: onnx.ModelProto, weights: Weights, bits: int) -> onnx.ModelProto:
    """Weights in integers, which become real numbers before they are multiplied: those of dense
    layers in MatMulNBits, those of convolutions, where 8 bits are asked for, in DequantizeLinear.

    ONNX Runtime's quantizer for MatMulNBits is not used. It has no scale for a whole channel, and
    its symmetric integers reach from -2^(bits-1) to 2^(bits-1)-1: the weight at the far end of a
    group may be one step off."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    layers = {node.name for node in weights.nodes(made)}
    nodes, old = list(made.graph.node), set()
    made.graph.ClearField("node")
    for node in nodes:
        if node.name not in layers or (node.op_type == "Conv" and bits != 8):
            made.graph.node.append(node)
            continue
        old.add(node.input[1])
        weight = numpy_helper.to_array(initializer(made, node.input[1]))
        if node.op_type == "Conv":
            made.graph.node.extend(_dequantized(made, node, weight))
        else:
            made.graph.node.append(_matmul_nbits(made, node, weight, bits))
    used = {name for node in made.graph.node for name in node.input}
    rest = [t for t in made.graph.initializer if t.name not in old or t.name in used]
    made.graph.ClearField("initializer")
    made.graph.initializer.extend(rest)
    return made


def _dequantized(
    model: onnx.ModelProto, node: onnx.NodeProto, w: np.ndarray
) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """The convolution, and what makes its weight (channels, inputs, h, w) of integers."""
    name = node.input[1]
    scale = scales_of(np.abs(w).max(axis=(1, 2, 3), keepdims=True), 127)
    names = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
    _add(model, names[0], np.rint(w / scale).astype(np.int8))
    _add(model, names[1], scale.reshape(-1))
    # without one, ONNX Runtime 1.31 makes up a scalar, which its own kernel refuses
    _add(model, names[2], np.zeros(len(w), np.int8))
    real = f"{node.name}_weight"
    node.input[1] = real
    return helper.make_node("DequantizeLinear", names, [real], real, axis=0), node


def _matmul_nbits(
    model: onnx.ModelProto, node: onnx.NodeProto, w: np.ndarray, bits: int
) -> onnx.NodeProto:
    """The node that takes the place of the dense layer with the weight `w` (K, N). With 8 bits all
    groups of a channel have one scale."""
    k, n = w.shape
    group = min(GROUP, max(SMALLEST, 2 ** math.ceil(math.log2(k))))
    groups = math.ceil(k / group)
    padded = np.zeros((n, groups * group), np.float32)
    padded[:, :k] = w.T
    parts = padded.reshape(n, groups, group)
    largest = np.abs(parts).max(axis=2 if bits == 4 else (1, 2), keepdims=True)
    scale = scales_of(largest, 2 ** (bits - 1) - 1)
    q = (np.rint(parts / scale) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 4:
        q = q[..., 0::2] | q[..., 1::2] << 4
    names = [f"{node.input[1]}_{part}" for part in ("quantized", "scale")]
    _add(model, names[0], q)
    _add(model, names[1], np.broadcast_to(scale[..., 0], (n, groups)).copy())
    bias = ["", "", node.input[2]] if len(node.input) > 2 else []
    return helper.make_node(
        "MatMulNBits", [node.input[0], *names, *bias], node.output, node.name,
        domain="com.microsoft", K=k, N=n, bits=bits, block_size=group, accuracy_level=FLOAT32,
    )  # fmt: skip


def _add(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    if all(tensor.name != name for tensor in model.graph.initializer):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
