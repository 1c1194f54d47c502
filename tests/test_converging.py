"""Training to a goal: what is trained, what is recorded, and who is accused of what."""

import dataclasses
import itertools
import math

import pytest

from adapters import model as models
from adapters.registry import Registry
from harness import convergence as training
from harness.attempt import Attempt
from harness.pool import Role
from harness.requests import Requests
from harness.runner import Ended, Runner
from numerics.convergence import LEVEL
from results.records import Agreement, Case, Facts, Measurement, Outcome

NEVER = math.inf
MLP = models.get("mlp")
CASE = Case("convergence", "train", "mlp", "tiny", "trains", "cpu", "fp32", 32, "adamw_fast")
TOYS = ("trains", "trains_too", "learns_late", "learns_nothing")


@pytest.fixture
def pool(toys):
    modules = {name: f"tests.toys.{name}" for name in TOYS}
    toys.settings = dataclasses.replace(
        toys.settings, registry=Registry(modules), memory_limit=2**31
    )
    return toys


class Records(list):
    """Sink and listener."""

    def phase(self, case, phase):
        pass

    def ended(self, outcome, note):
        self.note = note

    def of(self, kind):
        return [record for record in self if isinstance(record, kind)]


@pytest.fixture
def records():
    return Records()


@pytest.fixture
def runner(pool, records):
    runner = Runner(pool, records, records)
    yield runner
    runner.close()


def only(pool, *names):
    modules = {name: f"tests.toys.{name}" for name in names}
    pool.settings = dataclasses.replace(pool.settings, registry=Registry(modules))


def converge(runner, case, seeds, families=1):
    with runner.case(case, reproduce="x") as attempt:
        attempt.converge(seeds, families=families)


def test_a_curve_ends_where_the_goal_is_reached(pool):
    (first, second) = training.curves(pool, CASE, Role("trains", "judge"), seeds=2)
    for curve in (first, second):
        assert [entry["step"] for entry in curve] == list(range(10, 10 * len(curve) + 1, 10))
        assert all(entry["score"] < MLP.goal.target for entry in curve[:-1])
        assert curve[-1]["score"] >= MLP.goal.target
        seconds = [entry["seconds"] for entry in curve]
        assert seconds == sorted(seconds)
        assert seconds[0] > 0
        assert training.steps_to_target("mlp", curve) == 10 * len(curve)
        assert training.steps_to_target("mlp", curve[:-1]) == NEVER
    assert first != second


def test_who_converges_is_ok_and_its_curves_are_kept(runner, records, pool):
    only(pool, "trains", "trains_too")
    converge(runner, CASE, 2)
    (outcome,), (facts,), (steps,) = (records.of(k) for k in (Outcome, Facts, Measurement))
    assert outcome.status == "ok"
    told = facts.facts["convergence"]
    assert (told["score"], told["target"], told["rising"]) == ("accuracy", 0.95, True)
    assert told["compared_with"] == ["trains_too"]
    assert told["p_later"] == 1  # the other does the same
    assert told["p_least"] == pytest.approx(2**-2 * 2)
    assert steps.metric == "steps_to_target"
    assert list(steps.values) == [curve[-1]["step"] for curve in told["curves"]]


def test_who_comes_later_is_divergent_and_who_does_not_is_ok(runner, records, pool):
    only(pool, "trains", "trains_too", "learns_late")
    seeds = 6  # 3 * 3^-6 is 0.4%
    with pytest.raises(Ended) as caught:
        converge(runner, dataclasses.replace(CASE, adapter="learns_late"), seeds)
    outcome = caught.value.outcome
    assert outcome.status == "divergent"
    assert "converges later than the other adapters (p = 4.1e-03)" in outcome.reason
    assert "trains_too" in outcome.reason
    for adapter in ("trains", "trains_too"):
        converge(runner, dataclasses.replace(CASE, adapter=adapter), seeds)


def test_with_two_seeds_who_comes_later_is_not_accused(runner, records, pool):
    only(pool, "trains", "learns_late")
    converge(runner, dataclasses.replace(CASE, adapter="learns_late"), 2)
    (facts,) = records.of(Facts)
    assert facts.facts["convergence"]["p_least"] > LEVEL


def test_a_goal_that_is_not_reached_is_divergent_and_says_how_far_it_came(runner, pool):
    only(pool, "learns_nothing")
    with pytest.raises(Ended) as caught:
        converge(runner, dataclasses.replace(CASE, adapter="learns_nothing"), 1)
    assert caught.value.outcome.status == "divergent"
    reason = caught.value.outcome.reason
    assert "accuracy 0.95 is not reached in 800 steps with 1 of 1 seeds; it ends at 0." in reason


def in_process(pool, fault="", *, seeds=(0,), to_the_end=False):
    """Curves of the toy in this process, by seed."""
    data, inputs = str(training.write(pool, CASE)), str(pool.inputs(CASE))
    requests = Requests("tests.toys.trains")
    requests.build(spec=pool.spec(CASE, Role("trains", "judge"), fault=fault), inputs=inputs)
    return [
        requests.converge(data=data, inputs=inputs, seed=seed, to_the_end=to_the_end)["curve"]
        for seed in seeds
    ]


def test_a_planted_fault_of_the_recipe_comes_later(pool):
    """Through `Spec.fault`, as the judge's own trial plants it."""
    ((sound,), (faulty,)) = in_process(pool), in_process(pool, "adam_betas_swapped")
    steps = [training.steps_to_target("mlp", curve) for curve in (sound, faulty)]
    assert steps[0] < NEVER
    assert steps[1] > 1.3 * steps[0]


def test_a_fault_that_trains_as_well_is_not_seen_here(pool):
    """What is wrong and converges all the same is what updates are judged for."""
    ((sound,), (faulty,)) = in_process(pool), in_process(pool, "adam_decay_0.004")
    assert [entry["loss"] for entry in sound[:5]] != [entry["loss"] for entry in faulty[:5]]
    steps = [training.steps_to_target("mlp", curve) for curve in (sound, faulty)]
    assert steps[1] < 1.3 * steps[0]


def test_training_to_the_end_goes_on_where_the_goal_is_reached(pool):
    (curve,) = in_process(pool, to_the_end=True)
    assert curve[-1]["step"] == MLP.goal.steps


def test_the_same_seed_has_the_same_curve_after_another(pool):
    """Nothing of a training stays in the program."""
    first, _, again = (
        [(entry["loss"], entry["score"]) for entry in curve]
        for curve in in_process(pool, seeds=(0, 1, 0))
    )
    assert first == again


# -- the time until a goal -------------------------------------------------------------------------

TIMED = dataclasses.replace(CASE, suite="time_to_target")


def timed(runner, case, seeds=2):
    with runner.case(case, reproduce="x") as attempt:
        attempt.prepare_reference()
        attempt.time_to_target(seeds)


@pytest.fixture
def by_trains(monkeypatch):
    """The toy is its own oracle."""
    monkeypatch.setattr("harness.referee.ORACLE", ("trains", "trains_too"))


def test_the_time_to_a_goal_is_recorded_with_its_steps(runner, records, pool, by_trains):
    timed(runner, TIMED)
    measured = {m.metric: m for m in records.of(Measurement)}
    assert set(measured) == {"steps_to_target", "time_to_target"}
    assert all(value > 0 for value in measured["time_to_target"].values)
    assert len(measured["time_to_target"].values) == 2
    (told,) = (f.facts["convergence"] for f in records.of(Facts) if "convergence" in f.facts)
    ends = [curve[-1] for curve in told["curves"]]
    assert measured["time_to_target"].values == tuple(end["seconds"] for end in ends)
    assert measured["steps_to_target"].values == tuple(end["step"] for end in ends)
    assert measured["time_to_target"].conditions
    (outcome,) = records.of(Outcome)
    assert outcome.status == "ok"
    assert {"build", "rounds", "agree", "facts"} <= set(outcome.phases)
    # the tensors that were judged are those of the case's own parameters, not of the last seed's
    verdicts = {row.verdict for row in records.of(Agreement)}
    assert verdicts <= {"bitwise", "rounding-equal", "precision-equal"}
    assert "cold" not in {role.purpose for role in pool._clients}


def test_compiling_again_after_the_first_seed_is_a_flag_and_a_failure(
    runner, records, by_trains, monkeypatch
):
    counts = itertools.count(1)
    told = lambda self, client: {"compilations": next(counts), "graph_breaks": None}  # noqa: E731
    monkeypatch.setattr(Attempt, "_compilations", told)
    with pytest.raises(Ended, match="compiled again while it was timed"):
        timed(runner, TIMED)
    assert records.of(Outcome)[0].status == "failed"
    assert [m.flags for m in records.of(Measurement)] == [("recompiled",)] * 2


def test_a_goal_that_is_not_reached_has_no_time(runner, records, monkeypatch):
    for judged in ("agree_in_place", "agree_afterwards"):
        monkeypatch.setattr(Attempt, judged, lambda self, client: None)
    with (
        pytest.raises(Ended) as caught,
        runner.case(dataclasses.replace(TIMED, adapter="learns_nothing"), reproduce="x") as attempt,
    ):
        attempt.time_to_target(1)
    assert caught.value.outcome.status == "divergent"
    assert "is not reached in 800 steps with 1 of 1 seeds" in caught.value.outcome.reason
    assert records.of(Measurement) == []
