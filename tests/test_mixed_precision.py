"""Mistakes of mixed precision, made in a copy of a real adapter: each is called divergent, and what
it was copied from is not."""

import dataclasses
import importlib.util
import sys

import pytest

from adapters.registry import Registry
from harness.pool import Pool, Settings
from harness.runner import Ended, Runner
from results.records import Case, Outcome
from suites.conformance.tables import contractions
from suites.conformance.test_loss_scaling import STEPS
from suites.conformance.test_precision import CLIPPED

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
WRONG = ("adds_in_16_bits", "keeps_overflow", "clips_scaled")
TRAINING = Case("precision", "train", "mlp", "tiny", "torch_eager", "cpu", "amp_fp16", 8)


class Records(list):
    """Sink and listener."""

    def phase(self, case, phase):
        pass

    def ended(self, outcome, note):
        pass


def adding(adapter, precision):
    return Case("operations", "infer", "dense", "tiny", adapter, "cpu", precision, 1)


@pytest.fixture(scope="module")
def records():
    return Records()


@pytest.fixture(scope="module")
def runner(records, tmp_path_factory):
    modules = {name: f"tests.toys.{name}" for name in WRONG}
    pool = Pool(
        Settings(
            registry=Registry({"torch_eager": "adapters.torch_eager", **modules}),
            python=sys.executable,
            scratch=tmp_path_factory.mktemp("scratch"),
            threads=1,
            case_timeout=120.0,
            memory_limit=2**33,
        )
    )
    runner = Runner(pool, records, records)
    dense = [e for e in contractions.exercises() if e.subject == "dense"]
    runner.referee.examiner.learn({
        adding(adapter, precision): [e for e in dense if precision in e.precisions]
        for adapter in ("torch_eager", "adds_in_16_bits")
        for precision in ("fp32", "bf16", "fp16")
    })  # fmt: skip
    yield runner
    runner.close()
    pool.close_all()


def outcome(runner, records, case, judge):
    """The outcome of a case, and its reason."""
    before = len(records)
    try:
        with runner.case(case, reproduce="pytest that") as attempt:
            judge(attempt)
    except Ended as ended:
        return ended.outcome
    (found,) = [record for record in records[before:] if isinstance(record, Outcome)]
    return found


@pytest.mark.parametrize(
    ("adapter", "status"), [("torch_eager", "ok"), ("adds_in_16_bits", "divergent")]
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sums_have_to_be_accumulated_in_float32(runner, records, adapter, status, precision):
    case = adding(adapter, precision)
    found = outcome(runner, records, case, lambda attempt: attempt.examine())
    assert found.status == status, found.reason
    assert status == "ok" or "accumulated in float32" in found.reason


def test_float32_may_add_up_in_float32(runner, records):
    case = adding("adds_in_16_bits", "fp32")
    assert outcome(runner, records, case, lambda attempt: attempt.examine()).status == "ok"


@pytest.mark.parametrize(
    ("adapter", "told"),
    [("torch_eager", ""), ("keeps_overflow", "step 1 moved parameters")],
)
def test_a_step_that_overflows_has_to_be_left_out(runner, records, adapter, told):
    case = dataclasses.replace(
        TRAINING, suite="loss_scaling", adapter=adapter, recipe="sgd_overflow"
    )
    found = outcome(runner, records, case, lambda attempt: attempt.scale_losses(STEPS))
    assert found.status == ("divergent" if told else "ok")
    assert told in found.reason


@pytest.mark.parametrize(
    ("adapter", "status"), [("torch_eager", "ok"), ("clips_scaled", "divergent")]
)
def test_the_scale_has_to_be_taken_out_before_clipping(runner, records, adapter, status):
    case = dataclasses.replace(TRAINING, adapter=adapter, recipe=CLIPPED)
    found = outcome(runner, records, case, lambda attempt: attempt.agree())
    assert found.status == status, found.reason
    assert status == "ok" or "one by one in mixed precision" in found.reason
