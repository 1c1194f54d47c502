"""Programs of JAX with layers of integers, which `adapters.jax_quantized_ops` computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from adapters import jax_hlo, jax_jit, layer_weights
from adapters.base import Spec, require
from adapters.jax_quantized_ops import (
    ABSMAX,
    Kept,
    QuantizedOps,
    RangeOps,
    RoundingOps,
    Weight,
    layer,
    quantized,
)
from adapters.ops import Array, Ops
from adapters.quantization import MIN_MAX, Layer
from adapters.trees import Tree


def maker(spec: Spec) -> Callable[[Spec, jax.Device], jax_jit.Program]:
    """What makes the program for a precision that has a scheme. Raises Unsupported for what qwix or
    XLA cannot do."""
    scheme = spec.numbers.scheme
    assert scheme is not None
    require(not scheme.legacy, "qwix has one interface only, and that one is not deprecated")
    require(
        not scheme.floating,
        "XLA has no product of float8 on the CPU: it converts both sides to float32 first"
        if spec.device == "cpu"
        else "products of float8 are not judged: the oracle is one of integers",
    )
    require(scheme.activation_bits <= 8, "qwix has no integers of more than 8 bits")
    require(
        scheme.calibration in ("", MIN_MAX),
        f"qwix calibrates by absmax, minmax, rms or a fixed range, and not by {scheme.calibration}",
    )
    require(spec.noise is None, "rounding noise is for floating-point programs")
    return Trained if spec.trains else Quantized


class Trained(jax_jit.Program):
    """Training on weights in float32 that are rounded in every forward pass."""

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._layers = layer_weights.of(self._spec, params, buffers)
        super().load(params, buffers)

    def _make_ops(self) -> Ops:
        return RoundingOps(self._spec.dtype)

    def _tensors(self, params: Mapping[str, Any], state: jax_jit.Tensors) -> dict[str, Any]:
        tensors = super()._tensors(params, state)
        return {**tensors, **{name: Weight(tensors[name], name) for name in self._layers}}


class Quantized(jax_jit.Program):
    """Inference with weights that are integers. Where the scheme has a calibration they become so
    in `calibrate`, without which no step runs."""

    _ops: QuantizedOps
    _last: Tree = None  # what the last step was given
    _found: dict[str, int] | None = None  # contractions of the optimized program
    _ready: bool = False

    def __init__(self, spec: Spec, device: jax.Device) -> None:
        super().__init__(spec, device)
        assert spec.numbers.scheme is not None
        self._scheme = spec.numbers.scheme
        self._keeping = jax.jit(self._kept_forward)
        self._told: list[Kept] = []

    def _make_ops(self) -> Ops:
        self._ops = QuantizedOps(self._spec.dtype)
        return self._ops

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._layers = layer_weights.of(self._spec, params, buffers)
        super().load(params, buffers)
        self._found, self._ready = None, False
        if not self._scheme.calibration:
            way = ABSMAX if self._scheme.activation_bits else ""
            self._quantize(dict.fromkeys(self._layers, way))

    def calibrate(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        ranging = jax.jit(self._ranges)
        found = [ranging(self._state, self.put(batch)[0]) for batch in batches]
        lows, highs = (
            {name: [float(ranges[name][end]) for ranges in found] for name in self._layers}
            for end in (0, 1)
        )
        self._quantize({n: self._fixed(min(lows[n]), max(highs[n])) for n in self._layers})

    def _ranges(self, state: jax_jit.Tensors, x: Tree) -> dict[str, tuple[Array, Array]]:
        ops = RangeOps(self._spec.dtype)
        tensors = self._tensors(state.params, state)
        named = {name: Weight(tensors[name], name) for name in self._layers}
        self._spec.network(ops).forward({**tensors, **named}, x)
        return ops.ranges

    def _fixed(self, low: float, high: float) -> str:
        """A range in qwix's notation, with 0 inside."""
        low, high = min(low, 0.0), max(high, 0.0)
        if self._scheme.symmetric or low == -high:
            # any range will do for nothing but zeros
            return f"fixed,{max(high, -low) or 1.0!r}"
        return f"fixed,{low!r},{high!r}"

    def _quantize(self, ways: Mapping[str, str]) -> None:
        """Replaces the weights of layers, whose inputs are quantized in these `ways`."""

        @jax.jit
        def replacement(weights: dict[str, jax.Array]) -> dict[str, Weight]:
            values = {n: quantized(w, self._scheme) for n, w in weights.items()}
            return {n: Weight(value, n, ways[n]) for n, value in values.items()}

        def replaced(tensors: dict[str, Any]) -> dict[str, Any]:
            return {**tensors, **replacement({n: w for n, w in tensors.items() if n in ways})}

        own = self._state
        state = own._replace(params=replaced(own.params), frozen=replaced(own.frozen))
        self._state = jax.device_put(state, self._device)
        self._ready = True

    def _weights(self) -> dict[str, Weight]:
        tensors = {**self._state.params, **self._state.frozen}
        return {name: tensors[name] for name in self._layers}

    def step(self, batch: Any) -> Any:
        if not self._ready:
            raise RuntimeError("weights are float32, but should be integers: calibrate first")
        self._last = batch[0]
        return super().step(batch)

    def layers(self, batch: Any) -> list[Layer]:
        """One step of a program that returns what comes into each layer and out of it as well. It
        is traced from the same functions with the same state; tests see to it that the contractions
        in the optimized HLO are the same. XLA may fuse otherwise what lies between layers where
        there are more results, and round otherwise there: `seen_output` is what came of it."""
        self._seen, kept = self._keeping(self._state, batch[0])
        weights = self._weights()
        return [
            layer(told, {n: np.asarray(t) for n, t in tensors.items()}, weights[told.weight])
            for told, tensors in zip(self._told, kept, strict=True)
        ]

    def seen_output(self) -> Any | None:
        return self.fetch(self._seen)

    def _kept_forward(self, state: jax_jit.Tensors, x: Tree) -> tuple[Tree, list[dict[str, Array]]]:
        self._ops.kept = []
        try:
            output = self._forward(state, x)
            self._told = [told for told, _ in self._ops.kept]
            return output, [tensors for _, tensors in self._ops.kept]
        finally:
            self._ops.kept = None

    def _exported(self) -> dict[str, np.ndarray]:
        """Two integers of 4 bits are one byte, the first of them in its lower half."""
        arrays = super()._exported()
        for name, weight in self._weights().items():
            del arrays[name]
            q = np.asarray(weight.value.qvalue)
            arrays[name] = _packed(q) if q.dtype.name == "int4" else q
            arrays[f"{name}/scale"] = np.asarray(weight.value.scale)
        return arrays

    def facts(self) -> dict[str, Any]:
        weights = self._weights()
        found = self._contractions()
        return {
            **super().facts(),
            "weight_dtypes": {n: w.value.qvalue.dtype.name for n, w in weights.items()},
            "integer_kernels": sorted(kind for kind in found if jax_hlo.of_integers(kind)),
            "contractions": dict(found),
            "calibration_methods": {n: w.calibration for n, w in weights.items()},
        }

    def _contractions(self) -> dict[str, int]:
        """Of the program that `step` runs: kind -> how often, by the HLO that XLA optimized."""
        if self._found is None and self._last is not None:
            compiled = self._infer.lower(self._state, self._last).compile()
            self._found = dict(jax_hlo.contractions(compiled.as_text()))
        return self._found or {}


def _packed(q: np.ndarray) -> np.ndarray:
    nibbles = q.astype(np.int8).reshape(-1).astype(np.uint8) & 15
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    return nibbles[0::2] | (nibbles[1::2] << 4)
