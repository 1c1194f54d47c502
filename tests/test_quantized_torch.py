"""PyTorch's integers: eager and compiled, judged by the integer oracle; and what is refused."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from adapters import model as models
from adapters.base import Spec, Unsupported
from adapters.precisions import PRECISIONS
from adapters.quantization import Numbers, encode
from adapters.trees import named
from numerics import quantization

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "torchao")),
    reason="torch or torchao is not installed",
)


@pytest.fixture(params=["torch_eager"])
def adapter(request):
    return importlib.import_module(f"adapters.{request.param}").Adapter()


@pytest.fixture
def compiler():
    return importlib.import_module("adapters.torch_compile").Adapter()


class Made:
    """A program of a model, a batch, and a judge of both."""

    def __init__(self, adapter, model, precision, *, size="tiny", mode="infer"):
        self.spec = Spec(model, size, mode, "cpu", precision, "adamw", 1)
        found = models.get(model)
        config, n = found.config(size), found.batch[size]
        self.params, self.buffers = found.initial(config, np.random.default_rng(0))
        data = found.example(config, 3 * n)
        self.batch, *self.calibration = (
            {name: value[i * n : (i + 1) * n] for name, value in data.items()} for i in range(3)
        )
        self.program = adapter.build(self.spec, self.params, self.buffers)
        scheme = PRECISIONS[precision].scheme
        if scheme and scheme.calibration:
            self.program.calibrate(self.calibration)
        self.scheme = scheme
        self.put = self.program.put(self.batch)

    def output(self):
        return self.program.fetch(self.program.step(self.put))

    def subject(self):
        tensors = named(self.output(), "output") | encode(self.program.layers(self.put))
        calibration = self.calibration if self.scheme.calibration else ()
        return quantization.Subject(
            self.spec.model, self.spec.size, self.scheme, self.params, self.buffers, self.batch,
            tensors, calibration,
        )  # fmt: skip

    def judged(self):
        """The subject, after each of its checks has passed."""
        subject = self.subject()
        rows = quantization.judge(subject)
        wrong = [row for row in rows if row.verdict in ("divergent", "mistrusted")]
        assert rows
        assert not wrong, wrong
        return subject


EAGER = {
    ("mlp", "int8_weight_only"): ("", 35),  # it multiplies float32
    ("mlp", "int8_dynamic"): ("aten._int_mm(int8, int8)", 33),
    ("mlp", "int8_qat"): ("aten._int_mm(int8, int8)", 33),
    ("mlp", "int8_dynamic_legacy"): ("quantized.linear_dynamic(float32)", 31),
    ("convnet", "int8_dynamic"): ("aten._int_mm(int8, int8)", 33),
    ("lstm", "int8_qat"): ("aten._int_mm(int8, int8)", 30),
}


@pytest.mark.parametrize(("model", "precision"), EAGER)
def test_eager_layers_agree_with_the_oracle(adapter, model, precision):
    made = Made(adapter, model, precision)
    subject = made.judged()
    kernel, decibels = EAGER[model, precision]
    facts = made.program.facts()
    assert quantization.sqnr_of(subject.outputs, subject.watched[0]) > decibels
    assert set(facts["weight_dtypes"].values()) == {"int8"}
    assert set(facts["weight_dtypes"]) == {layer.weight for layer in subject.layers}
    assert facts["integer_kernels"] == ([kernel] if kernel else [])
    assert "int8" in facts["parameter_dtypes"]


def test_four_bits_are_in_groups_of_inputs(adapter):
    made = Made(adapter, "vit", "int4_weight_only", size="small")
    subject = made.judged()
    layer = next(layer for layer in subject.layers if layer.weight == "block0/mlp/fc1/w")
    assert (layer.w.min(), layer.w.max()) == (-8, 7)
    assert np.shape(layer.w_numbers.scale) == layer.w.shape == (128, 512)
    assert len(np.unique(layer.w_numbers.scale[:, 0])) == 128 // 32
    assert "head/w" in quantization.left_out(subject)  # 10 outputs are no multiple of 16


def test_integers_that_are_told_are_those_that_are_multiplied(adapter):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if str(func) == "aten._int_mm.default":
                seen.append([tensor.numpy().copy() for tensor in args])
            return func(*args, **(kwargs or {}))

    made = Made(adapter, "vit", "int8_dynamic")
    layers = made.program.layers(made.put)
    with torch.inference_mode(), Watching():
        made.program.step(made.put)
    assert len(seen) == len(layers) == 9
    for (x, w), layer in zip(seen, layers, strict=True):
        signed = x.astype(np.int64) - (128 if x.dtype == np.uint8 else 0)
        assert np.array_equal(signed, layer.x.reshape(signed.shape))
        assert np.array_equal(w, layer.w)


def test_legacy_activations_have_seven_bits(adapter):
    made = Made(adapter, "mlp", "int8_dynamic_legacy")
    (first, _) = made.program.layers(made.put)
    assert (first.x_numbers.low, first.x_numbers.high) == (0, 127)
    eight = dataclasses.replace(first, x_numbers=dataclasses.replace(first.x_numbers, high=255))
    subject = made.subject()
    subject.tensors.update(encode([eight]))
    rows = {row.quantity: row.verdict for row in quantization.judge(subject)}
    assert rows["layer"] == "divergent"


def test_training_rounds_to_the_very_integers_of_inference(adapter):
    trained, plain = (
        Made(adapter, "mlp", precision, mode="train").program for precision in ("int8_qat", "fp32")
    )
    made = Made(adapter, "mlp", "int8_qat")
    rounded = trained.gradients(trained.put(made.batch))
    exact = plain.gradients(plain.put(made.batch))
    assert np.allclose(rounded.output, made.output(), rtol=0, atol=1e-5)
    assert np.abs(rounded.output - exact.output).max() > 1e-3
    for name, gradient in rounded.gradients.items():  # straight through
        away = np.linalg.norm(gradient - exact.gradients[name])
        assert 0 < away < 0.2 * np.linalg.norm(exact.gradients[name]), name
    assert trained.facts()["parameter_dtypes"] == ["float32"]


REFUSED = {
    ("torch_eager", "resnet50", "int8_dynamic"): "linear layers only: 2%",
    ("torch_eager", "mlp", "int4_weight_only"): "multiple of 32",
    ("torch_eager", "mlp", "int8_static"): "only rounds as integers",
    ("torch_eager", "mlp", "int16_static"): "only rounds as integers",
    ("torch_eager", "mlp", "fp8_dynamic"): "reference implementation",
    ("torch_compile", "mlp", "int8_dynamic_legacy"): "TorchDynamo cannot trace",
    ("torch_compile", "mlp", "int8_static_tensor"): "a scale for each channel",
    ("torch_compile", "mlp", "int8_static_entropy"): "no calibration by entropy",
    ("torch_compile", "mlp", "int16_static"): "integers of 8 bits by integers of 16",
    ("torch_compile", "lstm", "int8_static"): "several layers share",
}


@pytest.mark.parametrize(("name", "model", "precision"), REFUSED)
def test_what_it_cannot_do_has_a_reason(name, model, precision):
    adapter = importlib.import_module(f"adapters.{name}").Adapter()
    with pytest.raises(Unsupported, match=REFUSED[name, model, precision]):
        Made(adapter, model, precision)


def test_a_control_has_no_integers():
    control = importlib.import_module("adapters.controls.torch_native").Adapter()
    with pytest.raises(Unsupported, match="floating point only"):
        Made(control, "mlp", "int8_dynamic")


@pytest.mark.parametrize("adapter", ["torch_eager"], indirect=True)
def test_a_model_of_integers_is_smaller(adapter, tmp_path):
    import torch

    sizes = {}
    for precision in ("fp32", "int8_dynamic"):
        (tmp_path / precision).mkdir()
        program = Made(adapter, "mlp", precision, size="small").program
        program.export(tmp_path / precision)
        (file,) = (tmp_path / precision).iterdir()
        sizes[precision] = file.stat().st_size
        held = program.facts()["held_bytes"]["parameter"]
        assert held <= sizes[precision] < held + 5000  # and what is around tensors in a file
    assert 3.5 < sizes["fp32"] / sizes["int8_dynamic"] < 4
    assert torch.load(file)["fc1/w"].qdata.dtype == torch.int8


def test_compiled_dynamic(compiler):
    made = Made(compiler, "mlp", "int8_dynamic")
    made.judged()
    facts = made.program.facts()
    assert facts["integer_kernels"] == ["_int_mm"]
    assert (facts["compilations"], facts["graph_breaks"], facts["compiled_share"]) == (1, 0, 1)


@pytest.mark.parametrize("precision", ["int8_static", "int8_static_symmetric"])
def test_compiled_static(compiler, precision, tmp_path):
    import torch

    made = Made(compiler, "convnet", precision)
    subject = made.judged()
    first, second, last = subject.layers
    assert [layer.relu for layer in subject.layers] == [True, True, False]
    assert [layer.folded for layer in subject.layers] == [True, True, False]
    assert isinstance(first.y_numbers, Numbers)  # integers go from one layer to the next
    assert last.y_numbers is None
    middle = precision == "int8_static_symmetric"  # of bytes without a sign
    assert second.x.dtype == np.uint8
    assert int(second.x_numbers.zero[0]) == (128 if middle else 0)  # it comes from a relu
    facts = made.program.facts()
    assert facts["compilations"] == 1  # what `layers` compiles does not count
    assert set(facts["integer_kernels"]) == {
        "onednn.qconv_pointwise.tensor", "onednn.qlinear_pointwise.tensor",
    }  # fmt: skip
    made.program.export(tmp_path)
    again = torch.export.load(tmp_path / "model.pt2").module()
    x = torch.tensor(made.batch["x"], dtype=torch.float32)
    assert np.allclose(again(x).detach().numpy(), made.output(), rtol=0, atol=1e-4)


def test_compiled_percentiles_leave_out_what_is_rare(compiler):
    import torch

    from adapters.torch_pt2e import PercentileObserver

    observer = PercentileObserver(dtype=torch.uint8, qscheme=torch.per_tensor_affine)
    observer(torch.cat([torch.linspace(-1, 1, 99_999), torch.tensor([50.0])]))
    scale, zero = observer.calculate_qparams()
    assert float(scale) * 255 == pytest.approx(2, rel=1e-3)
    assert int(zero) in (127, 128)
