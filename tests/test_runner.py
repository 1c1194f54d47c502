"""The way of a case: exactly one outcome each, whatever happens."""

import dataclasses

import pytest

from harness.client import WorkerFailure
from harness.runner import Ended, Runner
from results.records import Agreement, Case, Facts, Measurement, Outcome

CASE = Case("conformance", "infer", "mlp", "tiny", "backend", "cpu", "fp64", 4)


class Records(list):
    """Sink and listener."""

    def phase(self, case, phase):
        pass

    def ended(self, outcome, note):
        pass

    def of(self, kind):
        return [record for record in self if isinstance(record, kind)]


@pytest.fixture
def records():
    return Records()


@pytest.fixture
def runner(toys, records):
    runner = Runner(toys, records, records)
    yield runner
    runner.close()


def agree(runner, case):
    with runner.case(case, reproduce="pytest that") as attempt:
        attempt.agree()


def require_conformance(runner, case):
    with runner.case(case, reproduce="x") as attempt:
        attempt.require_conformance()


def outcome_of(runner, **changes):
    with pytest.raises(Ended) as caught:
        agree(runner, dataclasses.replace(CASE, **changes))
    return caught.value.outcome


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_a_right_backend_is_ok_without_any_framework(runner, records, precision):
    agree(runner, dataclasses.replace(CASE, precision=precision))
    (outcome,) = records.of(Outcome)
    assert (outcome.status, outcome.reason, outcome.reproduce) == ("ok", "", "pytest that")
    assert {row.quantity for row in records.of(Agreement)} == {"output"}
    verdicts = {row.verdict for row in records.of(Agreement)}
    assert verdicts <= ({"identical"} if precision == "fp64" else {"rounding-equal"})


@pytest.mark.parametrize(
    ("adapter", "status", "told"),
    [
        ("sleeps", "timeout", "not done after 2 s, in phase 'agree'"),
        ("hogs", "out_of_memory", "above the limit"),
        ("raises", "failed", "RuntimeError: the toy <b>kernel</b> refused"),
        ("returns_nan", "divergent", "output output: normwise error inf"),
        ("segfaults", "crashed", "SIGSEGV"),
        ("needs_missing_package", "unsupported", "is not installed"),
    ],
)
def test_every_failure_is_one_named_outcome_and_the_run_goes_on(
    runner, records, toys, adapter, status, told
):
    limit = 2.0 if adapter == "sleeps" else 20.0
    toys.settings = dataclasses.replace(toys.settings, case_timeout=limit)
    outcome = outcome_of(runner, adapter=adapter)
    assert (outcome.status, outcome.case.adapter) == (status, adapter)
    assert told in outcome.reason
    agree(runner, CASE)
    assert [o.status for o in records.of(Outcome)] == [status, "ok"]


def test_a_wrong_epsilon_is_divergent_in_float64(runner):
    outcome = outcome_of(runner, adapter="wrong_epsilon", model="vit")
    assert outcome.status == "divergent"
    assert "but should be at most 1e-10" in outcome.reason


def test_training_is_unsupported_by_a_backend_for_inference(runner):
    assert outcome_of(runner, mode="train").status == "unsupported"


def test_ctrl_c_is_an_outcome_too(runner, records):
    with pytest.raises(KeyboardInterrupt), runner.case(CASE, reproduce="x") as attempt:
        attempt.now = "warm up"
        raise KeyboardInterrupt
    (outcome,) = records.of(Outcome)
    assert outcome.status == "interrupted"
    assert "warm up" in outcome.reason


def test_an_error_of_assay_s_own_is_recorded_and_raised(runner, records):
    with pytest.raises(ZeroDivisionError), runner.case(CASE, reproduce="x"):
        raise ZeroDivisionError
    assert "in Assay itself" in records.of(Outcome)[0].reason


def test_what_does_not_conform_is_not_measured(runner):
    outcome_of(runner, adapter="wrong_epsilon", model="vit")
    measured = dataclasses.replace(
        CASE, suite="performance", adapter="wrong_epsilon", model="vit", precision="fp32"
    )
    with pytest.raises(Ended) as caught:
        require_conformance(runner, measured)
    assert caught.value.outcome.status == "divergent"
    assert "not measured, because infer/vit/tiny/wrong_epsilon" in caught.value.outcome.reason


def test_another_adapter_s_divergence_does_not_matter(runner):
    outcome_of(runner, adapter="wrong_epsilon", model="vit")
    measured = dataclasses.replace(CASE, suite="performance", model="vit", precision="fp32")
    require_conformance(runner, measured)


def test_a_case_is_measured(runner, records):
    case = dataclasses.replace(CASE, suite="performance", precision="fp32")
    with runner.case(case, reproduce="x") as attempt:
        attempt.prepare_reference()
        client = attempt.start(fresh=False)
        attempt.agree_in_place(client)
        steps = attempt.warm_up(client)
        attempt.record_rounds([attempt.block(client, steps) for _ in range(3)], steps)
        attempt.prove(client)
        attempt.remember()
    metrics = {m.metric: m for m in records.of(Measurement)}
    assert set(metrics) == {
        "import_time", "build_time", "first_call_time", "step_time", "throughput",
        "host_peak_bytes", "compile_peak_bytes",
    }  # fmt: skip
    for step, rate in zip(metrics["step_time"].values, metrics["throughput"].values, strict=True):
        assert step * rate == pytest.approx(case.batch)
    assert records.of(Facts)[0].facts["parameter_dtypes"] == ["float32"]
    assert [type(r) for r in records][-1] is Outcome


def test_varying_page_faults_are_flagged(runner, records):
    with runner.case(CASE, reproduce="x") as attempt:
        blocks = [{"seconds": 1.0, "minor_faults": n} for n in (0, 5000)]
        attempt.record_rounds(blocks, 10)
        attempt.remember()
    flags = {m.metric: m.flags for m in records.of(Measurement)}
    assert flags["step_time"] == flags["throughput"] == ("allocator_bound",)
    assert flags["host_peak_bytes"] == ()


def test_a_failure_names_its_status():
    assert str(WorkerFailure("crashed", "gone")) == "crashed: gone"


def test_a_member_of_the_oracle_that_fails_is_told_in_every_reference(runner, records, monkeypatch):
    monkeypatch.setattr("harness.referee.ORACLE", ("backend", "segfaults"))
    agree(runner, dataclasses.replace(CASE, precision="fp32"))
    (row,) = records.of(Agreement)
    assert row.reference.startswith("median of numpy, backend in float64; without segfaults (")
    assert "SIGSEGV" in row.reference
