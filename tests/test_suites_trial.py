"""The part of the judge's trial that plants faults in what other suites run."""

import dataclasses
import math

import pytest

from adapters import faults
from adapters.faults import FAULTS
from harness import suites_trial
from harness.runner import Runner
from harness.suites_trial import SuitesTrial, movement
from numerics.judge import Judgement
from suites.conformance import operations
from tests.test_runner import Records


def row(error, tensor="usual", floor=None, verdict="identical"):
    return Judgement("output", tensor, error, floor, None, verdict, "numpy")


def test_a_fault_moved_a_tensor_by_what_its_error_grew():
    moved = movement([row(1e-12)], [row(1e-6, verdict="divergent")])
    assert moved.is_live
    assert moved.error == pytest.approx(1e-6, rel=1e-3)
    assert moved.tensor == "output usual"
    assert movement([row(1e-12)], [row(math.inf)]).is_live


def test_what_was_as_wrong_before_or_is_rounding_was_not_moved_by_the_fault():
    assert not movement([row(1e-6)], [row(1e-6, verdict="divergent")]).is_live
    assert not movement([row(0.0, floor=1e-7)], [row(1e-6, floor=1e-7)]).is_live
    assert not movement([], []).is_live
    # of many sizes the worst is told, which is another one with the fault
    assert not movement([row(1e-6, "n=3")], [row(1.0000001e-6, "n=17")]).is_live
    assert movement([row(1e-12, "n=3")], [row(1e-3, "n=17")]).is_live


@pytest.fixture
def trial(toys, numpy_alone, monkeypatch):
    """A trial that plants `planted`, of the suite of operations, in toys."""
    records = Records()
    runner = Runner(toys, records, records)

    def make(*planted, adapters=("backend",), table=None):
        chosen = {name: FAULTS[name] for name in planted}
        monkeypatch.setattr(suites_trial, "FAULTS", chosen)
        asked = operations.exercises() if table is None else table
        return SuitesTrial(toys, runner.referee, adapters, {"operations": (asked, 0)}, models=())

    yield make
    runner.close()


def test_a_fault_of_an_operation_is_caught_by_its_exercise_alone(trial):
    findings = trial("exp_tail", "batch_above_16", "momentum_lost").run()
    plantings, rows = findings.plantings, findings.rows
    assert findings.failures == []
    assert [p.fault for p in plantings] == ["exp_tail", "batch_above_16"]  # mlp is not selected
    for planting in plantings:
        assert planting.movement.is_live
        assert (planting.caught, planting.accused) == (("fp64",), ())
    of = {kind: [r for r in rows if r.kind == kind] for kind in ("fault", "honest")}
    assert {r.tensor for r in of["fault"]} == {"far below 0 alone", "batch of 33"}
    assert {r.name for r in of["fault"]} == {"exp_tail", "batch_above_16"}
    assert not [r for r in of["honest"] if r.verdict in ("divergent", "mistrusted")]


def test_a_judge_that_sees_nothing_misses_a_live_fault(trial, monkeypatch):
    sound = suites_trial.judge.IDENTITY
    test = trial("exp_tail")
    monkeypatch.setattr(suites_trial, "_bad", lambda rows: False)
    (planting,) = test.run().missed
    assert planting.movement.is_live
    assert planting.movement.error > sound
    assert planting.caught == ()


def test_a_fault_that_changes_nothing_is_dead(trial, monkeypatch):
    dead = dataclasses.replace(FAULTS["exp_tail"], exercise="above 0 alone")
    findings = trial_of(trial, dead, monkeypatch)
    assert [p.fault for p in findings.dead] == ["exp_tail"]
    assert {r.kind for r in findings.rows} == {"dead", "honest"}


def trial_of(trial, fault, monkeypatch):
    test = trial(fault.name)
    monkeypatch.setitem(faults.FAULTS, fault.name, fault)
    monkeypatch.setattr(suites_trial, "FAULTS", {fault.name: fault})
    return test.run()


def test_an_adapter_that_cannot_do_it_is_passed_over(trial):
    adapters = ("needs_missing_package", "backend")
    (planting,) = trial("sigmoid_tail", adapters=adapters).run().plantings
    assert planting.adapter == "backend"
    (problem,) = trial("sigmoid_tail", adapters=adapters[:1]).run().failures
    assert "sigmoid_tail" in problem
    assert "is not installed" in problem


def test_an_exercise_that_is_gone_is_told_and_keeps_nothing_else_from_being_tried(trial):
    table = [exercise for exercise in operations.exercises() if exercise.subject == "sigmoid"]
    findings = trial("exp_tail", "sigmoid_tail", table=table).run()
    (problem,) = findings.failures
    assert "operations has no exercise exp/far below 0 alone" in problem
    assert [p.fault for p in findings.plantings] == ["sigmoid_tail"]
