"""Series over runs, and where their level changes."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from results import history
from results.__main__ import main
from results.records import Case, Measurement, Outcome
from results.store import Run, RunWriter

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


@pytest.mark.parametrize(
    "other",
    [{"threads": 8}, {"preset": "full"}, {"allocator": "default"}, {"isolation": "adapter"},
     {"isa": "avx2"}, {"variables": {"OMP_WAIT_POLICY": "ACTIVE"}}],
)  # fmt: skip
def test_runs_that_were_made_otherwise_are_another_series(other):
    made = {"threads": 1, "preset": "standard", "allocator": "pinned", "isolation": "case"}
    runs = [run(n, 1.0) for n in range(4)]
    runs = [replace(r, environment={**r.environment, **made, **(other if n > 1 else {})})
            for n, r in enumerate(runs)]  # fmt: skip
    found = history.series(runs)
    assert [len(one.points) for one in found] == [2, 2]
    assert len({one.settings for one in found}) == 2
    (name,) = other
    assert any(str(other[name]) in one.settings or "ACTIVE" in one.settings for one in found)


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


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    """Twenty runs of one case, of which the later ten are slower."""
    for number, value in enumerate(noisy([1.0] * 10 + [1.2] * 10)):
        made = run(number, value, torch="2.13.0" if number < 10 else "2.14.0")
        writer = RunWriter(tmp_path / "runs", made.run_id, made.environment)
        for record in made.records:
            writer.append(record)
        writer.close()
    return tmp_path / "runs"


def test_history_shows_changes_with_their_versions(stored, capsys):
    assert main(["history", "--results", str(stored)]) == 0
    out, err = capsys.readouterr()
    assert "train/mlp/small/torch_eager/cpu/fp32/b64" in out
    assert "run010" in out
    assert "torch is 2.14.0, but was 2.13.0" in out
    assert "1 series of 20 runs, 1 with changes" in err


def test_history_as_json_and_of_nothing(stored, capsys):
    assert main(["history", "--results", str(stored), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["changes"][0]["index"] == 10
    assert main(["history", "--results", str(stored), "--case", "infer/*"]) == 3
    assert main(["history", "--results", str(stored.parent / "none")]) == 3


def test_history_of_a_branch(stored, tmp_path, capsys, monkeypatch):
    def git(*words):
        own = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", str(tmp_path), *own, *words], check=True)

    git("init", "--quiet", "--initial-branch", "benchmarks")
    git("add", "runs")
    git("commit", "--quiet", "-m", "runs")
    shutil.rmtree(stored)
    assert main(["history", "--branch", f"{tmp_path}@benchmarks:runs"]) == 0
    assert "20 runs" in capsys.readouterr().err
    assert main(["history", "--branch", f"{tmp_path}@nowhere:runs"]) == 2
    assert "git has no runs in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("codes", "code", "told"),
    [
        ({"v1": 1, "v2": 1, "v3": 0, "v4": 0}, 0, "came in with v3, after v2"),
        ({"v1": 1, "v2": 1, "v3": 1, "v4": 1}, 0, "came in after v4"),
        ({"v1": 0, "v2": 0, "v3": 0, "v4": 0}, 3, "came in before"),
        ({"v1": 3, "v2": 3, "v3": 3, "v4": 3}, 2, "cannot be placed"),
    ],
)
def test_bisect_runs_gates(codes, code, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(history, "run_gate", lambda target, key, results: codes[target])
    words = ["history", "--results", str(tmp_path), "--case", CASE.key, "--bisect", *codes]
    assert main(words) == code
    out, err = capsys.readouterr()
    assert told in out + err
