"""Programs of integers in ONNX Runtime: their layers are judged, and integers are really used."""

import functools
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from adapters import model as models
from adapters import trees
from adapters.base import Spec, Unsupported
from adapters.precisions import PRECISIONS
from adapters.quantization import encode
from numerics import integer, quantization

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
)
STATIC = (
    "int8_static", "int8_static_tensor", "int8_static_symmetric", "int8_static_percentile",
    "int8_static_entropy",
)  # fmt: skip
KERNELS = {
    "int8_dynamic": {"mlp": ["DynamicQuantizeMatMul"],
                     "convnet": ["ConvInteger", "DynamicQuantizeMatMul"]},
    **{name: {"mlp": ["QGemm"], "convnet": ["QGemm", "QLinearConv"]} for name in STATIC},
    "int8_weight_only": {"mlp": ["MatMulNBits"], "convnet": ["DequantizeLinear", "MatMulNBits"]},
    "int4_weight_only": {"mlp": ["MatMulNBits"], "convnet": ["MatMulNBits"]},
}  # fmt: skip


def case(model):
    """(parameters, buffers, a batch, two batches for calibration) of a model at size tiny."""
    known = models.get(model)
    config, n = known.config("tiny"), known.batch["tiny"]
    params, buffers = known.initial(config, np.random.default_rng(0))
    every = known.example(config, 3 * n)
    parts = [{k: v[i * n : (i + 1) * n] for k, v in every.items()} for i in range(3)]
    return params, buffers, parts[0], parts[1:]


def built(model, precision, device="cpu"):
    from adapters.onnx_runtime import Adapter

    params, buffers, _, calibration = case(model)
    spec = Spec(model, "tiny", "infer", device, precision, "sgd_momentum", 1)
    program = Adapter().build(spec, params, buffers)
    scheme = PRECISIONS[precision].scheme
    if scheme is not None and scheme.calibration:
        program.calibrate(calibration)
    return program


@functools.cache
def ran(model, precision):
    """(program, its layers, what is judged) after one step."""
    program = built(model, precision)
    params, buffers, batch, calibration = case(model)
    on_device = program.put(batch)
    output = program.fetch(program.step(on_device))
    layers = program.layers(on_device)
    scheme = PRECISIONS[precision].scheme
    subject = quantization.Subject(
        model, "tiny", scheme, params, buffers, batch,
        dict(trees.named(output, "output")) | encode(layers),
        calibration if scheme.calibration else (),
    )  # fmt: skip
    return program, layers, subject


def divergent(subject):
    return [row for row in quantization.judge(subject) if row.verdict == "divergent"]


@pytest.mark.parametrize("precision", KERNELS)
@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_layers_compute_what_their_numbers_say(model, precision):
    program, layers, subject = ran(model, precision)
    assert divergent(subject) == []
    facts = program.facts()
    assert facts["integer_kernels"] == KERNELS[precision][model]
    assert set(facts["weight_dtypes"]) == {layer.weight for layer in layers}
    bits = str(PRECISIONS[precision].scheme.weight_bits)
    assert {name.lstrip("uint") for name in facts["weight_dtypes"].values()} == {bits}
    assert facts["compilations"] == 1


def test_a_normalisation_is_folded_into_its_convolution():
    _, layers, _ = ran("convnet", "int8_static")
    told = {layer.weight: (layer.folded, layer.relu) for layer in layers}
    folded = (True, True)
    assert told == {"conv1/w": folded, "conv2/w": folded, "head/w": (False, False)}


def test_numbers_are_those_of_the_scheme():
    _, symmetric, _ = ran("mlp", "int8_static_symmetric")
    assert all(layer.x_numbers.zero == 128 for layer in symmetric)
    _, whole, _ = ran("convnet", "int8_static_tensor")
    assert all(np.size(layer.w_numbers.scale) == 1 for layer in whole)
    _, channels, _ = ran("convnet", "int8_dynamic")  # where quantize_dynamic gives one, too
    assert all(np.size(layer.w_numbers.scale) == layer.w.shape[-1] for layer in channels)


def test_entropy_is_more_than_the_whole_range():
    _, whole, _ = ran("resnet50", "int8_static")
    _, some, _ = ran("resnet50", "int8_static_entropy")
    shares = [
        float(b.x_numbers.scale / a.x_numbers.scale) for a, b in zip(whole, some, strict=True)
    ]
    assert min(shares) < 0.9
    assert max(shares) <= 1.001


def test_a_recurrence_has_one_range():
    _, layers, _ = ran("lstm", "int8_static")
    for layer in layers:
        wanted = integer.expected(layer, layer.x)
        assert (np.abs(layer.y - wanted.value) <= wanted.rounding).all(), layer.weight
    states = [layer for layer in layers if layer.weight == "cell0/u"]
    assert len(states) == 7  # of 8 positions: the product with the first state, 0, is no work
    assert len({float(layer.x_numbers.scale) for layer in states}) == 1


def test_a_residual_is_no_integer():
    """What comes into layers is added up further on as it was before it was rounded for them."""
    program, _, subject = ran("self_attention", "int8_static")
    nodes = program._graph().graph.node
    rounded = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    assert [node for node in nodes if node.op_type == "Add" and rounded & set(node.input)]
    assert divergent(subject) == []


@pytest.mark.parametrize(
    ("model", "precision", "device", "reason"),
    [
        ("mlp", "int16_static", "cpu", "no CPU kernel that multiplies int16"),
        ("mlp", "fp8_dynamic", "cpu", "no CPU kernel that multiplies float8"),
        ("mlp", "int8_static", "cuda", "CPU provider"),
        ("resnet50", "int4_weight_only", "cpu", "keeps conv2d in float32"),
        ("vnet3d", "int8_dynamic", "cpu", "0% of the elements"),
    ],
)
def test_what_cannot_be_done_is_named(model, precision, device, reason):
    with pytest.raises(Unsupported, match=reason):
        ran.__wrapped__(model, precision) if device == "cpu" else built(model, precision, device)


def test_integers_that_stay_out_are_found(monkeypatch):
    from adapters import onnx_integers

    monkeypatch.setattr(onnx_integers, "static", lambda model, *_: model)
    program = built("mlp", "int8_static")
    program.step(program.put(case("mlp")[2]))
    with pytest.raises(RuntimeError, match=r"\['fc1/w', 'fc2/w'\] in float32"):
        program.facts()


def test_int16_would_multiply_in_float32(tmp_path):
    """Should ONNX Runtime have learnt it, int16_static need not be refused any more."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    from adapters import onnx_integers, onnx_session

    program = built("mlp", "fp32")
    inputs, values = program.put(case("mlp")[2])
    onnx.save(onnx_integers.prepared(program._build(inputs)), tmp_path / "float.onnx")
    feed = {name: value.numpy() for name, value in values.items()}
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "int16.onnx", onnx_integers._Reader([feed]),
        activation_type=QuantType.QInt16, weight_type=QuantType.QInt8,
    )  # fmt: skip
    made = onnx_session.optimized(
        onnx.load(tmp_path / "int16.onnx"), "cpu", onnx_session.options_for_integers("cpu", 1)
    )
    assert [node.op_type for node in made.graph.node if "Gemm" in node.op_type] == ["Gemm"] * 2


def test_batches_for_calibration_have_the_shape_of_the_others():
    program = built("mlp", "int8_static")
    _, _, batch, _ = case("mlp")
    with pytest.raises(ValueError, match="but calibration was with"):
        program.step(program.put({name: x[:2] for name, x in batch.items()}))


def test_the_model_becomes_smaller(tmp_path):
    sizes = {}
    for precision in ("fp32", "int8_static", "int4_weight_only"):
        program = built("mlp", precision)
        program.step(program.put(case("mlp")[2]))
        folder = tmp_path / precision
        folder.mkdir()
        program.export(folder)
        sizes[precision] = sum(file.stat().st_size for file in folder.iterdir())
    assert sizes["int8_static"] < 0.5 * sizes["fp32"]
    assert sizes["int4_weight_only"] < 0.7 * sizes["int8_static"]


def test_real_numbers_need_no_quantizer():
    code = """
import sys
from adapters.onnx_runtime import Adapter
assert "int8_static" in Adapter.precisions
assert not [name for name in sys.modules if name.startswith("onnxruntime.quantization")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
