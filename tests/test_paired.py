"""Two arms of one case, taking turns: what is found, and what is found to blame."""

import dataclasses
import os
import sys

import pytest

import harness.gate
from adapters.registry import Registry
from harness import attempt, paired
from harness.arms import Arm
from harness.gate import Gate
from harness.pool import Pool, Settings
from harness.runner import Runner
from results import gate
from results.policy import Policy
from results.records import Case, Decision, Facts, Measurement, Outcome
from tests.test_runner import Records

CASE = Case("gate", "infer", "mlp", "tiny", "mine", "cpu", "fp32", 4)
PLAIN = """
    import time
    from tests.toys import backend

    class Program(backend.Program):
        steps = 0

        def step(self, x):
            self.steps += 1
            start = time.perf_counter()
            value = super().step(x)
            until = start + {times} * (time.perf_counter() - start)
            while time.perf_counter() < until:
                pass
            return value {error}

        def facts(self):
            return super().facts() | {{"graph_nodes": {nodes}, "compilations": {compilations}}}

        def export(self, folder):
            (folder / "model").write_bytes(bytes({size}))

    class Adapter(backend.Adapter):
        def program(self, spec):
            {crash}
            return Program(spec)
"""
USUAL = {"times": 1, "error": "", "nodes": 3, "size": 1000, "crash": "pass",
         "compilations": 1}  # fmt: skip

pytestmark = pytest.mark.usefixtures("numpy_alone")


def adapter(folder, **changes):
    folder.mkdir()
    lines = PLAIN.format(**{**USUAL, **changes}).splitlines()
    (folder / "mine.py").write_text("\n".join(line[4:] for line in lines))
    return folder


@pytest.fixture
def gated(tmp_path, monkeypatch):
    """Makes a gate on the adapter in two versions, which looks at few pairs and has no canaries."""
    monkeypatch.setattr(paired, "LOOKS", (3, 4))
    monkeypatch.setattr(harness.gate, "CANARIES", 0)
    monkeypatch.setattr(attempt, "ROUNDS", 6)
    monkeypatch.setattr(gate, "CONFIRMING", 4)
    runners = []

    def make(base, head, timeout=20.0):
        head_folder = adapter(tmp_path / "head", **head)
        inherited = os.environ["PYTHONPATH"]
        monkeypatch.setenv("PYTHONPATH", f"{head_folder}{os.pathsep}{inherited}")
        arm = Arm(folders=(adapter(tmp_path / "base", **base),), told="what was")
        pool = Pool(
            Settings(
                registry=Registry({"mine": "mine"}), python=sys.executable, scratch=tmp_path,
                threads=1, case_timeout=timeout, memory_limit=2**30, base=arm,
            )
        )  # fmt: skip
        records = Records()
        runners.append(Runner(pool, records, records))
        return Gate(runners[-1], Policy()), records

    yield make
    for runner in runners:
        runner.close()
        runner.pool.close_all()


def held(found, case=CASE):
    return {d.metric: d for d in found.decisions[case]}


def ended(records):
    (outcome,) = (o for o in records.of(Outcome) if not o.case.suite.startswith("canary"))
    return outcome


def test_what_is_slower_is_found_and_confirmed_and_what_is_the_same_is_not(gated, monkeypatch):
    monkeypatch.setattr(harness.gate, "CANARIES", 2)
    made, records = gated(base={}, head={"times": 3})
    found = made.decide({CASE: "pytest that"})
    decisions = held(found)
    assert decisions["step_time"].verdict == "regressed"
    assert decisions["step_time"].ratio > 2
    assert decisions["step_time"].stage == 2
    assert "flagged at" in decisions["step_time"].reason
    for same in ("conformance", "graph_nodes", "flops_per_step", "artifact_bytes"):
        assert decisions[same].verdict == "unchanged"
    assert not found.unreliable
    assert not found.note
    suites = [outcome.case.suite for outcome in records.of(Outcome)]
    assert suites == ["canary", "gate", "confirm_gate"]
    assert {d.base for d in records.of(Decision)} == {"what was"}
    rounds = [m for m in records.of(Measurement) if m.metric == "slowdown"]
    assert {len(m.values) for m in rounds} == {6}
    assert records.of(Facts)


def test_what_got_faster_smaller_or_has_fewer_nodes_is_improved(gated):
    made, _ = gated(base={"times": 3, "nodes": 4, "size": 2000}, head={})
    decisions = held(made.decide({CASE: "x"}))
    assert decisions["step_time"].verdict == "improved"
    assert decisions["graph_nodes"].verdict == "improved"
    assert decisions["artifact_bytes"].verdict == "improved"


def test_more_nodes_and_larger_files_are_regressions_whatever_the_speed(gated):
    made, _ = gated(base={"times": 3}, head={"nodes": 4, "size": 1020})
    decisions = held(made.decide({CASE: "x"}))
    assert decisions["graph_nodes"].verdict == "regressed"
    assert decisions["graph_nodes"].reason == "3 to 4"
    assert decisions["artifact_bytes"].verdict == "regressed"
    assert decisions["artifact_bytes"].ratio == pytest.approx(1.02)


def test_a_worse_verdict_is_a_regression(gated):
    made, _ = gated(base={}, head={"error": "* (1 + 6e-6)"})  # some roundings more
    decisions = held(made.decide({CASE: "x"}))
    assert decisions["conformance"].verdict == "regressed"
    assert "to precision-equal" in decisions["conformance"].reason


def test_what_is_wrong_has_no_speed(gated):
    made, records = gated(base={}, head={"error": "* 1.01"})
    found = made.decide({CASE: "x"})
    assert ended(records).status == "divergent"
    assert held(found)["conformance"].verdict == "regressed"
    assert "to divergent" in held(found)["conformance"].reason
    assert "step_time" not in held(found)
    assert not [d for d in records.of(Decision) if d.metric == "step_time"
                and d.case.suite == "gate"]  # fmt: skip


def test_an_arm_that_crashes_is_named_and_base_s_crash_is_no_regression(gated):
    made, records = gated(base={"crash": "import os; os.abort()"}, head={})
    found = made.decide({CASE: "x"})
    assert held(found)["step_time"].verdict == "inconclusive"
    assert held(found)["step_time"].reason.startswith("base: the worker was killed by SIGABRT")
    assert {o.status for o in records.of(Outcome)} == {"crashed"}


@pytest.mark.parametrize(
    ("suite", "crash", "told"),
    [
        ("gate", "import os; os.abort()", "crashed: the worker was killed by SIGABRT"),
        ("gate", "import time; time.sleep(60)", "timeout: no answer in time"),
        ("gate", "raise ValueError('no')", "failed: ValueError: no"),
        ("gate", "backend.require(False, 'no such thing')", "support lost: no such thing"),
        ("gate_latency", "raise MemoryError", "out_of_memory: MemoryError"),
        ("gate_memory", "import os; os.abort()", "crashed: the worker was killed by SIGABRT"),
        ("gate_cold_start", "backend.require(False, 'no')", "support lost: no"),
    ],
)
def test_what_head_cannot_do_and_base_can_is_a_regression(gated, suite, crash, told):
    made, _ = gated(base={}, head={"crash": crash}, timeout=8.0)
    case = dataclasses.replace(CASE, suite=suite)
    (decision,) = made.decide({case: "x"}).decisions[case]
    assert decision.verdict == "regressed"
    assert decision.metric == gate.SUITES[suite]
    assert decision.reason.startswith(told)
    assert decision.reason.endswith("base is fine")


@pytest.mark.parametrize("suite", ["gate", "gate_memory"])
def test_what_both_arms_fail_at_is_not_decided_and_both_are_told(gated, suite):
    made, _ = gated(
        base={"crash": "raise ValueError('old')"}, head={"crash": "import os; os.abort()"}
    )
    case = dataclasses.replace(CASE, suite=suite)
    (decision,) = made.decide({case: "x"}).decisions[case]
    assert decision.verdict == "inconclusive"
    assert "SIGABRT" in decision.reason
    assert "base: " in decision.reason
    assert "old" in decision.reason


@pytest.mark.parametrize("suite", ["gate", "gate_memory"])
def test_a_base_that_is_wrong_is_no_baseline(gated, suite):
    made, _ = gated(base={"error": "* 1.01"}, head={})
    case = dataclasses.replace(CASE, suite=suite)
    decisions = held(made.decide({case: "x"}), case)
    what = gate.SUITES[suite]
    assert decisions[what].verdict == "inconclusive"
    assert "no baseline" in decisions[what].reason
    if suite == "gate":
        assert decisions["conformance"].verdict == "improved"


@pytest.mark.parametrize("suite", ["gate_memory"])
def test_a_head_that_is_wrong_regressed_whatever_is_gated(gated, suite):
    made, _ = gated(base={}, head={"error": "* 1.01"})
    case = dataclasses.replace(CASE, suite=suite)
    (decision,) = made.decide({case: "x"}).decisions[case]
    assert decision.verdict == "regressed"
    assert decision.reason.startswith("divergent: ")


def test_where_both_are_wrong_nothing_is_decided(gated):
    made, _ = gated(base={"error": "* 1.02"}, head={"error": "* 1.01"})
    decisions = held(made.decide({CASE: "x"}))
    assert {d.verdict for d in decisions.values()} == {"inconclusive"}
    assert "and so is base" in decisions["conformance"].reason


@pytest.mark.parametrize(("arm", "verdict"), [("base", "inconclusive"), ("head", "regressed")])
def test_an_arm_that_compiles_again_while_it_is_timed_is_named(gated, arm, verdict):
    made, _ = gated(**{"base": {}, "head": {}, arm: {"compilations": "self.steps // 100"}})
    decision = held(made.decide({CASE: "x"}))["step_time"]
    assert decision.verdict == verdict
    assert "compiled again while it was timed" in decision.reason
    assert decision.reason.startswith("base: ") == (arm == "base")


def test_no_canary_starts_while_something_runs_in_the_background(gated, monkeypatch):
    monkeypatch.setattr(harness.gate, "CANARIES", 1)
    made, _ = gated(base={}, head={})
    lanes, happened = made._runner.referee.lanes, []
    waited, started = lanes.wait, Pool.client
    monkeypatch.setattr(lanes, "wait", lambda purpose: (happened.append(purpose), waited(purpose)))
    monkeypatch.setattr(
        Pool, "client",
        lambda self, role, **more: (happened.append(role.purpose), started(self, role, **more))[1],
    )  # fmt: skip
    made.decide({CASE: "x"})
    assert happened[:3] == ["judge", "remember", "fill"]
    assert happened[3] == "time"


@pytest.mark.parametrize("suite", ["gate_latency", "gate_memory", "gate_cold_start"])
def test_a_gate_without_step_times_has_canaries_of_what_it_gates(gated, monkeypatch, suite):
    monkeypatch.setattr(harness.gate, "CANARIES", 2)
    made, records = gated(base={}, head={})
    found = made.decide({dataclasses.replace(CASE, suite=suite): "x"})
    canaries = [d for d in records.of(Decision) if d.case.suite.startswith("canary")]
    assert {d.metric.replace("host_peak_bytes", "memory") for d in canaries} == {gate.SUITES[suite]}
    assert not found.note


def test_where_base_cannot_run_it_is_said_that_nothing_is_known_of_the_machine(gated, monkeypatch):
    monkeypatch.setattr(harness.gate, "CANARIES", 2)
    made, _ = gated(base={"crash": "import os; os.abort()"}, head={})
    found = made.decide({CASE: "x"})
    assert "nothing is known of how reliable the machine is" in found.note
    assert "base: the worker was killed by SIGABRT" in found.note


def test_what_was_decided_is_not_measured_again_and_what_was_flagged_is_confirmed(gated):
    made, records = gated(base={}, head={"times": 3})
    first = made.decide({CASE: "x"})
    known = {CASE: [d for d in records.of(Decision) if d.case == CASE and d.stage == 1]}
    assert held(first)["step_time"].stage == 2
    records.clear()
    again = made.decide({CASE: "x"}, known=known)  # stopped before the second stage
    assert [o.case.suite for o in records.of(Outcome)] == ["confirm_gate"]
    assert held(again)["step_time"].stage == 2
    own = dataclasses.replace(CASE, suite="confirm_gate")
    known[own] = [d for d in records.of(Decision) if d.case == own]
    records.clear()
    again = made.decide({CASE: "x"}, known=known)  # stopped after it
    assert records.of(Outcome) == []
    assert held(again)["step_time"].stage == 2


def test_latency_memory_and_cold_start(gated):
    made, _ = gated(base={}, head={"times": 3, "crash": "import time; time.sleep(0.7)"})
    names = ("gate_latency", "gate_memory", "gate_cold_start")
    cases = [dataclasses.replace(CASE, suite=name, batch=1) for name in names]
    found = made.decide(dict.fromkeys(cases, "x"))
    latency, memory, cold = (held(found, case) for case in cases)
    assert latency["latency"].verdict == "regressed"
    assert memory["host_peak_bytes"].verdict == "unchanged"
    assert cold["cold_start"].verdict == "regressed"
    assert cold["cold_start"].ratio > 1.5


def test_a_policy_that_gates_nothing_of_a_case_says_so(gated):
    made, records = gated(base={}, head={})
    made = Gate(made._runner, Policy(everything={"step_time": None}))
    found = made.decide({CASE: "x"})
    assert found.decisions[CASE] == []
    assert ended(records).status == "unsupported"
    assert "the policy says so" in ended(records).reason


@pytest.mark.parametrize("suite", ["gate", "gate_memory", "gate_cold_start"])
def test_what_neither_arm_can_do_is_unsupported_and_nobody_s_fault(gated, suite):
    made, records = gated(base={}, head={})
    case = dataclasses.replace(CASE, suite=suite, mode="train")
    found = made.decide({case: "x"})
    assert found.decisions[case] == []
    assert ended(records).status == "unsupported"
    assert ended(records).reason == "the toy backend runs inference only"
