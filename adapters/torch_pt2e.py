"""PT2E, PyTorch's quantization of exported graphs: from a forward pass to a graph with rounding,
and from there to what Inductor makes of it.

torch.export makes a graph of the forward pass, torchao's X86InductorQuantizer says what in it is
rounded to integers, observers see the calibration, and Inductor's freezing makes oneDNN's kernels
of what stands between integers. Export is strict: without TorchDynamo's account of where a node
comes from, the quantizer overlooks every call of a function, and says nothing.

The observers are those of `Scheme.calibration`, through the quantizer's configuration. Its own is
HistogramObserver, which looks for the range with the least squared error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch._inductor import config
from torch._inductor.compile_fx import compile_fx

from adapters.base import Network, Unsupported
from adapters.ops import Array
from adapters.quantization import PERCENTILE, Scheme
from adapters.torch_layers import Call
from adapters.torch_ops import TorchOps, _nchw, _nhwc
from adapters.trees import Tree
from adapters.unfused import Unfused

try:
    from torchao.quantization.pt2e.observer import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationSpec
    from torchao.quantization.pt2e.quantizer.utils import QuantizationConfig
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer
except ImportError as error:
    raise Unsupported(f"torchao is not installed, or too old: {error}") from error

RARE = 1e-4  # of values that calibration by percentile leaves out at either end
aten, onednn, rounding = torch.ops.aten, torch.ops.onednn, torch.ops.quantized_decomposed
LAYERS = (aten.linear.default, aten.conv2d.default)
#: oneDNN's kernels on integers, each in several forms, and where they have a weight's scales.
PACKETS = (onednn.qlinear_pointwise, onednn.qconv_pointwise, onednn.qconv2d_pointwise)
SCALE = 4


@dataclass(frozen=True)
class Weight:
    """A weight as PyTorch's modules have it: (out, in), or (O, I, h, w)."""

    tensor: torch.Tensor


class ExportedOps(Unfused, TorchOps):
    """The vocabulary whose layers are single nodes of a graph, with parameters as they are."""

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        if isinstance(w, Weight):
            return F.linear(x, w.tensor, b)
        y = x @ w  # not F.linear, which the quantizer knows: this weight is used otherwise too
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
        return _nhwc(F.conv2d(_nchw(x), w.tensor, b, stride, padding, dilation, groups))


class Forward(nn.Module):
    """The forward pass as a module, over tensors in the layouts of the vocabulary."""

    def __init__(
        self, network: Network, tensors: Mapping[str, torch.Tensor], calls: Sequence[Call]
    ) -> None:
        super().__init__()
        self._network = network
        self._weights = {call.weight for call in calls}
        self._places = {name: f"p{i}" for i, name in enumerate(tensors)}  # a name has no dots
        for name, tensor in tensors.items():
            value = native(tensor) if name in self._weights else tensor
            setattr(self, self._places[name], nn.Parameter(value, requires_grad=False))

    def forward(self, x: Tree) -> Tree:
        p = {name: getattr(self, place) for name, place in self._places.items()}
        weights = {name: Weight(p[name]) for name in self._weights}
        return self._network.forward({**p, **weights}, x)[0]


def native(w: torch.Tensor) -> torch.Tensor:
    """(in, out) -> (out, in), or (h, w, I, O) -> (O, I, h, w) in channels_last order."""
    if w.ndim == 2:
        return w.t().contiguous()
    return w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


class PercentileObserver(MinMaxObserver):
    """The range without the rarest values: RARE of all at either end."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self.values: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.values.append(x.detach().flatten())
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.cat(self.values).sort().values
        last = len(values) - 1
        low, high = values[round(RARE * last)], values[round((1 - RARE) * last)]
        return self._calculate_qparams(low, high)


def quantizer(scheme: Scheme) -> X86InductorQuantizer:
    """torchao's, for what the scheme asks for. Activations are bytes without a sign, which is all
    that oneDNN's convolutions take in PyTorch; symmetric ones have their zero in the middle, 128.
    """
    percentile = scheme.calibration == PERCENTILE
    activations = QuantizationSpec(
        dtype=torch.uint8,  # all of it: a range of our own would put the middle at 127
        qscheme=torch.per_tensor_symmetric if scheme.symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=PercentileObserver if percentile else MinMaxObserver,
    )
    weights = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver,
    )
    about = QuantizationConfig(activations, activations, weights, None)
    return X86InductorQuantizer().set_global(about)


@dataclass
class Converted:
    """A graph that rounds as integers would be rounded.

    weights     name -> (integers as `Weight`, a scale for each output)
    folded      weights that have the normalisation behind them in themselves
    """

    graph: fx.GraphModule
    weights: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)


def converted(
    forward: Forward, calls: Sequence[Call], scheme: Scheme, batches: Sequence[Tree]
) -> Converted:
    """The graph of the forward pass after calibration."""
    exported = torch.export.export(forward, (batches[0],), strict=True)
    graph = exported.module(check_guards=False)
    graph.graph.eliminate_dead_code()  # views that nobody uses are in the way of patterns
    nodes = [node for node in graph.graph.nodes if node.target in LAYERS]
    normal = aten.batch_norm.default
    folded = {
        call.weight
        for call, node in zip(calls, nodes, strict=True)
        if any(user.target is normal for user in node.users)
    }
    prepared = prepare_pt2e(graph, quantizer(scheme))
    for x in batches:
        prepared(x)
    result = Converted(convert_pt2e(prepared), folded=folded)
    nodes = [node for node in result.graph.graph.nodes if node.target in LAYERS]
    for call, node in zip(calls, nodes, strict=True):
        weight = node.args[1]
        if weight.target is rounding.dequantize_per_channel.default:
            integers, scales = (getattr(result.graph, arg.target) for arg in weight.args[:2])
            result.weights[call.weight] = (integers, scales)
    return result


def frozen(graph: fx.GraphModule, x: Tree) -> fx.GraphModule:
    """The graph that Inductor generates code of: its front end and freezing have been over it."""
    caught: list[fx.GraphModule] = []

    def inner(module: fx.GraphModule, inputs: Any, **about: Any) -> Any:
        caught.append(module)
        return torch.compiler.disable(lambda args: module(*args))

    def backend(module: fx.GraphModule, inputs: Any) -> Any:
        return compile_fx(module, inputs, inner_compile=inner)

    with torch.no_grad(), config.patch(freezing=True):
        torch.compile(graph, fullgraph=True, dynamic=False, backend=backend)(x)
    return caught[0]


def scales(module: fx.GraphModule) -> list[torch.Tensor]:
    """The weight's scales of each kernel on integers in a frozen graph."""
    kernels = [getattr(packet, name) for packet in PACKETS for name in packet.overloads()]
    nodes = [node for node in module.graph.nodes if node.target in kernels]
    return [getattr(module, node.args[SCALE].target) for node in nodes]


def constants(module: fx.GraphModule) -> list[torch.Tensor]:
    """The tensors in a frozen graph."""
    places = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    return [getattr(module, place) for place in sorted(places)]


@dataclass(frozen=True)
class Run:
    """One call of a kernel on integers: its arguments by their names, and its result."""

    told: Mapping[str, Any]
    y: torch.Tensor

    @property
    def after(self) -> str:
        """What is fused behind the layer: "none", "relu", or something else."""
        if "other" in self.told or "qaccum" in self.told:
            return "sum"
        return self.told.get("post_op_name") or self.told["attr"]

    def plain(self) -> torch.Tensor:
        """The layer's result, float32, by the same kernel with nothing fused behind it."""
        names = ["qx", "x_scale", "x_zero_point", "qw", "w_scale", "w_zero_point", "bias"]
        if "stride" in self.told:
            names += ["stride", "padding", "dilation", "groups"]
            alone = onednn.qconv_pointwise.tensor
        else:
            alone = onednn.qlinear_pointwise.tensor
        given = (self.told[name] for name in names)
        return alone(*given, 1.0, 0, torch.float32, "none", [], "")


@contextmanager
def watched() -> Iterator[list[Run]]:
    """The calls of kernels on integers that generated code makes inside. It looks a kernel up by
    its name whenever it calls it, and here finds one that notes the call."""
    runs: list[Run] = []

    def noting(kernel: Any) -> Any:
        names = [argument.name for argument in kernel._schema.arguments]

        def call(*given: Any) -> torch.Tensor:
            told = {name: _copied(name, v) for name, v in zip(names, given, strict=True)}
            y = kernel(*given)
            runs.append(Run(told, y.clone()))
            return y

        return call

    places = [(packet, name) for packet in PACKETS for name in packet.overloads()]
    kept = [getattr(packet, name) for packet, name in places]
    for (packet, name), kernel in zip(places, kept, strict=True):
        setattr(packet, name, noting(kernel))
    try:
        yield runs
    finally:
        for (packet, name), kernel in zip(places, kept, strict=True):
            setattr(packet, name, kernel)


def _copied(name: str, value: Any) -> Any:
    """What a kernel is given, of which memory may be used again. Packed weights are constants."""
    return value.clone() if isinstance(value, torch.Tensor) and name != "qw" else value
