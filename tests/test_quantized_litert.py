"""Models that TensorFlow converts for LiteRT: float32 agrees with NumPy, integers are judged layer
by layer, and what cannot be done has a reason."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest

from adapters import model as models
from adapters import trees
from adapters.base import Spec, Unsupported
from adapters.numpy_reference import NumpyOps
from adapters.precisions import PRECISIONS
from adapters.quantization import encode
from numerics import integer, quantization
from numerics.errors import normwise
from numerics.quantization import Subject

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("tensorflow", "ai_edge_litert")),
    reason="tensorflow or ai-edge-litert is not installed",
)
STATIC = ("int8_static", "int8_static_tensor", "int16_static")
#: What is judged to the last row at size tiny.
JUDGED = [
    ("mlp", "int8_dynamic"), ("mlp", "int8_static"), ("mlp", "int8_static_tensor"),
    ("mlp", "int16_static"), ("convnet", "int8_static"), ("convnet", "int8_static_tensor"),
    ("vit", "int8_dynamic"),
]  # fmt: skip
#: Operations between layers are in integers, too: their layers are judged.
LAYERS = [("resnet50", "int8_static"), ("lstm", "int8_static"), ("mobilenet", "int8_static")]


class Made:
    """A program at size tiny, with what it was made from."""

    def __init__(self, name, precision):
        from adapters.litert import Adapter

        self.name, self.scheme = name, PRECISIONS[precision].scheme
        model = models.get(name)
        n, config = model.batch["tiny"], model.config("tiny")
        self.params, self.buffers = model.initial(config, np.random.default_rng(0))
        every = model.example(config, 3 * n)
        self.batch, *self.calibration = (
            {key: value[i * n : (i + 1) * n] for key, value in every.items()} for i in range(3)
        )
        self.spec = Spec(name, "tiny", "infer", "cpu", precision, model.recipe, 1)
        self.program = Adapter().build(self.spec, self.params, self.buffers)
        if self.scheme and self.scheme.calibration:
            self.program.calibrate(self.calibration)
        self.given = self.program.put(self.batch)

    def output(self):
        return self.program.fetch(self.program.step(self.given))

    def layers(self):
        return self.program.layers(self.given)

    def reference(self):
        values = {**self.params, **self.buffers}
        return self.spec.forward(NumpyOps(), values, trees.part(self.batch, "x"))[0]

    def rows(self, layers):
        tensors = trees.named(self.output(), "output") | encode(layers)
        calibration = self.calibration if self.scheme.calibration else ()
        subject = Subject(
            self.name, "tiny", self.scheme, self.params, self.buffers, self.batch, tensors,
            calibration,
        )  # fmt: skip
        return quantization.judge(subject)


def divergent(rows, *quantities):
    known = [row for row in rows if not quantities or row.quantity in quantities]
    assert known
    return [(row.quantity, row.tensor, row.reason) for row in known if row.verdict == "divergent"]


@pytest.mark.parametrize("name", ["mlp", "convnet", "lstm", "unet", "bert"])
def test_float32_agrees_with_numpy(name):
    made = Made(name, "fp32")
    output, wanted = made.output(), made.reference()
    for found, value in zip(trees.leaves(output), trees.leaves(wanted), strict=True):
        assert normwise(found, value) < 2e-6
    facts = made.program.facts()
    assert facts["parameter_dtypes"] == ["float32"]
    assert facts["output_dtype"] == "float32"
    assert facts["operations"]["DELEGATE"] >= 1
    assert "WHILE" not in facts["operations"]


@pytest.mark.parametrize(("name", "precision"), JUDGED)
def test_a_program_is_judged_right(name, precision):
    made = Made(name, precision)
    assert divergent(made.rows(made.layers())) == []


@pytest.mark.parametrize(("name", "precision"), LAYERS)
def test_layers_are_judged_right(name, precision):
    made = Made(name, precision)
    layers = made.layers()
    assert all(layer.between for layer in layers)
    assert divergent(made.rows(layers), "weight", "layer") == []


def test_a_mistake_in_a_layer_is_found():
    made = Made("mlp", "int8_static")
    first, *others = made.layers()
    wrong = dataclasses.replace(first, y=np.roll(first.y, 1, axis=0))
    found = {row[:2] for row in divergent(made.rows([wrong, *others]))}
    assert ("layer", "fc1/w") in found
    assert ("layer", "fc2/w") not in found


@pytest.mark.parametrize("precision", ["int8_dynamic", *STATIC])
def test_integers_are_kept_and_multiplied(precision):
    made, plain = Made("mlp", precision), Made("mlp", "fp32")
    made.output(), plain.output()
    facts, before = made.program.facts(), plain.program.facts()
    activation = {"int8_dynamic": "float32", "int16_static": "int16"}.get(precision, "int8")
    kernel = f"FULLY_CONNECTED({activation}, int8) -> {activation}"
    runner = "builtin" if precision == "int16_static" else "XNNPACK"
    assert facts["integer_kernels"] == [f"{runner} {kernel}"]
    assert facts["weight_dtypes"]["fc1/w"] == "int8"
    assert "int8" in facts["parameter_dtypes"]
    assert facts["held_bytes"]["parameter"] < before["held_bytes"]["parameter"] / 3
    assert facts["output_dtype"] == "float32"


def test_the_16_bit_kernel_of_convolutions_is_one_off_at_most():
    """It rounds its multiplier to 16 bits, for results that have 16 bits themselves."""
    for layer in Made("convnet", "int16_static").layers():
        wanted = layer.y_numbers.quantized(integer.expected(layer, layer.x).value)
        away = np.abs(layer.y.astype(np.int64) - wanted)
        assert away.max() <= 1
        assert np.mean(away == 0) == 1 if layer.op == "dense" else 0.8 < np.mean(away == 0) < 0.99


def test_scales_are_those_that_were_asked_for():
    by_channel, of_tensor = Made("convnet", "int8_static"), Made("convnet", "int8_static_tensor")
    assert [layer.w_numbers.scale.size for layer in by_channel.layers()] == [4, 8, 10]
    assert [layer.w_numbers.scale.size for layer in of_tensor.layers()] == [1, 1, 1]
    wide = Made("convnet", "int16_static").layers()
    assert [layer.x_numbers.zero.tolist() for layer in wide] == [[0], [0], [0]]
    assert {layer.x.dtype for layer in wide} == {np.dtype(np.int16)}
    assert [layer.folded for layer in wide] == [True, True, False]


@pytest.mark.parametrize(("side", "axes"), [(1, (-1,)), (3, (-3, -2, -1))])
def test_a_1x1_convolution_is_dynamic_by_pixel(side, axes):
    tensorflow = pytest.importorskip("tensorflow")
    from ai_edge_litert.interpreter import Interpreter

    from adapters.litert_graph import Graph
    from adapters.litert_layers import keeping, layers

    rng = np.random.default_rng(0)
    w = rng.normal(size=(side, side, 64, 32))
    kernel = tensorflow.constant(w, tensorflow.float32)
    traced = tensorflow.function(
        lambda x: tensorflow.nn.conv2d(x, kernel, 1, "VALID"), autograph=False
    ).get_concrete_function(tensorflow.TensorSpec((2, 6, 6, 64), name="x"))
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([traced])
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    content = converter.convert()
    plain = Interpreter(model_content=content)
    plain.allocate_tensors()
    keeps = Interpreter(model_content=keeping(content, Graph(content, plain, {"w": w})))
    keeps.allocate_tensors()
    x = rng.normal(size=(2, 6, 6, 64)).astype(np.float32)
    keeps.set_tensor(keeps.get_input_details()[0]["index"], x)
    keeps.invoke()
    (layer,) = layers(Graph(content, keeps, {"w": w}))
    assert layer.x_numbers.axes == axes
    assert quantization.sqnr(layer.y, integer.expected(layer, layer.x).value) > 120


def test_every_batch_gives_its_own_output():
    made = Made("mlp", "int8_static")
    first = made.output()
    other = made.program.put(made.calibration[0])
    second = made.program.fetch(made.program.step(other))
    assert not np.array_equal(first, second)
    assert np.array_equal(made.output(), first)
    assert made.program.facts()["compilations"] == 1


def test_what_is_shipped_is_a_flatbuffer(tmp_path):
    sizes = {}
    for precision in ("fp32", "int8_dynamic"):
        made, folder = Made("mlp", precision), tmp_path / precision
        folder.mkdir()
        made.program.export(folder)
        (file,) = folder.iterdir()
        assert file.read_bytes()[4:8] == b"TFL3"
        sizes[precision] = file.stat().st_size
    assert sizes["int8_dynamic"] < sizes["fp32"] / 2


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("fp64", "no float64"),
        ("int8_static_symmetric", "activations of 8 bits asymmetric"),
        ("int8_static_percentile", "not by percentile"),
        ("int8_static_entropy", "not by entropy"),
        ("int8_weight_only", "no weights alone"),
        ("int4_weight_only", "no weights alone"),
        ("int8_qat", "inference only"),
        ("int8_dynamic_legacy", "one way"),
        ("fp8_dynamic", "not to float8"),
    ],
)
def test_what_the_converter_lacks_is_refused_by_name(precision, reason):
    with pytest.raises(Unsupported, match=reason):
        Made("mlp", precision)


@pytest.mark.parametrize(
    ("name", "precision", "reason"),
    [
        ("convnet", "int8_dynamic", "only 0% .* CONV_2D, FULLY_CONNECTED"),
        ("moe", "int8_dynamic", "BATCH_MATMUL"),
        ("sequence_loop", "int8_static", "loop"),
    ],
)
def test_what_stays_in_float32_is_no_quantized_program(name, precision, reason):
    with pytest.raises(Unsupported, match=reason):
        Made(name, precision).output()
