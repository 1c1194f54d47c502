"""Quantization: what a precision of integers asks for, and what a program tells of its layers.

An integer q of a tensor stands for the real number scale * (q - zero) (Jacob et al. 2018). Weights
are quantized once, activations either with numbers that were found by calibration (static) or with
numbers that each tensor gets when it comes (dynamic), or not at all (weights only). A layer is one
contraction with a weight: `dense` or `conv2d` of the vocabulary, to which `lstm` and `gru` come
down as well.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MIN_MAX, PERCENTILE, ENTROPY = CALIBRATIONS = ("min-max", "percentile", "entropy")


@dataclass(frozen=True)
class Scheme:
    """What is asked of an engine. Weights are symmetric: their zero is 0.

    weight_bits         of weights: 8 or 4
    activation_bits     of what comes into a layer: 8 or 16; 0: it stays floating-point
    calibration         how ranges of activations are found beforehand: one of CALIBRATIONS; empty:
                        they are taken from each tensor when it comes
    per_channel         a scale for each output channel of a weight (int4: for each group of inputs
                        as well), rather than one for all
    symmetric           activations have their zero in the middle: at 0, or at 128 of uint8. Of what
                        is static; dynamic numbers are as the engine takes them, and told
    trained             weights were trained with rounding to these integers in the forward pass
    floating            the bits are those of floating-point numbers: float8_e4m3
    legacy              through an interface that its framework has deprecated
    """

    weight_bits: int
    activation_bits: int = 0
    calibration: str = ""
    per_channel: bool = True
    symmetric: bool = False
    trained: bool = False
    floating: bool = False
    legacy: bool = False


@dataclass(frozen=True)
class Numbers:
    """Which real numbers integers stand for: scale * (q - zero), for q from low to high. Scale and
    zero broadcast against the tensor."""

    scale: np.ndarray
    zero: np.ndarray
    low: int
    high: int

    def quantized(self, x: np.ndarray) -> np.ndarray:
        """The nearest integers, int64, ties to even; what is out of range is at its end."""
        q = np.rint(np.asarray(x, np.float64) / self.scale) + self.zero
        return np.clip(q, self.low, self.high).astype(np.int64)

    def real(self, q: np.ndarray) -> np.ndarray:
        """The real numbers, float64."""
        return np.asarray(self.scale, np.float64) * (np.asarray(q, np.int64) - self.zero)


@dataclass(frozen=True)
class Range:
    """How an engine finds the numbers of a tensor when it comes, from its minimum and maximum over
    `axes` (counted from the end, negative; all of them where None).

    symmetric   scale = max|x| / divisor, and the zero is 0
    otherwise   scale = (max - min) / (high - low) with 0 inside of the range, and the zero is
                low - min / scale, rounded

    A range of nothing but zeros has the scale 1.
    """

    axes: tuple[int, ...] | None
    symmetric: bool
    low: int
    high: int
    divisor: float = 0.0

    def numbers(self, x: np.ndarray) -> Numbers:
        """The numbers for `x`, as an engine finds them in float32."""
        x = np.asarray(x, np.float32)
        if self.symmetric:
            scale = np.abs(x).max(axis=self.axes, keepdims=True) / np.float32(self.divisor)
            return Numbers(_nonzero(scale), np.zeros(1, np.int64), self.low, self.high)
        least = np.minimum(x.min(axis=self.axes, keepdims=True), 0)
        most = np.maximum(x.max(axis=self.axes, keepdims=True), 0)
        scale = _nonzero((most - least) / np.float32(self.high - self.low))
        zero = np.clip(np.rint(self.low - least / scale), self.low, self.high)
        return Numbers(scale, zero.astype(np.int64), self.low, self.high)


@dataclass(frozen=True)
class Layer:
    """One contraction of one step as the engine ran it, in the layouts of the vocabulary.

    weight      name of the parameter, "fc1/w"
    op          "dense" or "conv2d"
    x           what came in, in the form in which the engine has it: real numbers, or integers
                where `x_numbers` are known beforehand and it was integers already
    w           the integers of the weight, as stored
    y           what came out: real numbers, or integers where there are `y_numbers`
    w_numbers   of `w`
    x_numbers   with which x was quantized, or how they were found; None: x is not quantized
    y_numbers   of integers in `y`; None: real numbers came out
    bias        that was added, as real numbers; None: none was, or only after `y`
    attributes  of conv2d: stride, padding, dilation, groups
    relu        whether negative results were set to 0 before `y`
    folded      whether the normalisation that follows the layer is part of `w` and `bias`
    between     whether the engine computes in integers between layers, too: such a program cannot
                be told from its layers alone
    computed    name of the dtype in which real numbers were computed
    """

    weight: str
    op: str
    x: np.ndarray
    w: np.ndarray
    y: np.ndarray
    w_numbers: Numbers
    x_numbers: Numbers | Range | None = None
    y_numbers: Numbers | None = None
    bias: np.ndarray | None = None
    attributes: Mapping[str, int] = field(default_factory=dict)
    relu: bool = False
    folded: bool = False
    between: bool = False
    computed: str = "float32"


PREFIX = "layer"
SEEN = "seen"  # output of a program that was run to see its layers, where it is not the step's
_ARRAYS = ("x", "w", "y", "bias")
_NUMBERS = ("x_numbers", "w_numbers", "y_numbers")


def encode(layers: Sequence[Layer]) -> dict[str, np.ndarray]:
    """Layers as tensors by name, which go through a file."""
    tensors: dict[str, np.ndarray] = {}
    told: list[dict[str, Any]] = []
    for i, layer in enumerate(layers):
        about = {
            "weight": layer.weight, "op": layer.op, "attributes": dict(layer.attributes),
            "relu": layer.relu, "folded": layer.folded, "between": layer.between,
            "computed": layer.computed,
        }  # fmt: skip
        for name in _ARRAYS:
            value = getattr(layer, name)
            if value is not None:
                tensors[f"{PREFIX}:{i}:{name}"] = np.asarray(value)
        for name in _NUMBERS:
            numbers = getattr(layer, name)
            if isinstance(numbers, Numbers):
                tensors[f"{PREFIX}:{i}:{name}:scale"] = np.asarray(numbers.scale)
                tensors[f"{PREFIX}:{i}:{name}:zero"] = np.asarray(numbers.zero)
                about[name] = {"low": numbers.low, "high": numbers.high}
            elif isinstance(numbers, Range):
                about[name] = {"range": dataclasses.asdict(numbers)}
        told.append(about)
    tensors[PREFIX] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    return tensors


def decode(tensors: Mapping[str, np.ndarray]) -> list[Layer]:
    """The layers that `encode` wrote; other tensors are left alone."""
    if PREFIX not in tensors:
        return []
    layers = []
    for i, about in enumerate(json.loads(tensors[PREFIX].tobytes())):
        given: dict[str, Any] = {name: tensors.get(f"{PREFIX}:{i}:{name}") for name in _ARRAYS}
        for name in _NUMBERS:
            known = about.pop(name, None)
            if known is None:
                given[name] = None
            elif "range" in known:
                axes = known["range"]["axes"]
                given[name] = Range(**{**known["range"], "axes": axes and tuple(axes)})
            else:
                scale, zero = (tensors[f"{PREFIX}:{i}:{name}:{part}"] for part in ("scale", "zero"))
                given[name] = Numbers(scale, zero, known["low"], known["high"])
        layers.append(Layer(**about, **given))
    return layers


def _nonzero(scale: np.ndarray) -> np.ndarray:
    return np.where(scale > 0, scale, np.float32(1.0)).astype(np.float32)
