"""JAX with layers of integers: judged layer by layer, run in integers, trained with rounding."""

import importlib.util

import numpy as np
import pytest

from adapters import model as models
from adapters import trees
from adapters.base import Spec, Unsupported
from adapters.precisions import PRECISIONS
from adapters.quantization import encode
from numerics import quantization
from numerics.quantization import Subject

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("jax", "qwix")),
    reason="jax or qwix is not installed",
)
JUDGED = [
    ("mlp", "int8_dynamic"), ("mlp", "int8_static"), ("mlp", "int8_static_tensor"),
    ("mlp", "int8_static_symmetric"), ("mlp", "int8_weight_only"), ("mlp", "int4_weight_only"),
    ("convnet", "int8_static"), ("convnet", "int4_weight_only"), ("vit", "int8_qat"),
    ("lstm", "int8_dynamic"),
]  # fmt: skip


class Made:
    """A program at size tiny, with what it was made from."""

    def __init__(self, name, precision, mode="infer"):
        from adapters.jax_jit import Adapter

        self.name, self.scheme = name, PRECISIONS[precision].scheme
        model = models.get(name)
        n, config = model.batch["tiny"], model.config("tiny")
        self.params, self.buffers = model.initial(config, np.random.default_rng(0))
        every = model.example(config, 3 * n)
        self.batch, *self.calibration = (
            {key: value[i * n : (i + 1) * n] for key, value in every.items()} for i in range(3)
        )
        spec = Spec(name, "tiny", mode, "cpu", precision, model.recipe, 1)
        self.program = Adapter().build(spec, self.params, self.buffers)
        if self.scheme and self.scheme.calibration:
            self.program.calibrate(self.calibration)
        self.given = self.program.put(self.batch)

    def output(self):
        return self.program.fetch(self.program.step(self.given))

    def subject(self, layers):
        tensors = trees.named(self.output(), "output") | encode(layers)
        calibration = self.calibration if self.scheme.calibration else ()
        return Subject(
            self.name, "tiny", self.scheme, self.params, self.buffers, self.batch, tensors,
            calibration,
        )  # fmt: skip


@pytest.fixture(scope="module", params=JUDGED, ids="-".join)
def made(request):
    return Made(*request.param)


def test_layers_compute_what_their_numbers_say(made):
    output = made.output()
    layers = made.program.layers(made.given)
    rows = quantization.judge(made.subject(layers))
    wrong = [row for row in rows if row.verdict == "divergent" and row.quantity != "output"]
    assert wrong == []
    assert {layer.weight for layer in layers} == set(made.program.facts()["weight_dtypes"])
    # the program that keeps its layers is the one that is timed
    kept, _ = made.program._keeping(made.program._state, made.given[0])
    for name, value in trees.named(made.program.fetch(kept), "output").items():
        np.testing.assert_array_equal(value, trees.named(output, "output")[name])


def test_integers_are_stored_and_multiplied(made):
    from adapters import jax_hlo

    made.output()
    facts, program = made.program.facts(), made.program
    wanted = f"int{made.scheme.weight_bits}"
    assert set(facts["weight_dtypes"].values()) == {wanted}
    assert facts["parameter_dtypes"] == sorted(["float32", wanted])
    assert facts["compilations"] == 1
    assert bool(facts["integer_kernels"]) == bool(made.scheme.activation_bits)
    calls = len(program.layers(made.given))
    found = facts["contractions"]
    if made.scheme.activation_bits:
        assert sum(n for kind, n in found.items() if jax_hlo.of_integers(kind)) >= calls
    kept = program._keeping.lower(program._state, made.given[0]).compile().as_text()
    assert jax_hlo.contractions(kept) == found
    elements = sum(value.size for value in (*made.params.values(), *made.buffers.values()))
    integers = sum(made.params[name].size for name in facts["weight_dtypes"])
    # 1 byte in place of 4 also for 4 bits; scales take some of it back
    assert facts["held_bytes"]["parameter"] < 4 * elements - 2.4 * integers


@pytest.mark.parametrize(
    ("model", "precision", "reason"),
    [
        ("mlp", "int8_static_percentile", "not by percentile"),
        ("mlp", "int8_static_entropy", "not by entropy"),
        ("mlp", "int16_static", "more than 8 bits"),
        ("mlp", "fp8_dynamic", "converts both sides to float32"),
        ("moe", "int8_dynamic", "of the weights of this model"),
        ("sequence_loop", "int8_dynamic", "outside of loops"),
        ("vnet3d", "int8_dynamic", "two-dimensional convolutions"),
    ],
)
def test_what_cannot_be_had_is_unsupported_by_name(model, precision, reason):
    with pytest.raises(Unsupported, match=reason):
        Made(model, precision)


def test_no_step_runs_before_calibration(monkeypatch):
    from adapters.jax_quantized import Quantized

    monkeypatch.setattr(Quantized, "calibrate", lambda self, batches: None)
    with pytest.raises(RuntimeError, match="calibrate first"):
        Made("mlp", "int8_static").output()


def test_missing_qwix_is_unsupported(monkeypatch):
    import sys

    from adapters.jax_jit import Adapter

    for name in [n for n in sys.modules if n.startswith(("qwix", "adapters.jax_quantized"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("adapters.jax_quantized", raising=False)
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(Unsupported, match="qwix is not installed"):
        Adapter().prepare("int8_dynamic")
    Adapter().prepare("fp32")


@pytest.mark.parametrize("name", ["convnet", "vit"])
def test_training_rounds_and_goes_on(name):
    exact, made = Made(name, "fp32", "train"), Made(name, "int8_qat", "train")
    wanted, found = (m.program.gradients(m.given) for m in (exact, made))
    assert found.loss != wanted.loss
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=0.02)
    for weight, gradient in wanted.gradients.items():
        other = found.gradients[weight]
        cosine = np.sum(gradient * other) / np.linalg.norm(gradient) / np.linalg.norm(other)
        assert cosine > 0.95, weight
    losses = [float(made.program.fetch(made.program.step(made.given))) for _ in range(8)]
    assert losses[-1] < losses[0]
    facts = made.program.facts()
    assert facts["parameter_dtypes"] == ["float32"]
    assert facts["compilations"] == 1
    state = made.program.state()
    following = made.program.step(made.given)
    made.program.resume(state)
    assert made.program.step(made.given) == following


def test_inference_runs_what_training_rounded():
    """The output of a training step is that of the integers made of its weights: both round to the
    same numbers, and multiply them in float32 and in integers."""
    trained, made = Made("mlp", "int8_qat", "train"), Made("mlp", "int8_qat")
    output = trained.program.gradients(trained.given).output
    assert quantization.sqnr(output, made.output().astype(np.float64)) > 120


def test_a_rounded_number_passes_its_gradient_on():
    import jax

    from adapters.jax_quantized_ops import ABSMAX, rounded

    x = np.linspace(-0.1, 2, 24, dtype=np.float32).reshape(3, 8)
    y, pull = jax.vjp(lambda x: rounded(x, 0, ABSMAX), x)
    scale = np.abs(x).max(axis=1, keepdims=True) / 127.5
    np.testing.assert_allclose(y, np.minimum(np.rint(x / scale), 127) * scale, rtol=1e-6)
    np.testing.assert_array_equal(pull(x)[0], x)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8_dynamic", "int4_weight_only"])
def test_what_is_exported_is_what_is_held(precision, tmp_path):
    from safetensors.numpy import load_file

    made = Made("convnet", precision)
    made.program.export(tmp_path)
    (path,) = tmp_path.iterdir()
    found = load_file(path)
    held = made.program.facts()["held_bytes"]["parameter"]
    packed = sum(w.nbytes for w in found.values() if w.dtype == np.uint8)  # two in a byte
    assert sum(value.nbytes for value in found.values()) == held - packed
    assert path.stat().st_size < held - packed + 2000
