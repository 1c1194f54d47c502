"""The way of a case: exactly one outcome each, whatever happens."""

import dataclasses
import importlib.util

import pytest

from harness.attempt import ROUNDS
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
    assert {row.quantity for row in records.of(Agreement)} == {
        "output", "output@2", "output@3", "unseen"
    }  # fmt: skip
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
        client = attempt.start()
        attempt.agree_in_place(client)
        attempt.prove(client)
        attempt.measure(client, attempt.warm_up(client))
        attempt.single(client, "dispatch", "dispatch_time")
        attempt.single(client, "transfer", "transfer_time")
        attempt.count()
    metrics = {m.metric: m for m in records.of(Measurement)}
    assert set(metrics) == {
        "step_time", "throughput", "dispatch_time", "transfer_time", "flops_per_step",
        "bytes_per_step",
    }  # fmt: skip
    assert len(metrics["step_time"].values) == ROUNDS
    for step, rate in zip(metrics["step_time"].values, metrics["throughput"].values, strict=True):
        assert step * rate == pytest.approx(case.batch)
    assert metrics["step_time"].conditions["cpu_over_wall"] > 0
    assert records.of(Facts)[0].facts["parameter_dtypes"] == ["float32"]
    outcome = records[-1]
    assert isinstance(outcome, Outcome)
    assert {"build", "first call", "warm up", "rounds", "single calls"} <= set(outcome.phases)
    assert sum(outcome.phases.values()) == pytest.approx(outcome.seconds, rel=0.05)


def test_where_the_seconds_of_a_run_went(runner):
    assert set(runner.spent()) == {"measured", "judged", "cases", "rest"}
    agree(runner, CASE)
    after_judging = runner.spent()
    case = dataclasses.replace(CASE, suite="latency", precision="fp32")
    with runner.case(case, reproduce="x") as attempt:
        client = attempt.start()
        attempt.warm_up(client)
        attempt.latency(client)
    spent = runner.spent()
    booked = [sum(outcome.phases.values()) for outcome in runner.outcomes]
    assert sum(spent.values()) - spent["rest"] == pytest.approx(sum(booked))
    assert after_judging["measured"] == 0 < after_judging["judged"]
    assert spent["measured"] > 0.3  # the warm-up alone
    assert spent["judged"] > after_judging["judged"]  # on an unseen batch, after timing


def test_a_cold_start_is_taken_apart(runner, records):
    case = dataclasses.replace(CASE, suite="cold_start", precision="fp32")
    with runner.case(case, reproduce="x") as attempt:
        client = attempt.cold_start()
        attempt.end("cold")
        attempt.warm_start()
    assert not client.alive
    metrics = {m.metric for m in records.of(Measurement)}
    # the toy neither traces nor compiles, and keeps no cache
    assert metrics == {"import_time", "build_time", "first_call_time"}


def test_a_warm_cache_is_what_an_earlier_process_left(runner, records):
    case = dataclasses.replace(CASE, suite="cold_start", adapter="caches", precision="fp32")
    with runner.case(case, reproduce="x") as attempt:
        attempt.cold_start()
        attempt.warm_start()
    values = {m.metric: m.values[0] for m in records.of(Measurement)}
    assert values["trace_time"] == 0.25
    assert 0 < values["compile_time"] < values["first_call_time"]
    assert values["first_call_time_warm_cache"] < values["first_call_time"]


@pytest.mark.parametrize("suite", ["performance", "latency", "overhead"])
def test_a_retrace_while_timing_is_a_failure_and_a_flag(runner, records, suite):
    case = dataclasses.replace(CASE, suite=suite, adapter="retraces", precision="fp32")
    with pytest.raises(Ended, match="compiled again while it was timed"):
        measured(runner, case)
    assert records.of(Outcome)[0].status == "failed"
    assert all("recompiled" in m.flags for m in records.of(Measurement))


def measured(runner, case):
    with runner.case(case, reproduce="x") as attempt:
        client = attempt.start()
        steps = attempt.warm_up(client)
        if case.suite == "latency":
            attempt.latency(client)
        elif case.suite == "overhead":
            attempt.alternate(client, attempt.start(adapter="backend"), steps)
        else:
            attempt.measure(client, steps)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_a_silent_fallback_is_a_failure_in_conformance_too(runner, precision):
    case = dataclasses.replace(CASE, adapter="falls_back", precision=precision)
    if precision == "fp64":  # float64 is what it runs, so here it is right
        agree(runner, case)
    else:
        with pytest.raises(Ended, match="silent fallback: parameters are float64, but should be"):
            agree(runner, case)


def test_a_graph_break_in_torch_compile_is_a_failure(runner, toys):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    toys.settings = dataclasses.replace(toys.settings, case_timeout=120.0, memory_limit=2**33)
    case = dataclasses.replace(CASE, adapter="breaks_graph")
    with pytest.raises(Ended, match=r"silent fallback: \d+ graph breaks?, but should be none"):
        agree(runner, case)


PHASES = ["reference", "start", "build", "first call", "agree", "facts", "warm up", "rounds",
          "single calls"]  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_in_any_phase_loses_nothing(toys, records, phase):
    case = dataclasses.replace(CASE, suite="performance", precision="fp32")

    class Pressing(Records):
        def phase(self, case, name):
            if name == phase:
                raise KeyboardInterrupt

    runner = Runner(toys, records, Pressing())
    with pytest.raises(KeyboardInterrupt), runner.case(case, reproduce="x") as attempt:
        attempt.prepare_reference()
        client = attempt.start()
        attempt.agree_in_place(client)
        attempt.prove(client)
        attempt.measure(client, attempt.warm_up(client))
        attempt.single(client, "transfer", "transfer_time")
    runner.close()
    assert toys.pids() == []
    outcome = records[-1]
    assert (outcome.status, len(records.of(Outcome))) == ("interrupted", 1)
    assert phase in outcome.reason
    measured = {m.metric for m in records.of(Measurement)}
    assert measured == ({"step_time", "throughput"} if phase == "single calls" else set())


def test_memory_is_measured_in_several_processes(runner, records):
    case = dataclasses.replace(CASE, suite="memory", precision="fp32")
    with runner.case(case, reproduce="x") as attempt:
        attempt.remember(3)
    processes = [m.process for m in records.of(Measurement) if m.metric == "host_peak_bytes"]
    assert processes == [0, 1, 2]
    assert records.of(Agreement)


@pytest.mark.parametrize("metric", ["host_peak_bytes", "step_peak_bytes"])
def test_a_temporary_of_64_mib_is_read_within_2_percent(runner, records, metric):
    peaks = {}
    for adapter in ("backend", "temporary"):
        case = dataclasses.replace(CASE, suite="memory", adapter=adapter, precision="fp32")
        with runner.case(case, reproduce="x") as attempt:
            attempt.remember(1)
        (found,) = (m for m in records.of(Measurement) if (m.case, m.metric) == (case, metric))
        peaks[adapter] = found.values[0]
    assert peaks["temporary"] - peaks["backend"] == pytest.approx(2**26, rel=0.02)


def test_latency_is_of_single_calls(runner, records):
    case = dataclasses.replace(CASE, suite="latency", precision="fp32", batch=1)
    with runner.case(case, reproduce="x") as attempt:
        client = attempt.start()
        attempt.agree_in_place(client)
        attempt.warm_up(client)
        attempt.latency(client)
    (latency,) = records.of(Measurement)
    assert latency.metric == "latency"
    assert len(latency.values) >= 200


def test_varying_page_faults_are_flagged(runner, records):
    with runner.case(CASE, reproduce="x") as attempt:
        blocks = [{"seconds": 1.0, "minor_faults": n} for n in (0, 5000)]
        calm = {"cpu_seconds": 1.0, "involuntary_switches": 0, "device_seconds": None}
        attempt.record_rounds([block | calm for block in blocks], 10)
    flags = {m.metric: m.flags for m in records.of(Measurement)}
    assert flags["step_time"] == flags["throughput"] == ("allocator_bound",)


def test_a_failure_names_its_status():
    assert str(WorkerFailure("crashed", "gone")) == "crashed: gone"


def test_a_member_of_the_oracle_that_fails_is_told_in_every_reference(runner, records, monkeypatch):
    monkeypatch.setattr("harness.referee.ORACLE", ("backend", "segfaults"))
    agree(runner, dataclasses.replace(CASE, precision="fp32"))
    for row in records.of(Agreement):
        assert row.reference.startswith("median of numpy, backend in float64; without segfaults (")
        assert "SIGSEGV" in row.reference


@pytest.mark.parametrize("timed", ["measure", "latency"])
def test_what_is_wrong_on_an_unseen_batch_after_timing_has_no_speed(runner, records, timed):
    case = dataclasses.replace(
        CASE, suite="performance", adapter="remembers", precision="fp32", batch=8
    )
    with pytest.raises(Ended) as caught, runner.case(case, reproduce="x") as attempt:
        attempt.prepare_reference()
        client = attempt.start()
        attempt.agree_in_place(client)  # right, for now
        steps = attempt.warm_up(client)
        if timed == "measure":
            attempt.measure(client, steps)
        else:
            attempt.latency(client)
    assert caught.value.outcome.status == "divergent"
    assert caught.value.outcome.reason.startswith("unseen output")
    assert not {"step_time", "latency"} & {m.metric for m in records.of(Measurement)}
