"""The integer oracle: what layers of integers should give, in NumPy.

Products of integers are added up exactly: in float64, which holds every integer below 2^53. No
kernel is involved that an engine uses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.numpy_reference import NumpyOps
from adapters.ops import Array
from adapters.quantization import Layer, Numbers, Range
from adapters.unfused import Unfused

Tensors = Mapping[str, np.ndarray]
PLAIN = NumpyOps()
#: Name of a dtype -> its significand's bits.
BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
#: Constant of the probabilistic bound of rounding errors (Higham and Mary 2019): with K terms, a
#: sum is off by more than LAMBDA sqrt(K) u sum|terms| once in 1 / (2 exp(-LAMBDA^2 / 2)) = 1490.
LAMBDA = 4.0


def contraction(layer: Layer, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The layer's product of `x` and `w`, without its bias, in float64."""
    if layer.op == "dense":
        return PLAIN.dense(x, w)
    return PLAIN.conv2d(x, w, **layer.attributes)


def terms(layer: Layer) -> int:
    """How many products each result is the sum of."""
    return math.prod(layer.w.shape[:-1])


def numbers_of(layer: Layer, x: np.ndarray) -> Numbers | None:
    """With which numbers the layer quantizes `x`; None: it does not."""
    if isinstance(layer.x_numbers, Range):
        return layer.x_numbers.numbers(x)
    return layer.x_numbers


def incoming(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, Numbers | None]:
    """What the layer multiplies, of an `x` in the form of `Layer.x`: integers and their numbers, or
    real numbers and None."""
    numbers = numbers_of(layer, x)
    if numbers is None:
        return np.asarray(x, np.float64), None
    integers = x.dtype.kind in "iu"
    return (x.astype(np.int64) if integers else numbers.quantized(x)), numbers


@dataclass(frozen=True)
class Result:
    """What a layer should give, as real numbers, before it is quantized again.

    value       float64
    rounding    how far honest rounding of real numbers may lead from it, elementwise
    step        how far it moves when one integer of x is rounded the other way; None where x is
                not quantized
    """

    value: np.ndarray
    rounding: np.ndarray
    step: np.ndarray | None


def expected(layer: Layer, x: np.ndarray) -> Result:
    """What the layer should make of `x`, which is in the form of `Layer.x`."""
    q, numbers = incoming(layer, x)
    bias = 0.0 if layer.bias is None else np.asarray(layer.bias, np.float64)
    roundoff = 2.0 ** -BITS[layer.computed]
    if numbers is None:
        w = layer.w_numbers.real(layer.w)
        total = contraction(layer, q, w)
        size = contraction(layer, np.abs(q), np.abs(w)) + np.abs(bias)
        # of dequantized weights, of the sum, and of the bias
        rounding = roundoff * (2 + LAMBDA * math.sqrt(terms(layer))) * size
        return Result(_finished(layer, total + bias), rounding, None)
    scale, w_scale = _spread(numbers.scale), np.asarray(layer.w_numbers.scale, np.float64)
    x_centred = (q - numbers.zero).astype(np.float64)
    w_centred = (layer.w.astype(np.int64) - layer.w_numbers.zero).astype(np.float64)
    if _by_channel(w_scale, layer.w):
        w_scale = w_scale.reshape(-1)
        total = contraction(layer, x_centred, w_centred) * scale * w_scale
        step = scale * w_scale * np.abs(w_centred).reshape(-1, w_centred.shape[-1]).max(axis=0)
    else:  # a scale for each group of inputs
        total = contraction(layer, x_centred, w_centred * w_scale) * scale
        weights = np.abs(w_centred * w_scale).reshape(-1, w_centred.shape[-1])
        step = scale * weights.max(axis=0)
    # the integers are exact: what is rounded are the product of the scales, that with the sum, the
    # sum as a floating-point number, and the bias
    rounding = 4 * roundoff * (np.abs(total) + np.abs(bias))
    if numbers.high - numbers.low > 2**8:  # sums leave 32 bits, so engines add up real numbers
        size = contraction(layer, np.abs(x_centred), np.abs(w_centred)) * scale
        size = size * (w_scale if _by_channel(w_scale, layer.w) else np.max(w_scale))
        rounding = rounding + roundoff * LAMBDA * math.sqrt(terms(layer)) * size
    return Result(_finished(layer, total + bias), rounding, np.broadcast_to(step, total.shape))


def _finished(layer: Layer, value: np.ndarray) -> np.ndarray:
    return np.maximum(value, 0.0) if layer.relu else value


def _spread(scale: np.ndarray) -> Any:
    """The scale of x for the results: one number, or one per row or example, which keeps its
    place because the axis that is added up has length 1."""
    scale = np.asarray(scale, np.float64)
    return float(scale.reshape(())) if scale.size == 1 else scale


def _by_channel(scale: np.ndarray, w: np.ndarray) -> bool:
    """Whether the scale of a weight depends on nothing but the output channel."""
    return scale.size == 1 or (scale.size == w.shape[-1] and scale.shape[-1:] == w.shape[-1:])


@dataclass
class Seen:
    """What the float64 program did with a weight, call by call."""

    op: str
    weight: np.ndarray  # as the layer had it
    least: float = math.inf  # over all inputs
    most: float = -math.inf
    inputs: list[np.ndarray] = None  # type: ignore[assignment]
    outputs: list[np.ndarray] = None  # type: ignore[assignment]
    normalised: list[np.ndarray] = None  # type: ignore[assignment]  # the outputs, where it was
    factor: np.ndarray | None = None  # by which normalisation multiplies each channel


class Watched(Unfused, NumpyOps):
    """The vocabulary in float64; `seen` tells by the name of a weight what it was used for.

    names       id of a parameter's array -> its name
    """

    def __init__(self, params: Tensors) -> None:
        super().__init__()
        self._names = {id(value): name for name, value in params.items()}
        self.seen: dict[str, Seen] = {}
        self._made: dict[int, Seen] = {}  # id of an output -> what made it

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        return self._watched("dense", x, w, super().dense(x, w, b))

    def conv2d(self, x: Array, w: Array, b: Array | None = None, **sizes: Any) -> Array:
        return self._watched("conv2d", x, w, super().conv2d(x, w, b, **sizes))

    def batch_norm(self, x: Array, scale: Array, offset: Array, mean: Array, var: Array,
                   **settings: Any) -> tuple[Array, Array, Array]:  # fmt: skip
        found = super().batch_norm(x, scale, offset, mean, var, **settings)
        made = self._made.get(id(x))
        if made is not None:
            made.factor = scale / np.sqrt(var + settings["epsilon"])
            made.normalised.append(found[0])
        return found

    def _watched(self, op: str, x: Array, w: Array, y: Array) -> Array:
        name = self._names.get(id(w))
        if name is not None:
            seen = self.seen.setdefault(name, Seen(op, w, inputs=[], outputs=[], normalised=[]))
            seen.least = min(seen.least, float(x.min()))
            seen.most = max(seen.most, float(x.max()))
            seen.inputs.append(x)
            seen.outputs.append(y)
            self._made[id(y)] = seen  # the array is kept by `outputs`, so its id stays its own
        return y


class Chained(Unfused, NumpyOps):
    """The vocabulary in float64 with quantized layers: the whole program as its layers tell it.
    `inputs` are the real numbers that come into each layer, call by call.

    leave       names of weights whose layers are not quantized
    forced      go on behind each layer with what the engine had there, and not with what the oracle
                makes: through many layers one integer that is rounded the other way would make
                others do so, until nothing can be compared
    """

    def __init__(
        self,
        params: Tensors,
        layers: Sequence[Layer],
        *,
        leave: Sequence[str] = (),
        forced: bool = False,
    ) -> None:
        super().__init__()
        self._names = {id(value): name for name, value in params.items()}
        self._layers: dict[str, list[Layer]] = defaultdict(list)
        for layer in layers:
            if layer.weight not in leave:
                self._layers[layer.weight].append(layer)
        self._forced = forced
        self.inputs: dict[str, list[np.ndarray]] = defaultdict(list)
        self._folded: list[np.ndarray] = []  # outputs that are normalised already

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        layer = self._next(x, w)
        return super().dense(x, w, b) if layer is None else self._run(layer, x, b)

    def conv2d(self, x: Array, w: Array, b: Array | None = None, **sizes: Any) -> Array:
        layer = self._next(x, w)
        return super().conv2d(x, w, b, **sizes) if layer is None else self._run(layer, x, b)

    def batch_norm(self, x: Array, scale: Array, offset: Array, mean: Array, var: Array,
                   **settings: Any) -> tuple[Array, Array, Array]:  # fmt: skip
        if any(x is folded for folded in self._folded):
            return x, mean, var
        return super().batch_norm(x, scale, offset, mean, var, **settings)

    def _next(self, x: Array, w: Array) -> Layer | None:
        """The layer of this call: of several with one weight, one after the other. A product with
        zeros, a recurrence's first state, is none where the engine left it out."""
        name = self._names.get(id(w), "")
        calls, done = self._layers.get(name, []), len(self.inputs[name])
        if done == len(calls) or (not x.any() and real_input(calls[done]).any()):
            return None
        return calls[done]

    def _run(self, layer: Layer, x: Array, b: Array | None) -> Array:
        x = np.asarray(x, np.float64)
        self.inputs[layer.weight].append(x)
        if self._forced:
            y = layer.y
        else:
            numbers = numbers_of(layer, x)
            q = x if numbers is None else numbers.quantized(x)
            y = expected(layer, q if numbers is layer.x_numbers else x).value
            if layer.y_numbers is not None:
                y = layer.y_numbers.quantized(y)
        y = y.astype(np.float64) if layer.y_numbers is None else layer.y_numbers.real(y)
        if layer.bias is None and b is not None:
            y = y + b
        if layer.folded:
            self._folded.append(y)
        return y


def real_input(layer: Layer) -> np.ndarray:
    """What came into a layer, as real numbers."""
    if layer.x.dtype.kind in "iu" and isinstance(layer.x_numbers, Numbers):
        return layer.x_numbers.real(layer.x)
    return layer.x.astype(np.float64)
