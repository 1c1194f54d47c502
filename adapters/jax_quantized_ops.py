"""JAX with layers of integers: qwix's arrays, products and convolutions inside the vocabulary.

Weights are quantized once, by `qwix.quantize`, and live on the device as `qwix.QArray`, integers
and their scales. What comes into a layer is quantized by `qwix.quantize`, too, and the product is
`qwix.dot_general` or `qwix.conv_general_dilated`: they multiply and add up integers where both
sides are such, and otherwise dequantize and multiply in floating point.

    dynamic         one symmetric scale per row, in convolutions per example: qwix's own granularity
    static          one range per layer, in qwix's notation "fixed,<min>,<max>": the least and the
                    largest number that came in while the float32 program ran on the batches
    weights only    8 bits: a scale per output channel. 4 bits: per output channel and group of
                    inputs, the largest divisor of their number up to GROUP
    trained         in the forward pass weights and inputs are what dynamic quantization makes of
                    them, as floating-point numbers; backwards, rounding is skipped
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from qwix import QArray

from adapters.jax_ops import JaxOps
from adapters.ops import Array
from adapters.quantization import Layer, Numbers, Scheme
from adapters.unfused import Unfused

GROUP = 128  # inputs that share a scale in 4 bits, at most
#: How inputs get symmetric numbers when they come, as qwix does by default: the largest magnitude
#: is 127.5 steps. Where it is negative that is a tie between -127 and -128, in every row, and the
#: last bit of the scale decides: so what became of it is read back, not worked out again.
ABSMAX = "absmax"
LAYOUTS = ("NHWC", "HWIO", "NHWC")
ROWS = (((1,), (0,)), ((), ()))  # of a product of two matrices


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True)
class Weight:
    """The weight of a layer. `calibration` is how what comes into the layer is quantized, in qwix's
    notation; empty: it is not."""

    value: Any  # a QArray, or floating-point numbers that are about to be rounded
    name: str = field(metadata={"static": True})
    calibration: str = field(default="", metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)


class WeightOps(Unfused, JaxOps):
    """The vocabulary in which the weight of a dense layer or convolution may be a `Weight`."""

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        if not isinstance(w, Weight):
            return JaxOps.dense(self, x, w, b)
        y = self._product(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])
        self._ran("dense", x, w, y, {})
        return y if b is None else y + b

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> Array:
        sizes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        if not isinstance(w, Weight):
            return JaxOps.conv2d(self, x, w, b, **sizes)
        y = self._convolution(x, w, sizes)
        self._ran("conv2d", x, w, y, sizes)
        return y if b is None else y + b

    def _product(self, x: Array, w: Weight) -> Array:
        raise NotImplementedError

    def _convolution(self, x: Array, w: Weight, sizes: Mapping[str, int]) -> Array:
        raise NotImplementedError

    def _ran(self, op: str, x: Array, w: Weight, y: Array, attributes: Mapping[str, int]) -> None:
        """Is told of every layer: (..., inputs) came in, and (..., outputs) out, without bias."""


class QuantizedOps(WeightOps):
    """Layers in integers. `kept` collects what they do where it is a list."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype)
        self.kept: list[tuple[Kept, dict[str, Array]]] | None = None
        self._x: Array = None

    def _product(self, x: Array, w: Weight) -> Array:
        self._x = incoming(x, w)
        return qwix.dot_general(self._x, w.value, ROWS)

    def _convolution(self, x: Array, w: Weight, sizes: Mapping[str, int]) -> Array:
        self._x = incoming(x, w)
        around = (sizes["padding"], sizes["padding"])
        return qwix.conv_general_dilated(
            self._x,
            w.value,
            window_strides=(sizes["stride"],) * 2,
            padding=(around, around),
            rhs_dilation=(sizes["dilation"],) * 2,
            dimension_numbers=LAYOUTS,
            feature_group_count=sizes["groups"],
        )

    def _ran(self, op: str, x: Array, w: Weight, y: Array, attributes: Mapping[str, int]) -> None:
        if self.kept is None:
            return
        tensors = {"x": x, "y": y}
        if isinstance(self._x, QArray):
            tensors |= {"x": self._x.qvalue.reshape(x.shape), "scale": self._x.scale}
            if self._x.zero_point is not None:
                tensors["zero"] = self._x.zero_point
        self.kept.append((Kept(op, w.name, w.calibration, attributes), tensors))


@dataclass(frozen=True)
class Kept:
    """What is known of a layer when it is traced."""

    op: str
    weight: str
    calibration: str
    attributes: Mapping[str, int]


class RoundingOps(WeightOps):
    """Layers over what dynamic quantization makes of weights and inputs."""

    def _product(self, x: Array, w: Weight) -> Array:
        return JaxOps.dense(self, rounded(x, 0, ABSMAX), rounded(w.value, 1, "absmax"))

    def _convolution(self, x: Array, w: Weight, sizes: Mapping[str, int]) -> Array:
        x, value = rounded(x, 0, ABSMAX), rounded(w.value, 3, "absmax")
        return JaxOps.conv2d(self, x, value, **sizes)


class RangeOps(WeightOps):
    """Layers in floating point, of which `ranges` has the least and the largest number that came
    in, by weight."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype)
        self.ranges: dict[str, tuple[Array, Array]] = {}

    def _product(self, x: Array, w: Weight) -> Array:
        return JaxOps.dense(self, x, w.value)

    def _convolution(self, x: Array, w: Weight, sizes: Mapping[str, int]) -> Array:
        return JaxOps.conv2d(self, x, w.value, **sizes)

    def _ran(self, op: str, x: Array, w: Weight, y: Array, attributes: Mapping[str, int]) -> None:
        low, high = self.ranges.get(w.name, (jnp.inf, -jnp.inf))
        self.ranges[w.name] = jnp.minimum(low, x.min()), jnp.maximum(high, x.max())


def incoming(x: Array, w: Weight) -> Any:
    """What a layer multiplies: a QArray, or `x` itself where only weights are quantized."""
    if not w.calibration:
        return x
    if is_static(w):
        return qwix.quantize(x, jnp.int8, calibration_method=w.calibration)
    return qwix.quantize(x, jnp.int8, channelwise_axes=(0,), calibration_method=w.calibration)


def is_static(w: Weight) -> bool:
    return w.calibration.startswith("fixed")


def quantized(w: Array, scheme: Scheme) -> QArray:
    """A weight (..., inputs, outputs) in the integers of the scheme."""
    last = w.ndim - 1
    if scheme.weight_bits == 4:
        tiles = {last - 1: _group(w.shape[-2])}
        return qwix.quantize(w, jnp.int4, channelwise_axes=(last,), tiled_axes=tiles)
    return qwix.quantize(w, jnp.int8, channelwise_axes=(last,) if scheme.per_channel else ())


def _group(inputs: int) -> int:
    return max(n for n in range(1, GROUP + 1) if inputs % n == 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def rounded(x: Array, axis: int, way: str) -> Array:
    """`x` as 8 bits have it, as floating-point numbers, with a scale for each element of `axis`,
    found in this `way`. Its derivative is 1, what Bengio et al. (2013) call the straight-through
    estimator."""
    return qwix.dequantize(
        qwix.quantize(x, jnp.int8, channelwise_axes=(axis,), calibration_method=way)
    )


rounded.defvjp(lambda x, axis, way: (rounded(x, axis, way), None), lambda axis, way, _, g: (g,))


def layer(told: Kept, tensors: Mapping[str, np.ndarray], weight: Weight) -> Layer:
    q = weight.value
    return Layer(
        weight=told.weight,
        op=told.op,
        x=tensors["x"],
        w=np.asarray(q.qvalue).astype(np.int8),  # NumPy's own dtype also for 4 bits
        y=tensors["y"],
        w_numbers=_numbers(q),
        x_numbers=_input_numbers(told, tensors),
        attributes=told.attributes,
    )


def _numbers(q: QArray) -> Numbers:
    """Of a weight; scales of groups of inputs are repeated, so that they broadcast."""
    scale = np.asarray(q.scale)
    for axis, tile in enumerate(q.scale_tile_shape):
        scale = scale if scale.shape[axis] == 1 else np.repeat(scale, tile, axis)
    if all(n == 1 for n in scale.shape[:-1]):
        scale = scale.reshape(-1)  # (outputs,), or one for all
    info = jnp.iinfo(q.qvalue.dtype)
    return Numbers(scale, np.zeros(1, np.int64), int(info.min), int(info.max))


def _input_numbers(told: Kept, tensors: Mapping[str, np.ndarray]) -> Numbers | None:
    if "scale" not in tensors:
        return None
    scale, zero = tensors["scale"], tensors.get("zero", np.zeros(1))
    if scale.size == 1:
        scale = scale.reshape(-1)
    elif told.op == "dense":  # one for each row, of which qwix got a matrix
        scale = scale.reshape(*tensors["x"].shape[:-1], 1)
    return Numbers(scale, zero.astype(np.int64).reshape(-1), -128, 127)
