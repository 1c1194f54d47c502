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
        def step(self, x):
            start = time.perf_counter()
            value = super().step(x)
            until = start + {times} * (time.perf_counter() - start)
            while time.perf_counter() < until:
                pass
            return value {error}

        def facts(self):
            return super().facts() | {{"graph_nodes": {nodes}}}

        def export(self, folder):
            (folder / "model").write_bytes(bytes({size}))

    class Adapter(backend.Adapter):
        def program(self, spec):
            {crash}
            return Program(spec)
"""
USUAL = {"times": 1, "error": "", "nodes": 3, "size": 1000, "crash": "pass"}

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

    def make(base, head):
        head_folder = adapter(tmp_path / "head", **head)
        inherited = os.environ["PYTHONPATH"]
        monkeypatch.setenv("PYTHONPATH", f"{head_folder}{os.pathsep}{inherited}")
        arm = Arm(folders=(adapter(tmp_path / "base", **base),), told="what was")
        pool = Pool(
            Settings(
                registry=Registry({"mine": "mine"}), python=sys.executable, scratch=tmp_path,
                threads=1, case_timeout=20.0, memory_limit=2**30, base=arm,
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


def test_what_is_slower_is_found_and_confirmed_and_what_is_the_same_is_not(gated, monkeypatch):
    monkeypatch.setattr(harness.gate, "CANARIES", 2)
    made, records = gated(base={}, head={"times": 3})
    found = made.decide({CASE: "pytest that"})
    decisions = held(found)
    assert decisions["step_time"].verdict == "regressed"
    assert 2 < decisions["step_time"].ratio < 4.5
    assert decisions["step_time"].stage == 2
    assert "flagged at" in decisions["step_time"].reason
    for same in ("conformance", "graph_nodes", "flops_per_step", "artifact_bytes"):
        assert decisions[same].verdict == "unchanged"
    assert not found.unreliable
    assert found.outcomes == {}
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
    assert found.outcomes[CASE].status == "divergent"
    assert "step_time" not in held(found)
    assert not [d for d in records.of(Decision) if d.metric == "step_time"
                and d.case.suite == "gate"]  # fmt: skip


def test_an_arm_that_crashes_is_named_and_base_s_crash_is_no_regression(gated):
    made, records = gated(base={"crash": "import os; os.abort()"}, head={})
    found = made.decide({CASE: "x"})
    assert held(found)["step_time"].verdict == "inconclusive"
    assert held(found)["step_time"].reason.startswith("base: the worker was killed by SIGABRT")
    assert found.outcomes == {}
    assert {o.status for o in records.of(Outcome)} == {"crashed"}


def test_head_s_crash_is_the_case_s_outcome(gated):
    made, _ = gated(base={}, head={"crash": "import os; os.abort()"})
    found = made.decide({CASE: "x"})
    assert found.outcomes[CASE].status == "crashed"
    assert found.outcomes[CASE].reason.startswith("the worker was killed by SIGABRT")
    assert found.decisions[CASE] == []


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
    made, _ = gated(base={}, head={})
    made = Gate(made._runner, Policy(everything={"step_time": None}))
    found = made.decide({CASE: "x"})
    assert found.outcomes[CASE].status == "unsupported"
    assert "the policy says so" in found.outcomes[CASE].reason


@pytest.mark.parametrize("suite", ["gate", "gate_memory", "gate_cold_start"])
def test_what_neither_arm_can_do_is_unsupported_and_nobody_s_fault(gated, suite):
    made, _ = gated(base={}, head={})
    case = dataclasses.replace(CASE, suite=suite, mode="train")
    found = made.decide({case: "x"})
    assert found.decisions[case] == []
    assert found.outcomes[case].status == "unsupported"
    assert found.outcomes[case].reason == "the toy backend runs inference only"
