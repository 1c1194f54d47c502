"""How good a quantized program is: the figures, and the whole way of a case."""

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest

from adapters.registry import Registry
from harness import quality
from harness.pool import CALIBRATION, Pool, Settings
from harness.protocol import load_tensors
from harness.runner import Ended, Runner
from results.records import Agreement, Case, Facts, Measurement

STATIC = Case("quantization", "infer", "mlp", "tiny", "onnx_runtime", "cpu", "int8_static", 8)


def test_the_same_logits_agree_and_have_no_divergence():
    logits = np.random.default_rng(0).normal(size=(7, 5))
    assert quality.compared(logits, logits) == (1.0, 0.0)
    assert quality.compared(logits + 3.0, logits) == (1.0, pytest.approx(0.0, abs=1e-12))


def test_agreement_and_divergence_by_hand():
    wanted = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    found = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    agreement, divergence = quality.compared(found, wanted)
    assert agreement == 0.5
    assert divergence == pytest.approx((0.5 * np.log(2) + 0.5 * np.log(2 / 3)) / 2)


class Records(list):
    """Sink and listener."""

    def phase(self, case, phase):
        pass

    def ended(self, outcome, note):
        pass


@pytest.fixture
def pool(tmp_path):
    pool = Pool(
        Settings(
            registry=Registry.load(), python=sys.executable, scratch=tmp_path, threads=1,
            case_timeout=120.0, memory_limit=2**33,
        )
    )  # fmt: skip
    yield pool
    pool.close_all()


def test_calibration_has_batches_of_its_own(pool):
    with_it, without = (
        load_tensors(pool.inputs(dataclasses.replace(STATIC, precision=precision)))
        for precision in ("int8_static", "int8_dynamic")
    )
    assert {n for n in with_it if n.startswith("calibration")} == {
        f"calibration:{i}:{name}" for i in range(CALIBRATION) for name in ("x", "y")
    }
    assert not any(name.startswith("calibration") for name in without)
    first = with_it["calibration:0:x"]
    assert first.shape == with_it["batch:x"].shape == without["batch:x"].shape
    assert np.array_equal(with_it["batch:x"], without["batch:x"])
    assert not np.array_equal(first, with_it["batch:x"])


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "onnxruntime")),
    reason="torch and onnxruntime are not both installed",
)
def test_a_case_is_trained_quantized_judged_and_told(pool):
    records = Records()
    runner = Runner(pool, records, records)
    with runner.case(STATIC, reproduce="pytest that") as attempt:
        attempt.quantize()
    values = {r.metric: r.values[0] for r in records if isinstance(r, Measurement)}
    assert 25 < values["sqnr"] < 60
    assert values["score"] > 0.9  # of a model that is trained
    assert abs(values["score_lost"]) < 0.05
    assert values["top1_agreement"] > 0.95
    assert 0 < values["artifact_bytes"] < 30_000
    judged = {(r.quantity, r.tensor) for r in records if isinstance(r, Agreement)}
    assert {("weight", "fc1/w"), ("range", "fc2/w"), ("layer", "fc1/w"), ("output", "output")} <= (
        judged
    )
    facts = {}
    for record in records:
        if isinstance(record, Facts):
            facts |= record.facts
    assert facts["weight_dtypes"].keys() == {"fc1/w", "fc2/w"}
    assert facts["integer_kernels"]
    told = facts["quality"]
    assert told["calibration"]["method"] == "min-max"
    assert told["calibration"]["examples"] == CALIBRATION * STATIC.batch
    assert told["calibration"]["ranges"].keys() == {"fc1/w", "fc2/w"}
    assert told["left_in_float"] == []
    assert set(told["sensitivity"]) == {"", "fc1/w", "fc2/w"}
    runner.close()


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
)
def test_a_model_without_a_goal_is_not_quantized(pool):
    records = Records()
    runner = Runner(pool, records, records)
    case = dataclasses.replace(STATIC, model="dlrm")
    with pytest.raises(Ended) as ended, runner.case(case, reproduce="pytest that") as attempt:
        attempt.quantize()
    assert ended.value.outcome.status == "unsupported"
    assert "no goal" in ended.value.outcome.reason
    runner.close()


@pytest.mark.parametrize("precision", ["int8_static", "int8_dynamic"])
def test_a_quantized_program_is_judged_on_what_a_pool_hands_out(pool, precision):
    """Which has further batches, and one that is seen after timing."""
    case = dataclasses.replace(STATIC, precision=precision)
    inputs = load_tensors(pool.inputs(case))
    subject = quality.subject(case, inputs, {})
    assert {n: v.shape for n, v in subject.batch.items()} == {
        n.removeprefix("batch:"): v.shape for n, v in inputs.items() if n.startswith("batch:")
    }
    assert len(subject.calibration) == (CALIBRATION if precision == "int8_static" else 0)
