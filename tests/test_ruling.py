"""The one list that everything follows from which a gate says."""

import dataclasses

import pytest

from harness import revision
from harness.arms import Arm
from results.records import Case, Decision, Outcome
from results.ruling import rulings

CASE = Case("gate", "infer", "mlp", "tiny", "mine", "cpu", "fp32", 4)
TIMES = {"ratio": 1.2, "p": 0.001}


def decision(verdict, metric="step_time", case=CASE, **more):
    return Decision(case, metric, verdict, "old", **more)


def outcome(status="ok", case=CASE):
    return Outcome(case, status, "" if status == "ok" else "because", 1.0, "pytest that")


def ruled(decisions=(), *outcomes, cases=(CASE,)):
    return rulings(cases, decisions, {o.case: o for o in outcomes}, base="old")


def test_every_selected_case_is_in_it_in_order_and_once():
    cases = [dataclasses.replace(CASE, model=name) for name in ("b", "a", "c")]
    found = ruled([], cases=[*cases, cases[0]])
    assert [one.case for one in found] == cases
    assert all(d.verdict == "inconclusive" for one in found for d in one.decisions)
    assert "the run was stopped" in found[0].decisions[0].reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [("crashed", "crashed: because"), ("failed", "failed: because"), ("interrupted", "because"),
     ("mistrusted", "mistrusted: because"), ("ok", "nothing could be compared")],
)  # fmt: skip
def test_a_case_without_a_decision_is_not_decided(status, reason):
    (one,) = ruled([], outcome(status))
    assert [(d.verdict, d.metric, d.reason) for d in one.decisions] == [
        ("inconclusive", "step_time", reason)
    ]


def test_what_was_compared_before_a_case_was_stopped_does_not_pass_for_all_of_it():
    (one,) = ruled([decision("unchanged", "conformance")], outcome("interrupted"))
    assert {d.metric: d.verdict for d in one.decisions} == {
        "conformance": "unchanged", "step_time": "inconclusive",
    }  # fmt: skip


def test_what_neither_side_supports_is_not_gated():
    (one,) = ruled([], outcome("unsupported"))
    assert (one.decisions, one.ungated) == ((), "because")


def test_what_was_flagged_and_not_measured_again_is_not_decided():
    (one,) = ruled([decision("regressed", **TIMES)], outcome())
    assert one.decisions[0].verdict == "inconclusive"
    assert "flagged at 1.200, but not confirmed" in one.decisions[0].reason
    (one,) = ruled([decision("regressed", **TIMES), decision("regressed", stage=2, **TIMES)],
                   outcome())  # fmt: skip
    assert [d.verdict for d in one.decisions] == ["regressed"]


def test_the_code_of_a_run_changes_with_any_byte_of_any_module(tmp_path):
    for name in (*revision.PACKAGES, "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("x = 1")
    seen = {revision.of(tmp_path, [tmp_path / "mine"])}
    for name in (*revision.PACKAGES, "mine"):
        (tmp_path / name / "x.py").write_text("x = 2")
        seen.add(revision.of(tmp_path, [tmp_path / "mine"]))
    (tmp_path / "mine" / "x.py").rename(tmp_path / "mine" / "y.py")
    seen.add(revision.of(tmp_path, [tmp_path / "mine"]))
    assert len(seen) == len(revision.PACKAGES) + 3


def test_the_code_of_base_includes_what_its_interpreter_has(tmp_path):
    python = tmp_path / "python"
    seen = set()
    for version in ("1.0", "2.0"):
        python.write_text(f"#!/bin/sh\necho torch=={version}\n")
        python.chmod(0o755)
        seen.add(revision.of_arm(Arm(python=str(python), project=tmp_path)))
    assert len(seen) == 2
