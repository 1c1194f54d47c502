"""Native controls: their weights, what they compute, and what is published of their agreement."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters import model as models
from adapters.registry import BUILT_IN, CONTROLS, Control, Difference
from harness import controls
from numerics.judge import Judgement
from reports import data
from reports.sections import performance
from results.records import Agreement, Case, Facts, Measurement, Outcome
from results.store import Run
from suites.performance import test_overhead

ROOT = Path(__file__).resolve().parent.parent
CASE = Case("overhead_torch_native", "train", "mlp", "small", "torch_eager", "cpu", "fp32", 8)

#: Loads the tiny models of a control in float64 and tells by how much the state differs from what
#: was given, the output from NumPy's, and the gradients from a difference quotient along them.
PROGRAMS = """
import json, sys
import numpy as np
from adapters import model as models, trees
from adapters.base import Spec
from adapters.numpy_reference import NumpyOps
try:
    module = __import__(f"adapters.controls.{sys.argv[1]}", fromlist=["Adapter"])
except ModuleNotFoundError as error:
    print(json.dumps({"missing": error.name}))
    raise SystemExit

def far(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))

adapter, told = module.Adapter(), {}
for name in sys.argv[2:]:
    model = models.get(name)
    config = model.sizes["tiny"]
    params, buffers = model.initial(config, np.random.default_rng(0))
    batch = model.example(config, 4)
    infer = Spec(name, "tiny", "infer", "cpu", "fp64", model.recipe, threads=1)
    train = Spec(name, "tiny", "train", "cpu", "fp64", model.recipe, threads=1)
    program = adapter.build(infer, params, buffers)
    given = program.put(batch)
    output = trees.named(program.fetch(program.step(given)), "output")
    x = trees.part(batch, "x")
    expected = trees.named(infer.forward(NumpyOps(), {**params, **buffers}, x)[0], "output")
    program = adapter.build(train, params, buffers)
    loaded = program.state()
    own = {**loaded.params, **loaded.buffers}
    gradients = program.gradients(program.put(batch)).gradients
    untouched = program.state()
    network = train.network(NumpyOps())
    step, size = 1e-6, np.sqrt(sum(np.sum(g * g) for g in gradients.values()))
    losses = []
    for sign in (1, -1):
        moved = {n: v + sign * step * gradients[n] / size for n, v in params.items()}
        losses.append(network.loss({**moved, **buffers}, x, trees.part(batch, "y"))[0])
    slope = float(losses[0] - losses[1]) / (2 * step)
    told[name] = {
        "names": set(own) == {*params, *buffers},
        "state": all(np.array_equal(own[n], v) for n, v in {**params, **buffers}.items()),
        "kept": all(np.array_equal(untouched.buffers[n], v) for n, v in buffers.items()),
        "output": max(far(output[n], expected[n]) for n in expected),
        "slope": abs(slope - float(size)) / float(size),
    }
print(json.dumps(told))
"""


@pytest.mark.parametrize(
    "name", ["torch_native", "transformers_native", "keras_native", "flax_native"]
)
def test_a_control_has_the_weights_and_computes_the_model(name):
    environment = os.environ | {"NPROC": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS, name, *CONTROLS[name].models],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    if "missing" in told:
        pytest.skip(f"{told['missing']} is not installed")
    assert set(told) == set(CONTROLS[name].models)
    for model, found in told.items():
        assert found["names"], model
        assert found["state"], model
        assert found["kept"], model
        # Keras's float64 GELU has constants of float32
        assert found["output"] < 1e-7, model
        assert found["slope"] < 1e-5, model


def test_controls_are_plain_data_about_what_exists():
    for name, control in CONTROLS.items():
        assert (ROOT / f"adapters/controls/{name}.py").exists()
        assert control.adapter in BUILT_IN
        for model in (*control.models, *control.batches, *control.differs):
            assert model in control.models
            assert control.size in models.get(model).sizes


def test_every_control_is_a_suite_of_its_own():
    found = {(plan.suite, model): plan for plan in test_overhead.PLANS for model in plan.models}
    assert set(found) == {(f"overhead_{n}", m) for n, c in CONTROLS.items() for m in c.models}
    assert found["overhead_torch_native", "mlp"].batch == 1024
    assert found["overhead_torch_native", "vit"].batch == 0
    assert found["overhead_keras_applications", "resnet50"].size == "full"


def judged(tensor, error, verdict):
    quantity, _, name = tensor.partition(":")
    return Judgement(quantity, name or quantity, error, 1e-7, error / 1e-7, verdict, "consensus")


KNOWN = Difference("buffer@*/var", 1e-4, "divides by n")
CONTROL = Control("torch_eager", ("mlp",), differs={"mlp": (KNOWN,)})
ROWS = [judged("output", 1e-7, "rounding-equal"), judged("loss", 8e-7, "precision-equal")]


def test_the_worst_tensor_is_published():
    told, bad = controls.agreement(CONTROL, "mlp", ROWS)
    assert not bad
    assert told["worst"] == {"tensor": "loss loss", "error": 8e-7, "verdict": "precision-equal"}
    assert told["differs"] == []
    assert told["tensors"] == 2


def test_a_known_difference_is_named_and_not_a_divergence():
    rows = [*ROWS, judged("buffer@1:norm/var", 9e-5, "divergent")]
    told, bad = controls.agreement(CONTROL, "mlp", rows)
    assert not bad
    (difference,) = told["differs"]
    assert difference["reason"] == "divides by n"
    assert (difference["tensors"], difference["error"]) == (1, 9e-5)
    assert told["worst"]["error"] == 8e-7


@pytest.mark.parametrize(
    ("tensor", "error", "model"),
    [
        ("buffer@1:norm/var", 2e-4, "mlp"),  # more than is known
        ("buffer@1:norm/mean", 9e-5, "mlp"),  # another tensor
        ("buffer@1:norm/var", 9e-5, "vit"),  # another model
    ],
)
def test_what_is_not_known_is_a_divergence(tensor, error, model):
    wrong = judged(tensor, error, "divergent")
    told, bad = controls.agreement(CONTROL, model, [*ROWS, wrong])
    assert bad == [wrong]
    assert told["differs"] == []


def table(told):
    facts = [Facts(CASE, {"control": told})] if told else []
    records = (
        Agreement(CASE, "output", "output", 1e-7, 1e-7, 1.0, "rounding-equal", "consensus"),
        Measurement(CASE, "control_ratio", "1", (1.357,) * 16),
        *facts,
        Outcome(CASE, "ok", "", 1.0, "x"),
    )
    found = performance.native_controls(data.prepare(Run("r", Path("r"), {}, records)))
    names = [column.name for column in found.columns]
    (row,) = found.rows
    return dict(zip(names[1:], row.cells, strict=True)) | {"detail": row.detail}


def test_the_report_names_the_control_and_its_agreement():
    told, _ = controls.agreement(CONTROL, "mlp", ROWS)
    cells = table({"name": "torch_native", **told})
    assert cells["Control"].text == "torch_native"
    assert cells["Ratio"].text == "1.36×"
    assert cells["Agreement"].text == "precision-equal, 8.00e-07"
    assert cells["Agreement"].small == ()


def test_the_report_says_what_a_control_computes_otherwise():
    everything = dataclasses.replace(CONTROL, differs={"mlp": (Difference("*", 1e9, "version 1"),)})
    wrong = judged("output", 0.5, "divergent")
    told, _ = controls.agreement(everything, "mlp", [wrong])
    cells = table({"name": "other", **told})
    assert cells["Agreement"].text == "not the same function"
    assert cells["detail"] == "version 1"
    told, _ = controls.agreement(everything, "mlp", [*ROWS, wrong])
    assert table(told)["Agreement"].small == ("but 1 tensors by up to 5.00e-01",)


def test_an_old_run_has_no_agreement():
    assert table(None)["Agreement"].text == "–"
