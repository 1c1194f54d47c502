"""How sessions of ONNX Runtime are set up, and what one runs."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from adapters.base import require
from adapters.onnx_graph import IR_VERSION, OPSET

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
#: Fusions that a program of integers does without. Of a dense layer and what follows, one makes
#: a FusedGemm of float32 before ONNX Runtime looks for integers. Another ran before integers were
#: put in, and fails when it finds something that it left then, on names that it made itself. The
#: others hide what a convolution with dequantized weights gives.
UNWANTED = "GemmActivationFusion;MatMulAddFusion;ConvActivationFusion;ConvAddActivationFusion"


def usable(device: str) -> bool:
    """Whether memory can be had there: a provider that was built in may lack its device."""
    if PROVIDERS[device] not in ort.get_available_providers():
        return False
    try:
        ort.OrtValue.ortvalue_from_shape_and_type([1], np.float32, device)
    except Exception:  # its own classes of errors have no common base
        return False
    return True


def options_of(device: str, threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if device == "cuda":  # rather an error than a quiet return to the CPU
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def session_of(
    model: onnx.ModelProto, device: str, options: ort.SessionOptions
) -> ort.InferenceSession:
    provider, there = PROVIDERS[device], ort.get_available_providers()
    require(provider in there, f"no {provider}: this onnxruntime has {', '.join(there)}")
    # fp32 means float32: no TF32 in matrix products or convolutions
    settings = {"use_tf32": "0"} if device == "cuda" else {}
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=[(provider, settings)]
    )
    # a session keeps these bytes to start again with other providers, which is a failure here; one
    # that is made from a file keeps none
    session._model_bytes = None
    return session


@functools.cache
def saturates() -> bool:
    """Whether the CPU adds products of uint8 and int8 in 16 bits, as x86 does without VNNI: then
    256 times 255 times 127 is not what comes out."""
    k = 256
    weight = numpy_helper.from_array(np.full((k, 1), 127, np.int8), "w")
    ends = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("x", TensorProto.UINT8, [1, k]),
            ("y", TensorProto.INT32, [1, 1]),
        )
    ]
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "saturates", ends[:1], ends[1:], [weight])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    session = session_of(model, "cpu", options_of("cpu", 1))
    (y,) = session.run(None, {"x": np.full((1, k), 255, np.uint8)})
    return int(y.item()) != k * 255 * 127


def options_for_integers(device: str, threads: int) -> ort.SessionOptions:
    """With exact sums. The option that makes weights uint8 is set where it is needed only: with AMX
    it is not, but takes effect, and a product takes eleven times as long."""
    options = options_of(device, threads)
    if device == "cpu" and saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("optimization.disable_specified_optimizers", UNWANTED)
    return options


def optimized(model: onnx.ModelProto, device: str, options: ort.SessionOptions) -> onnx.ModelProto:
    """The graph that a session makes of `model`: its nodes are what really runs."""
    options.log_severity_level = 3  # it warns that such a graph is for this machine only
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        session_of(model, device, options)
        return onnx.load(options.optimized_model_filepath)


def kept(
    model: onnx.ModelProto,
    names: Sequence[str],
    feed: Mapping[str, np.ndarray],
    *,
    device: str,
    options: ort.SessionOptions,
) -> dict[str, np.ndarray]:
    """The outputs, and the values called `names`, of an optimized graph. Its nodes run as they are:
    nothing is optimized again."""
    more = onnx.ModelProto()
    more.CopyFrom(model)
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    new = [onnx.ValueInfoProto(name=name) for name in names if name not in there]
    more.graph.output.extend(new)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    values = session_of(more, device, options).run(None, dict(feed))
    return {**feed, **dict(zip([v.name for v in more.graph.output], values, strict=True))}
