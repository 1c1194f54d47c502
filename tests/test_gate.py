"""The statistics of the gate: what is decided, when, and how often it is wrong."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attempt import ABBA, BAAB, Attempt
from results import gate
from results.records import Case, Decision

LOGS = st.lists(st.floats(-1, 1), min_size=2, max_size=16)


def decided(logs, threshold=0.05):
    """As a run would: verdict and pairs used."""
    for used in gate.LOOKS:
        if found := gate.look(logs[:used], threshold):
            return found, used
    raise AssertionError("the last look decides")


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [
        (0.049, 0.002, "regressed"),
        (-0.049, 0.002, "improved"),
        (0.0, 0.002, "unchanged"),
        (0.02, 0.002, "unchanged"),  # slower for certain, but by less than half of what matters
        (0.0, 0.2, "inconclusive"),
        (0.03, 0.05, "inconclusive"),
        (1.0, 0.01, "regressed"),
    ],
)
def test_the_four_verdicts(mean, spread, verdict):
    logs = [mean + spread * x for x in (-1.2, -0.6, -0.2, 0.2, 0.6, 1.2)]
    assert gate.verdict(gate.effect(logs), 0.05) == verdict


def test_nothing_is_decided_between_looks_and_the_last_look_always_decides():
    wild = [0.3 * (-1) ** i for i in range(16)]
    assert [k for k in range(1, 17) if gate.look(wild[:k], 0.05)] == [16]
    assert gate.look(wild, 0.05) == "inconclusive"
    still = [0.0001 * (-1) ** i for i in range(16)]
    assert [k for k in range(1, 17) if gate.look(still[:k], 0.05)] == [6, 8, 12, 16]


def test_the_interval_is_student_s():
    found = gate.effect([0.0, 0.1, 0.2])
    half = 6.964557 * 0.1 / math.sqrt(3)  # t(2) at 99%
    assert math.log(found.ratio) == pytest.approx(0.1)
    assert math.log(found.low) == pytest.approx(0.1 - half)
    assert math.log(found.high) == pytest.approx(0.1 + half)
    assert found.p == pytest.approx(0.112702, abs=1e-5)  # t = 1.7320508, one side
    assert found.pairs == 3


def test_one_pair_says_nothing_for_certain():
    found = gate.effect([0.5])
    assert (found.low, found.high) == (0.0, math.inf)
    assert gate.verdict(found, 0.05) == "inconclusive"


@given(LOGS)
def test_what_is_slower_one_way_is_faster_the_other(logs):
    mirror = {"regressed": "improved", "improved": "regressed"}
    found = gate.verdict(gate.effect(logs), 0.05)
    assert gate.verdict(gate.effect([-x for x in logs]), 0.05) == mirror.get(found, found)


@given(LOGS, st.floats(0.01, 0.5))
def test_a_regression_stays_one_when_everything_is_slower_still(logs, more):
    if gate.verdict(gate.effect(logs), 0.05) == "regressed":
        assert gate.verdict(gate.effect([x + more for x in logs]), 0.05) == "regressed"


@given(LOGS)
def test_hodges_lehmann_is_the_median_of_averages(logs):
    averages = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(logs, 2)]
    wanted = math.exp(float(np.median(averages)))
    assert gate.effect(logs).hodges_lehmann == pytest.approx(wanted)


def test_one_wild_pair_does_not_move_hodges_lehmann():
    logs = [0.001, -0.001, 0.0, 0.002, -0.002, 3.0]
    found = gate.effect(logs)
    assert found.ratio > 1.5
    assert found.hodges_lehmann < 1.01


@pytest.mark.parametrize("logs", [[], [math.nan, 0.0], [math.inf]])
def test_what_is_no_pair_is_refused(logs):
    with pytest.raises(ValueError, match="pairs"):
        gate.effect(logs)


@pytest.mark.parametrize("threshold", [0.0, -0.1, math.inf, math.nan])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match="should be above 0"):
        gate.verdict(gate.effect([0.0, 0.1]), threshold)


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        ([100, 100], [103, 104], "regressed"),
        ([100, 100], [97, 96], "improved"),
        ([100, 100], [101, 102], "unchanged"),
        ([100, 100], [103, 101], "inconclusive"),
        ([0, 0], [1, 1], "regressed"),
    ],
)
def test_amounts_need_every_pair_to_say_the_same(base, head, verdict):
    assert gate.by_amount(base, head, 0.02) == verdict


def test_small_amounts_may_differ_by_the_least_that_counts():
    assert gate.by_amount([100], [150], 0.02, least=1024) == "unchanged"
    with pytest.raises(ValueError, match="pairs"):
        gate.by_amount([1], [], 0.02)


def test_holm_compares_each_p_value_with_its_own_bound():
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}  # bounds, ordered: 0.0125, 0.0167, 0.025
    assert gate.holm(p) == {"a", "d"}
    assert gate.holm({}) == set()
    assert gate.holm({"alone": 0.05}) == {"alone"}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_lies_between_bonferroni_and_no_correction(p):
    rejected = gate.holm(p)
    assert {name for name in p if p[name] <= 0.05 / len(p)} <= rejected
    assert rejected <= {name for name in p if p[name] <= 0.05}


def test_discoveries_are_those_below_the_rate():
    def decision(number, p):
        case = Case("gate", "train", f"m{number}", "small", "a", "cpu", "fp32", 8)
        return Decision(case, "step_time", "unchanged", "base", p=p)

    found = [decision(n, p) for n, p in enumerate([0.001, None, 0.9, 0.02, 0.5])]
    assert [d.case.model for d in gate.discovered(found)] == ["m0", "m3"]
    assert [d.case.model for d in gate.discovered(found, 0.01)] == ["m0"]
    assert gate.discovered([]) == []


def test_benjamini_and_hochberg():
    found = gate.benjamini_hochberg({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert found == pytest.approx({"a": 0.04, "b": 0.16 / 3, "c": 0.16 / 3, "d": 0.5})


def test_how_often_it_is_wrong_on_noise_like_that_of_a_shared_machine():
    """2,000 gates each, of pairs whose scatter is 1%: what docs/gate.md derives."""
    rng = np.random.default_rng(7)

    def share(change, wanted, spread=0.01):
        gates = rng.normal(math.log1p(change), spread, (2000, max(gate.LOOKS)))
        return float(np.mean([decided(list(logs))[0] == wanted for logs in gates]))

    assert share(0.0, "regressed") <= 0.002
    assert share(0.05, "regressed") >= 0.999
    assert share(0.10, "regressed") == 1.0
    assert share(0.0, "regressed", spread=0.08) <= 0.04  # disturbed: seldom red, mostly undecided


def test_a_clock_that_drifts_does_not_show_in_turns():
    """Two equal programs on a machine that gets slower by 1% in every block."""

    class Drifting:
        blocks = 0

        def _compilations(self, client):
            return {}

        def timed(self, client, steps):
            self.blocks += 1
            return 1.01**self.blocks

        def _refuse(self, voided, client):
            assert not voided

    for order in (ABBA, BAAB):
        machine = Drifting()
        rounds = Attempt.alternate(machine, "a", "b", 1, timed=machine.timed, order=order)
        assert len(rounds) == 16
        assert abs(math.log(float(np.median(rounds)))) < 1e-4
