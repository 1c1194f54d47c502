"""PyTorch with integers for weights and calibrated activations through torch.compile: the graph of
`adapters.torch_pt2e`, which Inductor freezes.

What matches none of Inductor's patterns stays float32 between rounding, without a word. So the
frozen graph is read: a layer is one of integers where it has a kernel of oneDNN's for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._inductor import config

from adapters import torch_compile, torch_inductor, torch_layers, torch_pt2e
from adapters.base import Spec, require
from adapters.quantization import ENTROPY, Layer, Numbers
from adapters.torch_integers import SHORT
from adapters.torch_ops import DTYPES, TorchOps, dtype_name
from adapters.trees import Tree

PER_TENSOR = (
    "Inductor's patterns for oneDNN take weights with a scale for each channel; with one scale for "
    "the tensor it multiplies float32, and does not say so"
)
NO_ENTROPY = (
    "PyTorch has no calibration by entropy: its HistogramObserver looks for the range with the "
    "least squared error"
)
FEW = (
    "Inductor multiplies integers for {share:.0%} of this model's weights only: one that several "
    "layers share, as a recurrent one, stays float32"
)


class Program(torch_compile.Program):
    quantizes = True

    def __init__(self, spec: Spec) -> None:
        scheme = spec.numbers.scheme
        assert scheme is not None
        bits = scheme.weight_bits, scheme.activation_bits
        require(bits == (8, 8), SHORT.format(*bits))
        require(scheme.per_channel, PER_TENSOR)
        require(scheme.calibration != ENTROPY, NO_ENTROPY)
        self._scheme, self._code = scheme, torch_inductor.Code()
        super().__init__(spec)

    def operations(self, dtype: str) -> TorchOps:
        return torch_pt2e.ExportedOps(DTYPES[dtype], self._spec.device)

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._given = params, buffers
        self._params = {n: torch.tensor(v, **self._like) for n, v in params.items()}
        self._buffers = {n: torch.tensor(v, **self._like) for n, v in buffers.items()}

    def calibrate(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        inputs = [self.put(batch)[0] for batch in batches]
        self._found = torch_layers.find(self._spec, *self._given, like=inputs[0])
        network = self._spec.network(self._vocabulary)
        tensors = {**self._params, **self._buffers}
        calls = self._found.calls
        with torch.no_grad():
            forward = torch_pt2e.Forward(network, tensors, calls).eval()
            self._converted = torch_pt2e.converted(forward, calls, self._scheme, inputs)
            frozen = torch_pt2e.frozen(self._converted.graph, inputs[0])
        self._names = {_key(scale): name for name, (_, scale) in self._converted.weights.items()}
        self._done = [self._names[_key(scale)] for scale in torch_pt2e.scales(frozen)]
        share = self._found.share(set(self._done))
        require(share >= torch_layers.HALF, FEW.format(share=share))
        self._packed = torch_pt2e.constants(frozen)
        self._example = inputs[0]
        self._params, self._buffers = dict(self._converted.graph.state_dict()), {}
        torch_compile.start(self._spec.device)  # what was compiled so far was for reading
        self._compiled = torch.compile(self._converted.graph, fullgraph=True, dynamic=False)
        self._infer = self._frozen_first

    def _frozen_first(self, p: Mapping[str, torch.Tensor], x: Tree) -> Tree:
        with config.patch(freezing=True):
            y = self._compiled(x)
        self._infer = lambda p, x: self._compiled(x)
        return y

    def layers(self, batch: Any) -> list[Layer]:
        """Of one step: kernels of oneDNN's, their arguments and results, as generated code calls
        them."""
        self.step(batch)  # so that it is compiled
        with torch_pt2e.watched() as runs:
            self.step(batch)
        if len(runs) != len(self._done):
            raise AssertionError(f"{len(runs)} kernels ran, but should {len(self._done)}")
        return [self._layer(run) for run in runs]

    def _layer(self, run: torch_pt2e.Run) -> Layer:
        told = run.told
        name = self._names[_key(told["w_scale"])]
        call = next(call for call in self._found.calls if call.weight == name)
        integers, scale = self._converted.weights[name]
        alone = run.after in ("none", "relu")
        y = run.y if alone else run.plain()
        out = None
        if not y.is_floating_point():
            out = _numbers(told["output_scale"], told["output_zero_point"], y.dtype)
        return Layer(
            name,
            call.op,
            _boundary(told["qx"], call),
            _outputs_last(integers).numpy(),
            _boundary(y, call),
            Numbers(scale.numpy(), np.zeros(1, np.int64), -128, 127),
            _numbers(told["x_scale"], told["x_zero_point"], told["qx"].dtype),
            out,
            bias=None if told["bias"] is None else told["bias"].numpy(),
            attributes=call.attributes,
            relu=run.after == "relu",
            folded=name in self._converted.folded,
        )

    def export(self, folder: Path) -> None:
        with torch.no_grad():
            exported = torch.export.export(self._converted.graph, (self._example,))
        exported.example_inputs = None  # they would be saved as well
        torch.export.save(exported, folder / "model.pt2")

    def _kept(self, values: Mapping[str, Any]) -> list[torch.Tensor]:
        return [*values.values(), *self._packed]

    def facts(self) -> dict[str, Any]:
        names = dict.fromkeys(self._done)
        return super().facts() | {
            "weight_dtypes": {n: dtype_name(self._converted.weights[n][0].dtype) for n in names},
            "integer_kernels": self._code.kernels(),
        }


def _key(scale: torch.Tensor) -> bytes:
    return scale.detach().numpy().tobytes()


def _numbers(scale: Any, zero: Any, dtype: torch.dtype) -> Numbers:
    """Of one scale and one zero, which kernels take as tensors or as numbers."""
    limits = torch.iinfo(dtype)
    scales, zeros = np.full(1, float(scale), np.float32), np.full(1, int(zero), np.int64)
    return Numbers(scales, zeros, limits.min, limits.max)


def _boundary(tensor: torch.Tensor, call: torch_layers.Call) -> np.ndarray:
    """(N, C, H, W) -> (N, H, W, C); and (rows, K), as kernels have it, -> (N, .., K)."""
    if tensor.ndim == 4:
        return tensor.permute(0, 2, 3, 1).contiguous().numpy()
    return tensor.reshape(-1, *call.inner[:-1], tensor.shape[-1]).numpy()


def _outputs_last(w: torch.Tensor) -> torch.Tensor:
    """(out, in) -> (in, out), and (O, I, h, w) -> (h, w, I, O)."""
    return w.t() if w.ndim == 2 else w.permute(2, 3, 1, 0)
