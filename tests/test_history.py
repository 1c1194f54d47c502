"""Series over runs, and where their level changes."""

import numpy as np
import pytest

from results import history
from results.records import Case, Measurement, Outcome
from results.store import Run

CASE = Case("performance", "train", "mlp", "small", "torch_eager", "cpu", "fp32", 64)


def noisy(levels, *, spread=0.012, seed=0):
    rng = np.random.default_rng(seed)
    return list(np.exp(np.log(levels) + rng.normal(0, spread, len(levels))))


def run(number, value, *, machine="a", torch="2.13.0", status="ok"):
    records = [
        Measurement(CASE, "step_time", "s", (value,)),
        Outcome(CASE, status, "" if status == "ok" else "because", 1.0, "pytest"),
    ]
    environment = {
        "started": f"2026-01-{number + 1:02}T00:00:00+00:00",
        "fingerprint": {"id": machine, "cpu": {"model": machine}},
        "python": "3.11.7",
        "versions": {"torch": torch},
    }
    return Run(f"run{number:03}", None, environment, tuple(records))


def test_a_step_of_five_percent_is_found_where_it_is():
    """100 series of 40 runs that scatter by 1.2%, as those of one machine do."""
    found = [history.change_points(noisy([1.0] * 20 + [1.05] * 20, seed=s)) for s in range(100)]
    near = [any(abs(place - 20) <= 2 for place in places) for places in found]
    assert sum(near) >= 98
    assert sum(len(places) - 1 for places in found if places) <= 5


def test_nothing_is_found_where_nothing_changed():
    found = [history.change_points(noisy([1.0] * 40, seed=s)) for s in range(200)]
    assert sum(map(len, found)) <= 10


def test_one_wild_run_is_no_change():
    for place in (5, 20, 38):
        values = noisy([1.0] * 40, seed=1)
        values[place] *= 3
        assert history.change_points(values) == []


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 30])
def test_a_series_that_is_short_or_does_not_scatter_has_no_changes(values):
    assert history.change_points(values) == []


def test_levels_without_scatter_are_told_apart():
    assert history.change_points([1.0] * 10 + [2.0] * 10) == [10]


def test_a_change_names_the_versions_that_changed_with_it():
    levels = noisy([1.0] * 10 + [1.2] * 10)
    runs = [run(n, v, torch="2.13.0" if n < 10 else "2.14.0") for n, v in enumerate(levels)]
    (found,) = history.series(runs)
    (change,) = found.changes
    assert change.index == 10
    assert change.ratio == pytest.approx(1.2, rel=0.02)
    assert change.versions == ("torch is 2.14.0, but was 2.13.0",)
    assert found.points[10].run_id == "run010"


def test_each_machine_has_its_own_series_and_what_is_not_ok_is_in_none():
    runs = [run(0, 1.0), run(1, 2.0, machine="b"), run(2, 3.0, status="divergent")]
    found = history.series(runs)
    assert [(one.machine, [p.value for p in one.points]) for one in found] == [
        ("a", [1.0]),
        ("b", [2.0]),
    ]


@pytest.mark.parametrize("first", range(9))
def test_bisecting_finds_the_first_target_with_the_step(first):
    asked = []

    def regressed(target):
        asked.append(target)
        return int(target) < first

    assert history.first_without([str(n) for n in range(8)], regressed) == first
    assert len(asked) <= 4
