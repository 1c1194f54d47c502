"""PyTorch's own defaults in the traps: torch.nn, its functions and torch.optim as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim

from adapters.defaults import Answer, Defaults, Inputs

DEFAULTS = Defaults()
#: As they are before an adapter sets anything.
TF32 = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
REDUCED = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction


def _put(inputs: Inputs) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in inputs.items()}


def _fetch(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _nchw(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 3, 1, 2)


def _nhwc(x: torch.Tensor) -> np.ndarray:
    return _fetch(x.permute(0, 2, 3, 1))


def _slope(inputs: Inputs, by: str, function: Callable[..., torch.Tensor]) -> np.ndarray:
    """The gradient of <cotangent, function(tensors)> by one of them."""
    tensors = _put(inputs)
    cotangent = tensors.pop("cotangent")
    tensors[by].requires_grad_()
    function(**tensors).backward(cotangent)
    gradient = tensors[by].grad
    assert gradient is not None
    return _fetch(gradient)


# -- normalisations ------------------------------------------------------------------------------


def _batch_norm(inputs: Inputs, *, train: bool, **arguments: Any) -> tuple[np.ndarray, Any]:
    """(result, module with its running statistics)"""
    t = _put(inputs)
    module = nn.BatchNorm2d(len(t["scale"]), **arguments).train(train)
    module.load_state_dict({
        "weight": t["scale"], "bias": t["offset"], "running_mean": t["mean"],
        "running_var": t["var"], "num_batches_tracked": torch.tensor(0),
    })  # fmt: skip
    return _nhwc(module(_nchw(t["x"]))), module


@DEFAULTS.of(1)
def batch_norm_epsilon(inputs: Inputs) -> Answer:
    value, module = _batch_norm(inputs, train=False)
    return value, f"torch.nn.BatchNorm2d: eps {module.eps:g}"


@DEFAULTS.of(2)
def batch_norm_momentum(inputs: Inputs) -> Answer:
    _, module = _batch_norm(inputs, train=True)
    return _fetch(module.running_mean), f"torch.nn.BatchNorm2d: momentum {module.momentum:g}"


@DEFAULTS.of(3)
def batch_norm_running_variance(inputs: Inputs) -> Answer:
    _, module = _batch_norm(inputs, train=True)
    return _fetch(module.running_var), "torch.nn.BatchNorm2d: unbiased"


@DEFAULTS.of(4)
def batch_norm_returned_variance(inputs: Inputs) -> Answer:
    _, module = _batch_norm(inputs, train=True, momentum=1.0)
    return _fetch(module.running_var), "torch.nn.BatchNorm2d(momentum=1): unbiased"


@DEFAULTS.of(5)
def layer_norm(inputs: Inputs) -> Answer:
    t = _put(inputs)
    module = nn.LayerNorm(t["x"].shape[-1])
    module.load_state_dict({"weight": t["scale"], "bias": t["offset"]})
    return _fetch(module(t["x"])), f"torch.nn.LayerNorm: eps {module.eps:g}; RMSNorm the dtype's"


@DEFAULTS.of(6)
def gelu(inputs: Inputs) -> Answer:
    return _fetch(F.gelu(_put(inputs)["x"])), "torch.nn.functional.gelu: erf"


# -- images --------------------------------------------------------------------------------------


@DEFAULTS.of(7)
def same_padding(inputs: Inputs) -> Answer:
    t = _put(inputs)
    w = t["w"].permute(3, 2, 0, 1)
    return _nhwc(F.conv2d(_nchw(t["x"]), w, stride=2, padding=1)), (
        "torch.nn.functional.conv2d: padding=1 is symmetric, 'same' not allowed with a stride"
    )


@DEFAULTS.of(8)
def transposed_convolution(inputs: Inputs) -> Answer:
    t = _put(inputs)
    w = t["w"].permute(2, 3, 0, 1)
    y = F.conv_transpose2d(_nchw(t["x"]), w, stride=2, padding=1, output_padding=1)
    return _nhwc(y), "torch.nn.functional.conv_transpose2d: kernel not flipped, p1/op1"


@DEFAULTS.of(9)
def average_pool_border(inputs: Inputs) -> Answer:
    y = F.avg_pool2d(_nchw(_put(inputs)["x"]), 3, stride=1, padding=1)
    return _nhwc(y), "torch.nn.functional.avg_pool2d: padding counts"


def _resized(inputs: Inputs, size: int, method: str) -> np.ndarray:
    return _nhwc(F.interpolate(_nchw(_put(inputs)["x"]), (size, size), mode=method))


@DEFAULTS.of(10)
def bilinear_down(inputs: Inputs) -> Answer:
    return _resized(inputs, 4, "bilinear"), "torch.nn.functional.interpolate: not antialiased"


@DEFAULTS.of(11)
def bicubic_coefficient(inputs: Inputs) -> Answer:
    told = "torch.nn.functional.interpolate: coefficient -0.75, border repeated"
    return _resized(inputs, 8, "bicubic"), told


@DEFAULTS.of(12)
def nearest(inputs: Inputs) -> Answer:
    return _resized(inputs, 3, "nearest"), "torch.nn.functional.interpolate: floor(i old / new)"


@DEFAULTS.of(13)
def resize_dtype(inputs: Inputs) -> Answer:
    return _resized(inputs, 6, "bilinear"), "torch.nn.functional.interpolate: the input's dtype"


# -- slopes --------------------------------------------------------------------------------------


@DEFAULTS.of(14)
def leaky_relu_slope(inputs: Inputs) -> Answer:
    return _fetch(F.leaky_relu(_put(inputs)["x"])), "torch.nn.functional.leaky_relu: slope 0.01"


@DEFAULTS.of(15)
def softplus(inputs: Inputs) -> Answer:
    x = _put(inputs)["x"]
    return _fetch(F.softplus(x) - x), "torch.nn.functional.softplus: linear above 20"


@DEFAULTS.of(16)
def maximum_tie(inputs: Inputs) -> Answer:
    return _slope(inputs, "a", lambda a, b: torch.maximum(a, b)), "torch.maximum: half"


@DEFAULTS.of(17)
def max_zero(inputs: Inputs) -> Answer:
    return _slope(inputs, "a", lambda a, b: torch.clamp(a, min=0)), "torch.clamp(min=0): 1"


@DEFAULTS.of(18)
def clip_edge(inputs: Inputs) -> Answer:
    return _slope(inputs, "x", lambda x: torch.clamp(x, -1, 1)), "torch.clamp: 1 at both edges"


@DEFAULTS.of(19)
def absolute_at_zero(inputs: Inputs) -> Answer:
    return _slope(inputs, "x", torch.abs), "torch.abs: 0"


@DEFAULTS.of(20)
def norm_at_zero(inputs: Inputs) -> Answer:
    found = _slope(inputs, "x", lambda x: torch.linalg.vector_norm(x, dim=1))
    return found, "torch.linalg.vector_norm: 0"


@DEFAULTS.of(21)
def max_pool_tie(inputs: Inputs) -> Answer:
    found = _slope(inputs, "x", lambda x: F.max_pool2d(_nchw(x), 2).permute(0, 2, 3, 1))
    return found, "torch.nn.functional.max_pool2d: the first"


@DEFAULTS.of(22)
def median_tie(inputs: Inputs) -> Answer:
    found = _slope(inputs, "x", lambda x: torch.median(x, -1).values)
    return found, "torch.median along an axis: one of them; of a whole tensor: evenly"


@DEFAULTS.of(23)
def argmax_tie(inputs: Inputs) -> Answer:
    return _fetch(torch.argmax(_put(inputs)["x"], 1)), "torch.argmax: the first, on the CPU"


# -- elements ------------------------------------------------------------------------------------


@DEFAULTS.of(24)
def gather_out_of_range(inputs: Inputs) -> Answer:
    t = _put(inputs)
    return _fetch(t["x"].index_select(0, t["indices"])), "torch.index_select"


@DEFAULTS.of(25)
def to_int8(inputs: Inputs) -> Answer:
    return _fetch(_put(inputs)["x"].to(torch.int8)), "Tensor.to(torch.int8): wraps"


@DEFAULTS.of(26)
def integer_division(inputs: Inputs) -> Answer:
    t = _put(inputs)
    return _fetch(t["a"] // t["b"]), "//: rounds down"


@DEFAULTS.of(27)
def variance(inputs: Inputs) -> Answer:
    return _fetch(torch.var(_put(inputs)["x"], dim=1)), "torch.var: n - 1"


@DEFAULTS.of(28)
def masked_attention(inputs: Inputs) -> Answer:
    t = _put(inputs)
    q, k, v = (t[name].transpose(1, 2) for name in "qkv")
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=t["mask"])
    return _fetch(y.transpose(1, 2)), "torch.nn.functional.scaled_dot_product_attention: 0"


@DEFAULTS.of(29)
def embedding_padding(inputs: Inputs) -> Answer:
    found = _slope(inputs, "table", lambda table, ids: F.embedding(ids, table, padding_idx=1))
    return found, "torch.nn.functional.embedding(padding_idx=1): no gradient"


# -- losses --------------------------------------------------------------------------------------


@DEFAULTS.of(30)
def weighted_cross_entropy(inputs: Inputs) -> Answer:
    t = _put(inputs)
    loss = F.cross_entropy(t["logits"], t["labels"], weight=t["weights"])
    return _fetch(loss), "torch.nn.functional.cross_entropy: divided by the sum of weights"


@DEFAULTS.of(31)
def cross_entropy_on_probabilities(inputs: Inputs) -> Answer:
    t = _put(inputs)
    loss = F.binary_cross_entropy(torch.sigmoid(t["logits"]), t["targets"])
    return _fetch(loss), "torch.nn.functional.binary_cross_entropy: logarithm not below -100"


@DEFAULTS.of(32)
def label_smoothing(inputs: Inputs) -> Answer:
    t = _put(inputs)
    loss = F.cross_entropy(t["logits"], t["labels"], label_smoothing=0.125)
    return _fetch(loss), "torch.nn.functional.cross_entropy(label_smoothing): as pinned"


# -- recurrence ----------------------------------------------------------------------------------


def _recurrent(module: nn.Module, t: dict[str, torch.Tensor], second: torch.Tensor) -> nn.Module:
    module.load_state_dict({
        "weight_ih_l0": t["w"].T, "weight_hh_l0": t["u"].T, "bias_ih_l0": t["b"],
        "bias_hh_l0": second,
    })  # fmt: skip
    return module


@DEFAULTS.of(33)
def lstm(inputs: Inputs) -> Answer:
    t = _put(inputs)
    module = nn.LSTM(t["x"].shape[-1], t["h"].shape[-1], batch_first=True)
    y, _ = _recurrent(module, t, torch.zeros_like(t["b"]))(t["x"], (t["h"][None], t["c"][None]))
    return _fetch(y), "torch.nn.LSTM: gates i f g o, a second bias"


@DEFAULTS.of(34)
def gru(inputs: Inputs) -> Answer:
    t = _put(inputs)
    module = nn.GRU(t["x"].shape[-1], t["h"].shape[-1], batch_first=True)
    y, _ = _recurrent(module, t, t["b_recurrent"])(t["x"], t["h"][None])
    return _fetch(y), "torch.nn.GRU: gates r z n, reset after the product"


# -- training ------------------------------------------------------------------------------------


def _updated(
    inputs: Inputs,
    make: Callable[[list[torch.Tensor]], optim.Optimizer],
    prepare: Callable[[torch.Tensor], object] = lambda p: None,
) -> np.ndarray:
    """By how much an optimizer moves the parameter over the given gradients."""
    p = torch.tensor(inputs["p"], requires_grad=True)
    optimizer = make([p])
    for gradient in inputs["gradients"]:
        p.grad = torch.tensor(gradient)
        prepare(p)
        optimizer.step()
    return _fetch(p) - inputs["p"]


@DEFAULTS.of(35, 42)
def adam(inputs: Inputs) -> Answer:
    return _updated(inputs, lambda p: optim.Adam(p)), "torch.optim.Adam: eps 1e-8, lr 1e-3"


@DEFAULTS.of(36)
def adamw(inputs: Inputs) -> Answer:
    return _updated(inputs, lambda p: optim.AdamW(p)), "torch.optim.AdamW: weight decay 0.01"


@DEFAULTS.of(37)
def nadam(inputs: Inputs) -> Answer:
    return _updated(inputs, lambda p: optim.NAdam(p)), "torch.optim.NAdam: mu's product in float32"


@DEFAULTS.of(38)
def rmsprop(inputs: Inputs) -> Answer:
    found = _updated(inputs, lambda p: optim.RMSprop(p, lr=1e-3))
    return found, "torch.optim.RMSprop: alpha 0.99, eps outside of the root"


@DEFAULTS.of(39)
def learning_rate_dtype(inputs: Inputs) -> Answer:
    return _updated(inputs, lambda p: optim.SGD(p, lr=0.05)), "torch.optim.SGD: a Python float"


@DEFAULTS.of(40)
def adagrad_accumulator(inputs: Inputs) -> Answer:
    found = _updated(inputs, lambda p: optim.Adagrad(p))
    return found, "torch.optim.Adagrad: accumulator 0, eps 1e-10"


@DEFAULTS.of(41)
def clip_by_global_norm(inputs: Inputs) -> Answer:
    found = _updated(
        inputs,
        lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
        lambda p: nn.utils.clip_grad_norm_([p], 0.5),
    )
    return found, "torch.nn.utils.clip_grad_norm_: norm + 1e-6"


@DEFAULTS.of(43)
def initialisers(inputs: Inputs) -> Answer:
    torch.manual_seed(0)
    spread = nn.Linear(400, 100).weight.std()
    return _fetch(spread)[None], "torch.nn.Linear: uniform, 1 / sqrt(fan_in); Embedding sigma 1"


# -- conditions ----------------------------------------------------------------------------------


@DEFAULTS.of(44)
def dropout(inputs: Inputs) -> Answer:
    y = F.dropout(torch.ones(1000), p=0.75)
    return _fetch(y.max())[None], "torch.nn.functional.dropout: inverted"


@DEFAULTS.of(45)
def float64(inputs: Inputs) -> Answer:
    return _fetch(torch.from_numpy(inputs["x"]) - 1), "torch.from_numpy: float64 stays"


@DEFAULTS.of(46)
def tf32(inputs: Inputs) -> Answer:
    told = f"on CUDA: matmul.allow_tf32 {TF32[0]}, cudnn.allow_tf32 {TF32[1]}"
    return np.array([11.0 if allowed else 24.0 for allowed in TF32]), told


@DEFAULTS.of(47)
def accumulation(inputs: Inputs) -> Answer:
    a, b = (t.bfloat16() for t in _put(inputs).values())
    told = f"on the CPU; on CUDA allow_bf16_reduced_precision_reduction is {REDUCED}"
    return _fetch((a @ b).float()), told


@DEFAULTS.of(48)
def naming(inputs: Inputs) -> Answer:
    module = nn.Module()
    for name in ("fc10", "fc2"):  # made in another order than they are called in
        module.register_parameter(name, nn.Parameter(torch.tensor(inputs[name])))
    p = dict(module.named_parameters())
    y = torch.tanh(torch.tensor(inputs["x"]) @ p["fc2"]) @ p["fc10"]
    return _fetch(y), "torch.nn.Module: names of attributes"


@DEFAULTS.of(49)
def formulas(inputs: Inputs) -> Answer:
    t = _put(inputs)
    return _fetch(F.mse_loss(t["x"], t["target"])), "torch.nn.functional.mse_loss: mean; NCHW"
