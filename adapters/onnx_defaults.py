"""ONNX's own defaults in the traps: a single node with the attributes that it has by itself, run
by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from adapters.defaults import Answer, Defaults, Inputs
from adapters.ops import Unsupported

DEFAULTS = Defaults()
OPSET, IR = 23, 11
FORWARD_ONLY = "ONNX Runtime computes no gradients"


def _node(kind: str, *tensors: np.ndarray, outputs: int = 1, **attributes: Any) -> np.ndarray:
    """The last of the first `outputs` results of a node. An empty tensor is an input left out."""
    names = [f"x{i}" if t.size else "" for i, t in enumerate(tensors)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, names, results, **attributes)
    given = {name: t for name, t in zip(names, tensors, strict=True) if name}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(t.dtype), t.shape)
        for n, t in given.items()
    ]
    wanted = [onnx.ValueInfoProto(name=results[-1])]
    graph = helper.make_graph([node], kind, infos, wanted)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
    model = onnx.shape_inference.infer_shapes(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([results[-1]], given)[0]


def _nchw(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def _nhwc(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


@DEFAULTS.of(16, 17, 18, 19, 20, 21, 22, 29)
def slope(inputs: Inputs) -> Answer:
    raise Unsupported(FORWARD_ONLY)


@DEFAULTS.of(2, 3, 4, *range(35, 44))
def training(inputs: Inputs) -> Answer:
    raise Unsupported("ONNX Runtime does not train")


# -- normalisations ------------------------------------------------------------------------------


@DEFAULTS.of(1)
def batch_norm_epsilon(inputs: Inputs) -> Answer:
    statistics = [inputs[name] for name in ("scale", "offset", "mean", "var")]
    y = _node("BatchNormalization", _nchw(inputs["x"]), *statistics)
    return _nhwc(y), "BatchNormalization: epsilon 1e-5"


@DEFAULTS.of(5)
def layer_norm(inputs: Inputs) -> Answer:
    y = _node("LayerNormalization", inputs["x"], inputs["scale"], inputs["offset"])
    return y, "LayerNormalization: epsilon 1e-5"


@DEFAULTS.of(6)
def gelu(inputs: Inputs) -> Answer:
    return _node("Gelu", inputs["x"]), "Gelu: erf"


# -- images --------------------------------------------------------------------------------------


@DEFAULTS.of(7)
def same_padding(inputs: Inputs) -> Answer:
    w = np.transpose(inputs["w"], (3, 2, 0, 1)).copy()
    y = _node("Conv", _nchw(inputs["x"]), w, strides=[2, 2], auto_pad="SAME_UPPER")
    return _nhwc(y), "Conv(SAME_UPPER): (0, 1)"


@DEFAULTS.of(8)
def transposed_convolution(inputs: Inputs) -> Answer:
    w = np.transpose(inputs["w"], (2, 3, 0, 1)).copy()
    y = _node("ConvTranspose", _nchw(inputs["x"]), w, strides=[2, 2], auto_pad="SAME_UPPER")
    return _nhwc(y), "ConvTranspose(SAME_UPPER): kernel not flipped, another crop"


@DEFAULTS.of(9)
def average_pool_border(inputs: Inputs) -> Answer:
    y = _node("AveragePool", _nchw(inputs["x"]), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return _nhwc(y), "AveragePool: count_include_pad 0"


def _resized(inputs: Inputs, size: int, mode: str) -> np.ndarray:
    x, none = _nchw(inputs["x"]), np.array([], np.float32)
    sizes = np.array([*x.shape[:2], size, size])
    return _nhwc(_node("Resize", x, none, none, sizes, mode=mode))


@DEFAULTS.of(10)
def bilinear_down(inputs: Inputs) -> Answer:
    return _resized(inputs, 4, "linear"), "Resize(linear): not antialiased"


@DEFAULTS.of(11)
def bicubic_coefficient(inputs: Inputs) -> Answer:
    return _resized(inputs, 8, "cubic"), "Resize(cubic): cubic_coeff_a -0.75, border repeated"


@DEFAULTS.of(12)
def nearest(inputs: Inputs) -> Answer:
    return _resized(inputs, 3, "nearest"), "Resize(nearest): half_pixel, round_prefer_floor"


@DEFAULTS.of(13)
def resize_dtype(inputs: Inputs) -> Answer:
    return _resized(inputs, 6, "linear"), "Resize: the input's dtype"


# -- elements ------------------------------------------------------------------------------------


@DEFAULTS.of(14)
def leaky_relu_slope(inputs: Inputs) -> Answer:
    return _node("LeakyRelu", inputs["x"]), "LeakyRelu: alpha 0.01"


@DEFAULTS.of(15)
def softplus(inputs: Inputs) -> Answer:
    x = inputs["x"]
    return _node("Softplus", x) - x, "Softplus: no threshold"


@DEFAULTS.of(23)
def argmax_tie(inputs: Inputs) -> Answer:
    return _node("ArgMax", inputs["x"], axis=1, keepdims=0), "ArgMax: select_last_index 0"


@DEFAULTS.of(24)
def gather_out_of_range(inputs: Inputs) -> Answer:
    return _node("Gather", inputs["x"], inputs["indices"]), "Gather"


@DEFAULTS.of(25)
def to_int8(inputs: Inputs) -> Answer:
    return _node("Cast", inputs["x"], to=onnx.TensorProto.INT8), "Cast: wraps"


@DEFAULTS.of(26)
def integer_division(inputs: Inputs) -> Answer:
    return _node("Div", inputs["a"], inputs["b"]), "Div: truncates"


@DEFAULTS.of(28)
def masked_attention(inputs: Inputs) -> Answer:
    q, k, v = (np.swapaxes(inputs[name], 1, 2).copy() for name in "qkv")
    y = _node("Attention", q, k, v, inputs["mask"])
    return np.swapaxes(y, 1, 2), "Attention"


# -- losses --------------------------------------------------------------------------------------


@DEFAULTS.of(30)
def weighted_cross_entropy(inputs: Inputs) -> Answer:
    tensors = [inputs[name] for name in ("logits", "labels", "weights")]
    return _node("SoftmaxCrossEntropyLoss", *tensors), "divided by the sum of weights"


# -- recurrence ----------------------------------------------------------------------------------


def _recurrent(kind: str, inputs: Inputs, second: np.ndarray, *states: str) -> np.ndarray:
    """(N, S, H): the gates in the order in which they are given."""
    w, u = (np.ascontiguousarray(inputs[name].T)[None] for name in "wu")
    b = np.concatenate([inputs["b"], second])[None]
    x = np.swapaxes(inputs["x"], 0, 1).copy()
    initial = [inputs[name][None] for name in states]
    lengths = np.array([], np.int32)
    y = _node(kind, x, w, u, b, lengths, *initial, hidden_size=u.shape[-1])
    return np.swapaxes(y[:, 0], 0, 1)


@DEFAULTS.of(33)
def lstm(inputs: Inputs) -> Answer:
    found = _recurrent("LSTM", inputs, np.zeros_like(inputs["b"]), "h", "c")
    return found, "LSTM: gates i o f c"


@DEFAULTS.of(34)
def gru(inputs: Inputs) -> Answer:
    found = _recurrent("GRU", inputs, inputs["b_recurrent"], "h")
    return found, "GRU: gates z r h, linear_before_reset 0"


# -- conditions ----------------------------------------------------------------------------------


@DEFAULTS.of(44)
def dropout(inputs: Inputs) -> Answer:
    ones, rate, train = np.ones(1000, np.float32), np.float32(0.75), np.array(True)
    return _node("Dropout", ones, np.array(rate), train).max()[None], "Dropout: inverted"


@DEFAULTS.of(45)
def float64(inputs: Inputs) -> Answer:
    return _node("Sub", inputs["x"], np.array(1.0)), "Sub: tensor(double) stays"


@DEFAULTS.of(46)
def tf32(inputs: Inputs) -> Answer:
    raise Unsupported("the CUDA provider's use_tf32 is 1 by default; the CPU has no TF32")


@DEFAULTS.of(49)
def formulas(inputs: Inputs) -> Answer:
    raise Unsupported("ONNX has no such loss; its images are NCHW")
