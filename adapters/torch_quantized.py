"""PyTorch with integers for the weights of dense layers, eager. `adapters.torch_integers` knows how
they are kept, and `adapters.torch_inductor` and `adapters.torch_static` are for a compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from adapters import torch_eager, torch_layers
from adapters.base import Spec, require
from adapters.ops import Array
from adapters.quantization import Layer, Numbers, Scheme
from adapters.torch_integers import CLASSES, Kind, Packed, incoming, kind_of, stored
from adapters.torch_ops import DTYPES, TorchOps, dtype_name, viewed, views
from adapters.unfused import Unfused

CPU_ONLY = (
    "PyTorch's integers are judged on the CPU only: on CUDA torchao multiplies elsewhere or in "
    "float32, and does not say so, where a size is no multiple of 8 or a batch has up to 16 rows"
)
STATIC = (
    "eager PyTorch runs a calibrated graph in float32 and only rounds as integers would be "
    "rounded; torch_compile multiplies integers"
)
#: In the names of operations that multiply.
CONTRACTIONS = ("mm", "linear", "conv")


class QuantizedOps(Unfused, TorchOps):
    """The vocabulary over quantized weights, which `dense` knows by their class. While it is a
    list, `kept` are the tensors of each layer, call by call: what came in, or its integers with
    their scale and zero, and what came out last."""

    def __init__(self, dtype: torch.dtype, device: str, kind: Kind) -> None:
        super().__init__(dtype, device)
        self._kind = kind
        self.kept: list[tuple[torch.Tensor, ...]] | None = None

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        if isinstance(w, Packed):
            y = w(x)  # it has its bias
        elif type(w) in CLASSES:
            y = F.linear(x, w, b)
        elif getattr(w, "rounded", False):
            assert self._kind.fake is not None
            activation, weight = self._kind.fake()
            return F.linear(activation(x), weight(w.t()), b)
        else:
            return super().dense(x, w, b)
        if self.kept is not None:
            self.kept.append((*incoming(x, w), y))
        return y


def scheme_of(spec: Spec) -> Scheme:
    """What the precision asks for. Raises Unsupported for what no quantized program here does."""
    require(spec.device == "cpu", CPU_ONLY)
    require(spec.noise is None, "rounding noise is measured in floating-point programs")
    assert spec.numbers.scheme is not None
    return spec.numbers.scheme


def program(spec: Spec) -> Program:
    """Follows the scheme of its precision, eagerly. Raises Unsupported."""
    scheme = scheme_of(spec)
    require(not scheme.calibration, STATIC)
    return Program(spec, kind_of(scheme))


class Program(torch_eager.Program):
    """`_params` has quantized weights in the places of those that they stand for. In training it
    has float32, and what comes in and weights are rounded in the forward pass."""

    quantizes = True

    def __init__(self, spec: Spec, kind: Kind) -> None:
        self._kind = kind
        super().__init__(spec)
        ops = QuantizedOps(DTYPES[spec.dtype], spec.device, kind)
        network, seen = spec.network(ops), self.seen

        def watched(p: Mapping[str, Any], x: Any) -> list[tuple[torch.Tensor, ...]]:
            kept: list[tuple[torch.Tensor, ...]] = []
            ops.kept = kept
            network.forward(seen(p), x)
            return kept

        self._watched = self.compiled(watched)

    def operations(self, dtype: str) -> TorchOps:
        return QuantizedOps(DTYPES[dtype], self._spec.device, self._kind)

    def seen(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        plain = {name: value for name, value in tensors.items() if type(value) not in CLASSES}
        seen = {**tensors, **views(plain)}
        if self._spec.trains:
            for name in self._weights:
                seen[name].rounded = True
        return seen

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        found = torch_layers.find(self._spec, params, buffers)
        self._weights = {
            call.weight: call.bias
            for call in found.calls
            if call.op == "dense" and self._kind.takes(*params[call.weight].shape)
        }
        #: Nothing but the shapes of these is looked at.
        self._given = (
            {name: np.broadcast_to(0.0, value.shape) for name, value in params.items()},
            {name: np.broadcast_to(0.0, value.shape) for name, value in buffers.items()},
        )
        share = found.share(set(self._weights))
        require(share >= torch_layers.HALF, self._kind.few.format(share=share))
        super().load(params, buffers)
        if not self._spec.trains:
            for name, bias in self._weights.items():
                weight = viewed(name, self._params[name]).t().contiguous()  # (out, in)
                self._params[name] = self._kind.quantize(weight, self._params.get(bias))

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        self._batch = super().put(batch)  # on which `facts` run a step
        return self._batch

    def layers(self, batch: Any) -> list[Layer]:
        with torch.inference_mode():
            kept = self._watched({**self._params, **self._buffers}, batch[0])
        found = torch_layers.find(self._spec, *self._given, like=batch[0])
        calls = [call for call in found.calls if call.weight in self._weights]
        return [self._layer(*pair) for pair in zip(calls, kept, strict=True)]

    def _layer(self, call: torch_layers.Call, tensors: tuple[torch.Tensor, ...]) -> Layer:
        w, numbers = self._kind.integers(self._params[call.weight])
        x, *found, y = (tensor.numpy().copy() for tensor in tensors)
        return Layer(
            call.weight,
            call.op,
            x,
            w,
            y,
            numbers,
            Numbers(found[0], found[1].astype(np.int64), -128, 127) if found else self._kind.range,
            bias=self._params[call.bias].numpy() if call.bias else None,
        )

    def export(self, folder: Path) -> None:
        require(not self._spec.trains, "this program trains")
        tensors = {**self._params, **self._buffers}
        packed = {name for name, value in self._params.items() if isinstance(value, Packed)}
        for name in packed:
            tensors[name] = tensors[name].unpacked()
            tensors.pop(self._weights[name], None)  # packed as well
        torch.save(tensors, folder / "model.pt")

    def _kept(self, values: Mapping[str, Any]) -> list[torch.Tensor]:
        parts = [stored(v) if type(v) in CLASSES else [v] for v in values.values()]
        return [tensor for part in parts for tensor in part]

    def facts(self) -> dict[str, Any]:
        if self._spec.trains:
            return super().facts()
        dtypes = {n: dtype_name(stored(self._params[n])[0].dtype) for n in self._weights}
        return super().facts() | {"weight_dtypes": dtypes, "integer_kernels": self.kernels()}

    def kernels(self) -> list[str]:
        """The operations of one more step that multiply integers, with the dtypes of what they
        take. A quantized weight alone may be made float32 before: then there are none."""
        with torch.inference_mode(), Dispatched() as seen:
            self._infer({**self._params, **self._buffers}, self._batch[0])
        return sorted(seen.found)


class Dispatched(TorchDispatchMode):
    """Notes operations that multiply integers as PyTorch dispatches them: those that take some, or
    belong to its quantized operations."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removesuffix(".default")
        if any(part in name for part in CONTRACTIONS):
            dtypes = [a.dtype for a in args if isinstance(a, torch.Tensor)]
            if name.startswith("quantized.") or not all(d.is_floating_point for d in dtypes):
                self.found.add(f"{name}({', '.join(map(dtype_name, dtypes))})")
        return func(*args, **(kwargs or {}))
