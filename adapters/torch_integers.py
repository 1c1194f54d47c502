"""Weights of integers in PyTorch: how they are made of float32, and how they are read again.

A weight lies in memory as (outputs, inputs), as in `torch.nn.Linear`, and is made by torchao's
`quantize_` of such a module. `torch.nn.functional.linear` then does what the tensor's class says.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from adapters.base import Unsupported, require
from adapters.quantization import Numbers, Range, Scheme

try:
    from torchao.prototype.quantization.int4.int4_opaque_tensor import Int4OpaqueTensor
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8Tensor,
        Int8WeightOnlyConfig,
        quantize_,
    )
    from torchao.quantization.granularity import PerAxis
    from torchao.quantization.qat import IntxFakeQuantizeConfig, IntxFakeQuantizer
    from torchao.quantization.quant_primitives import (
        MappingType,
        choose_qparams_affine,
        quantize_affine,
    )
except ImportError as error:
    raise Unsupported(f"torchao is not installed, or too old: {error}") from error

LINEAR = "torchao quantizes linear layers only: {share:.0%} of this model's weights are in such"
GROUP = 32  # inputs that share a scale of 4 bits: the fewest that PyTorch's kernel takes
TILE = 16  # it takes outputs by so many
GROUPS = (
    "PyTorch's kernel of 4 bits takes weights whose inputs are a multiple of 32 and whose outputs "
    "are one of 16: {share:.0%} of this model's weights"
)
FLOAT8_CPU = (
    "torchao's float8 asks for CUDA with a compute capability of 8.9, and PyTorch's _scaled_mm on "
    "a CPU is oneDNN's reference implementation, or a product of float32"
)
SHORT = "PyTorch has no kernel that multiplies integers of {} bits by integers of {}"


class Packed:
    """A weight with its bias as PyTorch's deprecated quantized operations pack them."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._packed = torch.ops.quantized.linear_prepack(weight, bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        # what `torch.ao.nn.quantized.dynamic.Linear` does: its observer reduces the range
        return torch.ops.quantized.linear_dynamic(x, self._packed, REDUCED)

    def unpacked(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(weight as a quantized tensor, bias)"""
        return self._packed.unpack()


REDUCED = True  # activations have 7 bits: products of 8 may overflow 16 bits without VNNI
Weight: TypeAlias = Int8Tensor | Int4OpaqueTensor | Packed
CLASSES = (Int8Tensor, Int4OpaqueTensor, Packed)


@dataclass(frozen=True)
class Kind:
    """One way to keep weights and to multiply them.

    quantize    (weight (out, in), its bias or None), float32 -> the weight that is kept
    integers    that weight -> its integers (in, out) and their numbers
    range       how the numbers of what comes in are found inside of a kernel; None: it stays
                float32, or `incoming` tells them
    takes       whether it can keep a weight of (inputs, outputs)
    few         why too few weights are integers, with {share}
    fake        in training: rounds what comes in, and a weight (out, in), straight through
    """

    quantize: Callable[[torch.Tensor, torch.Tensor | None], Weight]
    integers: Callable[[Any], tuple[np.ndarray, Numbers]]
    range: Range | None = None
    takes: Callable[[int, int], bool] = lambda inputs, outputs: True
    few: str = LINEAR
    fake: Callable[[], tuple[nn.Module, nn.Module]] | None = None


def kind_of(scheme: Scheme) -> Kind:
    """The one that follows the scheme. Raises Unsupported."""
    require(not scheme.floating, FLOAT8_CPU)
    require(not scheme.calibration, "this way to keep weights has no calibration")
    require(scheme.per_channel and not scheme.symmetric, "this scheme is for calibration")
    bits = scheme.weight_bits, scheme.activation_bits
    found = KINDS.get((*bits, "trained" * scheme.trained + "legacy" * scheme.legacy))
    if found is None:
        raise Unsupported(SHORT.format(*bits))
    return found


def stored(weight: Weight) -> list[torch.Tensor]:
    """The tensors that make up a weight, that of its integers first."""
    if isinstance(weight, Packed):
        integers, bias = weight.unpacked()
        scales = [integers.q_per_channel_scales(), integers.q_per_channel_zero_points()]
        return [integers.int_repr(), *scales, *([bias] if bias is not None else [])]
    names = [*weight.tensor_data_names, *weight.optional_tensor_data_names]
    return [part for name in names if (part := getattr(weight, name)) is not None]


def incoming(x: torch.Tensor, weight: Weight) -> tuple[torch.Tensor, ...]:
    """What `torch.nn.functional.linear` multiplies: `x`, or its integers, their scale and zero. As
    real numbers `x` would not tell them: a row's largest value is 127.5 scales, in the middle of
    two integers, and torchao multiplies it by the reciprocal of the scale, rounded."""
    how = getattr(weight, "act_quant_kwargs", None)
    if how is None:
        return (x,)
    q = Int8Tensor.from_hp(x, how.granularity, mapping_type=how.mapping_type)
    return q.qdata, q.scale, q.zero_point


# -- torchao's 8 bits ----------------------------------------------------------------------------


def _by(config: Any) -> Callable[[torch.Tensor, torch.Tensor | None], Weight]:
    def quantize(weight: torch.Tensor, bias: torch.Tensor | None) -> Weight:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        module.weight = nn.Parameter(weight, requires_grad=False)
        quantize_(module, config)
        return module.weight.data

    return quantize


def _integers(weight: Int8Tensor) -> tuple[np.ndarray, Numbers]:
    outputs = len(weight.qdata)
    scale = weight.scale.reshape(outputs).numpy()  # raises where there is another number of them
    zero = weight.zero_point.reshape(outputs).numpy().astype(np.int64)
    return weight.qdata.t().numpy(), Numbers(scale, zero, -128, 127)


def _fake() -> tuple[nn.Module, nn.Module]:
    """torchao's, which for activations of 8 bits per row know numbers with a zero only."""
    return (
        IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)),
        IntxFakeQuantizer(IntxFakeQuantizeConfig(torch.int8, PerAxis(0))),
    )


# -- 4 bits --------------------------------------------------------------------------------------


def _four_bits(weight: torch.Tensor, bias: torch.Tensor | None) -> Weight:
    """With torchao's tensor for PyTorch's kernel. That has its own, asymmetric numbers; those here
    are symmetric, as the scheme asks for: of q from 0 to 15 the kernel makes scale (q - 8)."""
    outputs, inputs = weight.shape
    block = [1, GROUP]
    scale, zero = choose_qparams_affine(
        weight, MappingType.SYMMETRIC, block, torch.int8, -8, 7, scale_dtype=torch.float32
    )
    q = quantize_affine(weight, block, scale, zero, torch.int8, -8, 7).int() + 8
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 1)
    scale = scale.reshape(outputs, inputs // GROUP).t().contiguous()  # (groups, out)
    scale_and_zero = torch.stack([scale, torch.zeros_like(scale)], dim=-1)
    return Int4OpaqueTensor(packed, scale_and_zero, block, weight.shape)


def _four_bits_read(weight: Int4OpaqueTensor) -> tuple[np.ndarray, Numbers]:
    """Two integers are in a byte, in an order of the kernel's own. It tells them as the product
    with the unit matrix."""
    scale, zero = weight.scale_and_zero.unbind(-1)  # (groups, out)
    require(not zero.any().item(), "weights of 4 bits have zeros, but should be symmetric")
    scale = scale.repeat_interleave(weight.block_size[1], dim=0).numpy()  # (in, out)
    w = F.linear(torch.eye(weight.shape[1]), weight).numpy()  # (in, out)
    return np.rint(w / scale).astype(np.int8), Numbers(scale, np.zeros(1, np.int64), -8, 7)


# -- PyTorch's deprecated operations ---------------------------------------------------------------


def _packed(weight: torch.Tensor, bias: torch.Tensor | None) -> Weight:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they say that they are deprecated
        from torch.ao.quantization import PerChannelMinMaxObserver

        observer = PerChannelMinMaxObserver(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
        observer(weight)
        scale, zero = observer.calculate_qparams()
        q = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
        return Packed(q, bias)


def _unpacked(weight: Packed) -> tuple[np.ndarray, Numbers]:
    q, _ = weight.unpacked()
    scale, zero = q.q_per_channel_scales().numpy(), q.q_per_channel_zero_points().numpy()
    return q.int_repr().t().numpy(), Numbers(scale, zero, -128, 127)


_DYNAMIC = Int8DynamicActivationInt8WeightConfig
#: (bits of weights, of activations, how) -> kind
KINDS = {
    (8, 0, ""): Kind(_by(Int8WeightOnlyConfig(set_inductor_config=False)), _integers),
    (8, 8, ""): Kind(_by(_DYNAMIC(set_inductor_config=False)), _integers),
    (8, 8, "trained"): Kind(
        _by(_DYNAMIC(act_mapping_type=MappingType.ASYMMETRIC, set_inductor_config=False)),
        _integers,
        fake=_fake,
    ),
    (8, 8, "legacy"): Kind(
        _packed, _unpacked, Range(None, symmetric=False, low=0, high=127 if REDUCED else 255)
    ),
    (4, 0, ""): Kind(
        _four_bits,
        _four_bits_read,
        takes=lambda inputs, outputs: inputs % GROUP == 0 and outputs % TILE == 0,
        few=GROUPS,
    ),
}
