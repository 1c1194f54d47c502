"""Puts integers into an ONNX graph, with ONNX Runtime's own tools where they do what is asked."""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process

from adapters.base import require
from adapters.onnx_ops import OIHW
from adapters.quantization import ENTROPY, MIN_MAX, PERCENTILE, Scheme

METHODS = {
    MIN_MAX: CalibrationMethod.MinMax,
    PERCENTILE: CalibrationMethod.Percentile,  # 99.999%, the tool's default
    ENTROPY: CalibrationMethod.Entropy,
}
BINS = 512  # of values, for the entropy of 128 merged ones
QUANTIZED = ["Conv", "Gemm", "MatMul", "Relu"]  # kinds of nodes
FOLDED = "ConvBnFusion_W_"  # how ONNX Runtime begins the name of a weight with a normalisation
Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Weight:
    """A parameter that is the weight of a layer.

    op      dense | conv2d
    stem    the name of its initializer, with which those of its integers begin
    folded  whether the normalisation that follows is part of it
    """

    name: str
    op: str
    stem: str
    folded: bool = False

    @classmethod
    def of(cls, name: str, op: str) -> tuple[Weight, ...]:
        """Those that a graph may have of a parameter."""
        if op == "dense":
            return (cls(name, op, name),)
        stem = f"{name}:{''.join(map(str, OIHW))}"
        return cls(name, op, stem), cls(name, op, FOLDED + stem, folded=True)


class Weights:
    """The weights of a model's layers, looked up by the name of an initializer."""

    def __init__(self, ops: Mapping[str, str]) -> None:
        """`ops` tells of each weight's parameter in which operation it is used."""
        every = (weight for name, op in ops.items() for weight in Weight.of(name, op))
        self._by_stem = {weight.stem: weight for weight in every}

    def find(self, name: str) -> Weight | None:
        """The weight whose initializer, or whose integers, `name` names."""
        stems = [s for s in self._by_stem if name == s or name.startswith(f"{s}_")]
        return self._by_stem[max(stems, key=len)] if stems else None

    def nodes(self, model: onnx.ModelProto) -> list[onnx.NodeProto]:
        """The layers in a graph of floating-point numbers."""
        there = {tensor.name for tensor in model.graph.initializer}
        return [
            node
            for node in model.graph.node
            if node.op_type in ("Gemm", "MatMul", "Conv")
            and node.input[1] in there & set(self._by_stem)
        ]


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` as the manual wants it before it is quantized: optimized, with normalisations folded
    into convolutions, a dense layer and its bias in one node, and the shape of every value."""
    with _through_files(model) as (source, target):
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
        return onnx.load(target)


def dynamic(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Weights in int8; what comes into a layer becomes uint8 when it comes."""
    whole = ONNXModel(model)
    # quantize_dynamic does so as well, under names that are not among nodes_to_quantize any more:
    # then these layers stay in float32, and it says nothing
    whole.replace_gemm_with_matmul()
    nodes = weights.nodes(whole.model)
    kernels = {n.name: initializer(whole.model, n.input[1]) for n in nodes if n.op_type == "Conv"}
    with _through_files(whole.model) as (source, target):
        quantize_dynamic(
            source, target, per_channel=True, weight_type=QuantType.QInt8,
            nodes_to_quantize=[node.name for node in nodes],
        )  # fmt: skip
        made = onnx.load(target)
    for tensor in kernels.values():
        _scale_each_channel(made, tensor)
    return made


def _scale_each_channel(model: onnx.ModelProto, weight: onnx.TensorProto) -> None:
    """quantize_dynamic gives the weight of a convolution one scale, even where it should give each
    channel its own. The graph is the same with a scale of shape (channels, 1, 1)."""
    w = numpy_helper.to_array(weight)  # (channels, inputs, h, w)
    scale = scales_of(np.abs(w).max(axis=(1, 2, 3), keepdims=True), 127)
    for name, values in (
        (f"{weight.name}_quantized", np.rint(w / scale).astype(np.int8)),
        (f"{weight.name}_scale", scale[0:, 0]),  # (channels, 1, 1)
    ):
        initializer(model, name).CopyFrom(numpy_helper.from_array(values, name))


def static(
    model: onnx.ModelProto, weights: Weights, scheme: Scheme, batches: Sequence[Feed]
) -> onnx.ModelProto:
    """Weights in int8; for what comes into a layer, uint8 with numbers from `batches`. Symmetric
    numbers have their zero at 128: ONNX Runtime itself makes that of int8 with the zero 0 on x86,
    and fails with some graphs, as "output_dtype INT8 does not match y_zero_point type UINT8".

    Out of a convolution come integers, as there is no kernel that multiplies them and gives real
    numbers. Out of a dense layer come real numbers, as what follows computes with these, but where
    a relu follows that takes no integers away: there, too, ONNX Runtime has such a kernel for
    integers only, and would compute in float32."""
    cached = "calibration_cache_path" in inspect.signature(quantize_static).parameters
    require(cached, "this onnxruntime is too old: its quantize_static reads no ranges from a file")
    nodes = weights.nodes(model)
    relus = [n for n in model.graph.node if n.op_type == "Relu" and _behind(n, nodes)]
    behind_dense = [n for n in relus if not _behind(n, [n for n in nodes if n.op_type == "Conv"])]
    shown = scheme.symmetric or any(not _only_before(n, nodes, model) for n in behind_dense)
    real = [] if behind_dense and shown else ["Gemm", "MatMul"]
    taken = [n.name for n in (*nodes, *(() if scheme.symmetric else relus))]
    with _through_files(model) as (source, target), contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            source, target, None,
            per_channel=scheme.per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=QUANTIZED,
            nodes_to_quantize=taken,
            calibrate_method=METHODS[scheme.calibration],
            calibration_cache_path=_ranges(source, nodes, scheme, batches),
            extra_options={
                "ActivationSymmetric": scheme.symmetric,
                "OpTypesToExcludeOutputQuantization": real,
            },
        )  # fmt: skip
        made = onnx.load(target)
    _leave_others(made, {node.name for node in nodes})
    return made


def _behind(node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto]) -> bool:
    """Whether what one of `nodes` gives goes into `node`."""
    return any(node.input[0] in one.output for one in nodes)


def _only_before(
    node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto], model: onnx.ModelProto
) -> bool:
    """Whether what `node` gives goes into some of `nodes` and nowhere else."""
    users = {user.name for user in model.graph.node if node.output[0] in user.input}
    return bool(users) and users <= {one.name for one in nodes}


def _leave_others(model: onnx.ModelProto, layers: set[str]) -> None:
    """Gives back real numbers to whatever else uses what comes into a layer: quantize_static rounds
    them for all, so that a residual network would add up integers of 8 bits."""
    maker = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.name in layers or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for i, name in enumerate(node.input):
            quantize = _quantizer(maker, name)
            before = maker.get(quantize.input[0]) if quantize is not None else None
            if quantize is not None and (before is None or before.name not in layers):
                node.input[i] = quantize.input[0]


def _quantizer(maker: Mapping[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """The QuantizeLinear whose integers became the real numbers `name`, if any did."""
    node = maker.get(name)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return maker.get(node.input[0])


def _ranges(
    source: Path, nodes: Sequence[onnx.NodeProto], scheme: Scheme, batches: Sequence[Feed]
) -> Path:
    """A file with the range of each value, as quantize_static reads it. What comes into layers with
    one weight, one at each position of a recurrence, has one range.

    quantize_static has no option for how finely values are counted, and with its 128 bins the
    entropy has one range to choose from: the whole one."""
    options: dict[str, int] = {"symmetric": scheme.symmetric}
    if scheme.calibration == ENTROPY:
        options["num_bins"] = BINS
    calibrator = create_calibrator(
        source, QUANTIZED, str(source.with_name("augmented.onnx")),
        METHODS[scheme.calibration], extra_options=options,
    )  # fmt: skip
    calibrator.collect_data(_Reader(batches))
    found = calibrator.compute_data()
    for name in {node.input[1] for node in nodes}:
        inputs = {node.input[0] for node in nodes if node.input[1] == name}
        ranges = [found[x] for x in inputs if x in found]
        lowest = min((r.lowest for r in ranges), default=None)
        highest = max((r.highest for r in ranges), default=None)
        for one in ranges:
            one.lowest, one.highest = lowest, highest
    path = source.with_name("ranges.json")
    save_tensors_data(found, path)
    return path


class _Reader:
    """Gives batches one by one, as calibration asks for them."""

    def __init__(self, batches: Sequence[Feed]) -> None:
        self._rest = iter(batches)

    def get_next(self) -> Feed | None:
        return next(self._rest, None)


def scales_of(largest: np.ndarray, high: int) -> np.ndarray:
    """With which the largest magnitude becomes `high`."""
    return np.where(largest > 0, largest / np.float32(high), np.float32(1)).astype(np.float32)


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


@contextlib.contextmanager
def _through_files(model: onnx.ModelProto) -> Iterator[tuple[Path, Path]]:
    """(a file with `model`, a place for what is made of it), for a while."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.onnx"
        onnx.save(model, source)
        yield source, Path(folder) / "target.onnx"
