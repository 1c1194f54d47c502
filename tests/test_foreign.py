"""Files of other tools: what is read of them, what is told, and what is refused."""

import copy
import gzip
import io
import json
import math
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import __main__ as reports
from results import compare, foreign, history, rounds
from results.__main__ import main
from results.policy import Policy
from results.records import Measurement
from results.store import StoreError
from tests import foreign_files as made
from tests.foreign_files import AMD, INTEL, entry, write


@pytest.fixture
def results(tmp_path, capsys):
    """Runs a command and returns its exit code, output and errors."""

    def run(command, *arguments):
        code = main([command, *map(str, arguments), "--results", str(tmp_path / "runs")])
        return code, *capsys.readouterr()

    return run


def values(run, metric="step_time"):
    """{benchmark: values of its processes, one tuple each}"""
    found = {}
    for record in run.measurements:
        if record.metric == metric:
            found.setdefault(record.case.model, []).append(record.values)
    return found


def folder(path: Path, *documents) -> Path:
    for number, document in enumerate(documents):
        write(path / f"{number}.json", document)
    return path


def three(path: Path, median=0.1, **changes) -> Path:
    """A folder with three processes of one benchmark."""
    return folder(path, *(
        made.pytest_benchmark(entry(median=median * (1 + n / 1000)), started=f"2026-05-1{n}",
                              **changes)
        for n in range(3)
    ))  # fmt: skip


# -- pytest-benchmark ------------------------------------------------------------------------------


def test_files_of_a_folder_are_processes_and_are_compared(results, tmp_path):
    base, slow = three(tmp_path / "a"), three(tmp_path / "b", 0.12, commit="b" * 40)
    code, out, err = results("gate", base, slow)
    assert code == 1
    assert "tests/b.py::test_x" in out
    assert f"commit is {'b' * 40}, but was {'a' * 40}" in err
    assert results("gate", base, base)[0] == 0


@pytest.mark.parametrize(
    ("document", "model", "python"),
    [
        (made.of_2_5(), "", "CPython 2.7.3"),
        (made.of_3_1(), INTEL, "CPython 3.11.7"),
        (made.pytest_benchmark(), INTEL, "CPython 3.11.7"),
        (
            made.pytest_benchmark(cpu={}, processor="AMD64 Family 23 Model 113, AuthenticAMD"),
            "AMD64 Family 23 Model 113, AuthenticAMD",
            "CPython 3.11.7",
        ),
    ],
)
def test_each_version_s_spelling_of_machine_and_python_is_known(tmp_path, document, model, python):
    run = foreign.read(write(tmp_path / "x.json", document))
    assert run.environment["cpu"]["model"] == model
    assert run.environment["python"] == python
    told = "not recorded, so not compared: the processor's model"
    assert (told in run.problems) == (model == "")


def test_intel_against_amd_is_refused_in_every_spelling(results, tmp_path):
    spellings = (
        made.of_3_1(),
        made.pytest_benchmark(),
    )
    amd = (
        made.of_3_1(AMD, "AuthenticAMD"),
        made.pytest_benchmark(cpu={"brand_raw": AMD, "count": 2}),
    )
    for number, base in enumerate(spellings):
        for other, head in enumerate(amd):
            paths = (write(tmp_path / f"b{number}.json", base),
                     write(tmp_path / f"h{other}.json", head))  # fmt: skip
            code, _, err = results("gate", *paths)
            assert code == 3
            assert f"cpu model is {AMD}, but was {INTEL}" in err


def test_another_implementation_of_python_is_told(results, tmp_path):
    base = three(tmp_path / "a")
    pypy = three(tmp_path / "b", python="PyPy", python_version="3.11.7")
    _, _, err = results("gate", base, pypy)
    assert "Python is PyPy 3.11.7, but was CPython 3.11.7" in err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cpu": {"brand_raw": AMD, "count": 2}}, f"cpu model is {AMD}, but was {INTEL}"),
        ({"cpu": {"brand_raw": INTEL, "count": 64}}, "cpu count is 64, but was 2"),
        ({"cpu": {}}, "cpu model is absent"),
        ({"python": "PyPy"}, "Python is PyPy 3.11.7, but was CPython 3.11.7"),
        ({"python_version": "3.12.1"}, "Python is CPython 3.12.1, but was CPython 3.11.7"),
        ({"commit": "b" * 40}, f"commit is {'b' * 40}, but was {'a' * 40}"),
        ({"commit": None}, "only some of the files say commit"),
        ({"system": "Darwin"}, "system is Darwin, but was Linux"),
    ],
)
def test_a_folder_of_two_machines_pythons_or_commits_is_no_run(results, tmp_path, changes, told):
    both = folder(
        tmp_path / "both",
        made.pytest_benchmark(started="2026-05-01"),
        made.pytest_benchmark(started="2026-05-02", **changes),
    )
    for command in (["gate", both, both], ["show", both], ["export", both]):
        code, out, err = results(*command)
        assert (code, out) == (2, "")
        assert told in err
        assert err.count("\n") == 1
    assert len(foreign.runs(both)) == 2


def test_what_may_differ_within_a_run_is_told(tmp_path):
    both = folder(
        tmp_path / "both",
        made.pytest_benchmark(started="2026-05-01", node="a", dirty=True),
        made.pytest_benchmark(started="2026-05-02", node="b", dirty=True),
    )
    told = foreign.read(both).problems
    assert "measured on several hosts that look alike: a, b" in told
    assert "the commit had uncommitted changes, which may differ from file to file" in told


def test_a_copy_of_a_file_is_no_second_process(tmp_path):
    both = folder(tmp_path / "both", made.pytest_benchmark(), made.pytest_benchmark())
    run = foreign.read(both)
    assert len(run.measurements) == 1
    assert "1.json was skipped: it is a copy of 0.json" in run.problems


BAD = {
    "its stats are null": {"stats": None},
    "its stats are a list": {"stats": []},
    "its median is null": {"stats": {}},
    "its median is 'x'": {"stats": {"median": "x"}},
    "its median is nan": {"stats": {"median": math.nan}},
    "its median is -1": {"stats": {"median": -1}},
    "its step time is 0": {"stats": {"median": 0}},
    "its step time is null": {"stats": {"median": 1, "data": [1, None]}},
    "a huge number": {"stats": {"median": 10**400}},
    "its name is ''": {"name": None, "fullname": {}},
}


@pytest.mark.parametrize(("reason", "changes"), BAD.items())
def test_a_bad_benchmark_is_skipped_with_a_reason_and_the_others_go_on(
    results, tmp_path, reason, changes
):
    bad, fine = {**entry("test_bad"), **changes}, entry("test_fine")
    base = write(tmp_path / "base.json", made.pytest_benchmark(entry("test_bad"), fine))
    head = write(tmp_path / "head.json", made.pytest_benchmark(bad, fine))
    code, out, err = results("gate", base, head)
    assert code == 3  # undecided, and nothing is regressed
    assert "test_fine" in out
    assert err.count(reason) == 1
    code, out, err = results("show", head)
    assert code == 0
    assert "test_fine" in out
    assert err.count(reason) == 1


WHOLLY_BAD = {
    "": "it is no JSON",
    "[]": "is a list",
    "{}": "an object with nothing",
    '{"benchmarks": {}}': "an object with 'benchmarks'",
    '{"benchmarks": [{}], "machine_info": {}}': "its stats are null",
    '{"benchmarks": [], "machine_info": {}}': "holds nothing",
    "[" * 100_000: "nested too deeply",
    '{"a": "\\ud800"}': "no JSON",
    '{"benchmarks": [{"name": "x", "stats": {"median": NaN}}]}': "its median is nan",
    '{"benchmarks": [{"runs": []}], "version": 6}': "its format of pyperf is 6, but 1.0",
    '{"context": {}, "benchmarks": [5]}': "it has no name",
    '{"commit_hash": "a", "results": {}}': "holds nothing",
}


@pytest.mark.parametrize(("text", "told"), WHOLLY_BAD.items())
def test_wholly_bad_input_is_a_usage_error_of_one_line(results, tmp_path, text, told):
    path = tmp_path / "other.json"
    path.write_text(text)
    for command in (["gate", path, path], ["compare", path, path], ["show", path],
                    ["export", path]):  # fmt: skip
        code, out, err = results(*command)
        assert (code, out) == (2, "")
        assert "other.json" in err
        assert told in err
        assert err.count("\n") == 1


def test_a_bad_file_of_a_folder_is_told_and_the_others_go_on(tmp_path):
    path = three(tmp_path / "a")
    (path / "cut.json").write_text('{"benchmarks": [')
    run = foreign.read(path)
    assert len(run.measurements) == 3
    assert [p for p in run.problems if p.startswith("cut.json was skipped: it is no JSON")]


# -- pyperf ----------------------------------------------------------------------------------------


def test_pyperf_s_processes_are_processes_and_its_warm_ups_are_left_out(tmp_path):
    document = made.pyperf((0.1, 0.2), (0.3, 0.4))
    run = foreign.read(write(tmp_path / "x.json", document))
    assert values(run) == {"sum": [(0.1, 0.2), (0.3, 0.4)]}
    assert [record.process for record in run.measurements] == [0, 1]
    assert run.environment["python"] == "CPython 3.11.7 (64-bit)"
    packed = tmp_path / "x.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert values(foreign.read(packed)) == values(run)


@pytest.mark.parametrize(
    ("unit", "metric", "ours"),
    [
        (None, "step_time", "s"),
        ("byte", "process_peak_bytes", "B"),
        ("integer", "tracked_value", "1"),
    ],
)
def test_pyperf_s_units(tmp_path, unit, metric, ours):
    run = foreign.read(write(tmp_path / "x.json", made.pyperf((4, 5), unit=unit)))
    assert [(m.metric, m.unit, m.values) for m in run.measurements] == [(metric, ours, (4.0, 5.0))]


def test_pyperf_s_file_of_two_machines_is_no_run(tmp_path):
    document = made.pyperf((0.1,), (0.2,))
    document["benchmarks"][0]["runs"][-1]["metadata"]["cpu_model_name"] = AMD
    path = write(tmp_path / "x.json", document)
    with pytest.raises(StoreError, match=r"holds 2 runs, not processes of one.*AMD EPYC 7B13"):
        foreign.read(path)


# -- Google Benchmark ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "seconds"), [("ns", 2e-9), ("us", 2e-6), ("ms", 2e-3), ("s", 2.0)]
)
def test_google_benchmark_s_unit_of_time(tmp_path, unit, seconds):
    document = made.google_benchmark(made.repetition("BM_x", 2.0, unit=unit))
    run = foreign.read(write(tmp_path / "x.json", document))
    assert values(run)["BM_x"] == [(pytest.approx(seconds),)]
    assert values(run, "cpu_time")["BM_x"] == [(pytest.approx(0.9 * seconds),)]


def test_repetitions_are_rounds_and_aggregates_are_none(tmp_path):
    entries = [made.repetition("BM_x/8", 100.0 + n, index=n, items_per_second=1e9, foo=3)
               for n in range(3)]  # fmt: skip
    entries += [made.aggregate("BM_x/8", kind, 101.0) for kind in ("mean", "median", "stddev")]
    entries += [{"name": "BM_x_BigO", "run_type": "aggregate", "aggregate_name": "BigO",
                 "cpu_coefficient": 1.0, "time_unit": "ns"}]  # fmt: skip
    run = foreign.read(write(tmp_path / "x.json", made.google_benchmark(*entries)))
    assert values(run) == {"BM_x/8": [pytest.approx((100e-9, 101e-9, 102e-9))]}
    assert values(run, "items_per_second") == {"BM_x/8": [(1e9,) * 3]}
    alone = made.google_benchmark(*entries[3:])
    assert values(foreign.read(write(tmp_path / "y.json", alone))) == {
        "BM_x/8": [(pytest.approx(101e-9),)]
    }


def test_files_before_1_5_do_not_tell_aggregates(tmp_path):
    entries = [made.repetition(name, 5.0) for name in ("BM_mean", "BM_y", "BM_y_mean",
                                                       "BM_y_median")]  # fmt: skip
    for each in entries:
        del each["run_type"], each["run_name"]
    run = foreign.read(write(tmp_path / "x.json", made.google_benchmark(*entries)))
    assert set(values(run)) == {"BM_mean", "BM_y"}


def test_what_google_benchmark_says_failed_is_failed(tmp_path):
    failed = made.repetition("BM_bad", 0.0, error_occurred=True, error_message="broken here")
    skipped = made.repetition("BM_skip", 0.0, skipped=True, skip_message="no GPU")
    document = made.google_benchmark(failed, skipped, made.repetition("BM_x", 1.0))
    run = foreign.read(write(tmp_path / "x.json", document))
    ended = {o.case.model: (o.status, o.reason) for o in run.outcomes}
    assert ended == {
        "BM_x": ("ok", ""),
        "BM_bad": ("failed", "broken here"),
        "BM_skip": ("unsupported", "no GPU"),
    }


def test_another_host_is_another_machine_where_no_processor_is_named(results, tmp_path):
    paths = [
        write(tmp_path / f"{host}.json",
              made.google_benchmark(made.repetition("BM_x", 1.0), host=host))
        for host in ("a", "b")
    ]  # fmt: skip
    code, _, err = results("gate", *paths)
    assert code == 3
    assert "host is b, but was a" in err
    assert "not recorded, so not compared: the processor's model" in err


# -- asv -------------------------------------------------------------------------------------------

TIMES = [
    [1e-3, None, math.nan, 4e-3],
    [["10", "20"], ["'a'", "'b'"]],
    "hash",
    1796064741550,
    0.6,
    [-math.inf] * 4,
    [math.inf] * 4,
    [0.9e-3, None, None, 3.9e-3],
    [1.1e-3, None, None, 4.1e-3],
    [10, None, None, 10],
    [50, None, None, 50],
    [[1e-3, 1.1e-3], None, None, None],
]


def test_asv_s_product_of_parameters_nulls_and_samples(tmp_path):
    run = foreign.read(write(tmp_path / "c-env.json", made.asv({"b.time_x": TIMES})))
    assert values(run) == {"b.time_x(10, 'a')": [(1e-3, 1.1e-3)], "b.time_x(20, 'b')": [(4e-3,)]}
    ended = {o.case.model: o.status for o in run.outcomes}
    assert ended["b.time_x(10, 'b')"] == "failed"
    assert ended["b.time_x(20, 'a')"] == "unsupported"
    (kept,) = [m for m in run.measurements if m.case.model == "b.time_x(20, 'b')"]
    assert kept.conditions == {"rounds": 50.0, "q1": 3.9e-3, "q3": 4.1e-3}


def test_asv_s_version_1(tmp_path):
    document = made.asv(
        {"b.time_old": 0.5, "b.time_null": None,
         "b.time_p": {"result": [1.0, 2.0], "params": [["1", "2"]],
                      "stats": [{"q_25": 0.9, "q_75": 1.1, "repeat": 9}, None]}},
        version=1,
    )  # fmt: skip
    del document["result_columns"]
    run = foreign.read(write(tmp_path / "x.json", document))
    assert values(run) == {
        "b.time_old": [(0.5,)], "b.time_p(1)": [(1.0,)], "b.time_p(2)": [(2.0,)],
    }  # fmt: skip


def test_what_lies_beside_asv_s_results_says_the_unit_and_is_no_result(tmp_path):
    names = {"b.track_ms": "ms", "b.track_rate": "items/s", "b.track_any": "unit"}
    named = [*names, "b.peakmem_x", "b.mem_x", "b.time_x"]
    document = made.asv({name: [[2.0], []] for name in named})
    run = foreign.read(made.asv_folder(tmp_path / "r", document, names))
    figures = {m.case.model: (m.metric, m.values) for m in run.measurements}
    assert figures == {
        "b.track_ms": ("step_time", (2e-3,)),
        "b.track_rate": ("items_per_second", (2.0,)),
        "b.track_any": ("tracked_value", (2.0,)),
        "b.peakmem_x": ("process_peak_bytes", (2.0,)),
        "b.mem_x": ("object_bytes", (2.0,)),
        "b.time_x": ("step_time", (2.0,)),
    }
    assert not run.problems


def test_results_of_the_wrong_length_are_told(tmp_path):
    document = made.asv({"b.time_x": [[1.0, 2.0], [["1", "2", "3"]]], "b.time_y": [[1.0], []]})
    run = foreign.read(write(tmp_path / "x.json", document))
    assert set(values(run)) == {"b.time_y"}
    assert "b.time_x was skipped: it has 2 results for 3 combinations" in run.problems[0]


EVERY = {
    "pytest-benchmark": made.pytest_benchmark(entry("test_<b>", 0.125)),
    "pyperf": made.pyperf((0.125, 0.125)),
    "google-benchmark": made.google_benchmark(made.repetition("BM_x", 125.0, unit="ms")),
    "asv": made.asv({"b.time_x": [[0.125], []]}),
}


# -- what is compared ------------------------------------------------------------------------------


def decisions(base: Path, head: Path):
    """{(benchmark, metric): (verdict, ratio, reason)}, and the notes."""
    sides = [foreign.read(path) for path in (base, head)]
    told = compare.compare(*sides, Policy())
    made = {(d.case.model, d.metric): (d.verdict, d.ratio, d.reason) for d in told.decisions}
    return made, told.notes


@pytest.mark.parametrize("kept", [True, False])
def test_rounds_of_one_process_are_told_as_weaker_and_decide_nothing(results, tmp_path, kept):
    def file(name, median):
        data = [median * (1 + n / 1000) for n in range(-20, 21)] if kept else None
        document = made.pytest_benchmark(entry(median=median, data=data, scatter=0.02))
        return write(tmp_path / f"{name}.json", document)

    base, head = file("base", 0.1), file("head", 0.12)
    (verdict, ratio, reason), = decisions(base, head)[0].values()  # fmt: skip
    assert verdict == "inconclusive"
    assert ratio == pytest.approx(1.2)
    assert "one process has no interval; weaker, since processes differ" in reason
    low, high = map(float, re.search(r"say 1.20× \((\S+) to (\S+)×\)", reason).groups())
    assert 1.15 < low < 1.2 < high < 1.25
    code, out, err = results("gate", base, head)
    assert code == 3
    assert "run pytest 3 times or more a side" in err
    assert "preset" not in out + err


def test_the_error_of_a_median_is_how_far_medians_scatter(tmp_path):
    generator = np.random.default_rng(0)
    case = foreign.read(write(tmp_path / "x.json", EVERY["pyperf"])).measurements[0].case
    errors, medians = [], []
    for values in np.exp(generator.normal(0, 0.03, (400, 201))):
        found = rounds.rounds([Measurement(case, "step_time", "s", tuple(values))])
        errors.append(found.error)
        medians.append(math.log(found.median))
    assert np.median(errors) == pytest.approx(np.std(medians), rel=0.15)


@pytest.mark.parametrize(
    ("tool", "how"),
    [
        ("pyperf", "--processes 3"),
        ("asv", "asv run"),
        ("google-benchmark", "--benchmark_out=FILE"),
    ],
)
def test_each_tool_s_own_way_to_more_processes_is_advised(tmp_path, tool, how):
    path = write(tmp_path / "x.json", EVERY[tool])
    notes = decisions(path, path)[1]
    assert [note for note in notes if how in note and "one process has no interval" in note]
    assert not [note for note in notes if "pytest suites" in note]


def test_of_rates_more_is_better_and_of_times_less(tmp_path):
    def side(name, time, rate):
        return folder(tmp_path / name, *(
            made.google_benchmark(
                made.repetition("BM_x", time + n / 999, items_per_second=rate * (1 + n / 999)),
                date=f"2026-11-{n}",
            ) for n in range(1, 4)
        ))  # fmt: skip

    found, _ = decisions(side("base", 100.0, 1e6), side("head", 100.0, 5e5))
    assert found["BM_x", "step_time"][0] == "unchanged"
    verdict, ratio, _ = found["BM_x", "items_per_second"]
    assert (verdict, ratio) == ("regressed", pytest.approx(2.0))
    found, _ = decisions(side("slow", 100.0, 1e6), side("fast", 50.0, 2e6))
    assert {d[0] for d in found.values()} == {"improved"}
    assert {round(d[1], 3) for d in found.values()} == {0.5}


def test_what_was_timed_in_another_way_is_not_compared(results, tmp_path):
    gc = {"disable_gc": True, "timer": "perf_counter", "warmup": False}
    base, head = (
        folder(tmp_path / name, *(
            made.pytest_benchmark(entry(median=median * (1 + n / 1000), **changes), entry("test_y"),
                                  started=f"2026-05-1{n}")
            for n in range(3)
        ))
        for name, median, changes in (("base", 0.1, {}), ("head", 0.05, {"options": gc}))
    )  # fmt: skip
    found, _ = decisions(base, head)
    verdict, ratio, reason = found["tests/b.py::test_x", "step_time"]
    assert (verdict, ratio) == ("inconclusive", None)
    assert reason == "timed in another way: disable_gc is True, but was False"
    assert found["tests/b.py::test_y", "step_time"][0] == "unchanged"
    assert results("gate", base, head)[0] == 3


def test_a_benchmark_whose_code_changed_is_another(tmp_path):
    paths = [
        write(tmp_path / f"{version}.json",
              made.asv({"b.time_x": [[1.0], [], version]}, commit=version * 40))
        for version in "ab"
    ]  # fmt: skip
    ((_, _, reason),) = decisions(*paths)[0].values()
    assert reason == "timed in another way: benchmark's version is 'b', but was 'a'"


def test_tracked_values_have_no_direction_and_are_told(tmp_path):
    path = write(tmp_path / "x.json", made.asv({"b.track_x": [[3.0], []]}))
    found, notes = decisions(path, path)
    assert not found
    assert "1 tracked values are not compared: more may be better or worse" in notes


def test_what_a_tool_says_failed_in_head_regressed(results, tmp_path):
    fine = made.google_benchmark(made.repetition("BM_x", 1.0))
    broken = made.google_benchmark(made.repetition("BM_x", 0.0, error_occurred=True,
                                                   error_message="broken here"))  # fmt: skip
    base, head = (write(tmp_path / f"{n}.json", d) for n, d in enumerate((fine, broken)))
    code, out, _ = results("gate", base, head)
    assert code == 1
    assert "broken here" in out
    assert results("gate", head, base)[0] == 3  # no baseline


def test_files_without_a_repository_have_no_commit(tmp_path):
    run = foreign.read(write(tmp_path / "x.json", made.pytest_benchmark(commit="unversioned")))
    assert "commit" not in run.environment["versions"]
    assert "not recorded, so not compared: the commit" in run.problems


def test_history_has_a_point_per_commit_and_a_series_per_environment(tmp_path, capsys):
    root = tmp_path / "results"
    for n in range(12):
        for name, factor in (("py3.11", 1.0), ("py3.12", 3.0)):
            time = factor * (1.0 if n < 6 else 2.0) * (1 + (n % 3) / 1000)
            document = made.asv({"b.time_x": [[time], []]}, commit=f"{n:040}",
                                date=1796064740000 + n * 86_400_000, env_name=name)  # fmt: skip
            write(root / "vm" / f"{n:08}-{name}.json", document)
    assert main(["history", "--results", str(root)]) == 0
    assert "b.time_x" in capsys.readouterr().out
    found = history.series(foreign.runs(root))
    assert {one.settings for one in found} == {"py3.11", "py3.12"}
    for one in found:
        assert len(one.points) == 12
        assert [change.index for change in one.changes] == [6]
        assert one.changes[0].versions == (f"commit is {6:040}, but was {5:040}",)


# -- what is shown ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", EVERY)
def test_a_file_is_shown_exported_and_made_a_site_of(results, tmp_path, tool):
    path = write(tmp_path / "x.json", EVERY[tool])
    code, out, _ = results("show", path)
    assert code == 0
    assert f"Measured by {tool}, as it says; nothing of it was judged here." in out
    assert "125 ms" in out
    code, out, _ = results("export", path, "--what", "summary", "--format", "json")
    assert code == 0
    assert json.loads(out)[0]["median"] == 0.125
    site = tmp_path / "site"
    assert reports.main([str(path), "-o", str(site), "--results", str(tmp_path)]) == 0
    front = (site / "index.html").read_text()
    assert "Nothing of it was judged here." in front
    assert "125 ms" in front
    assert "<b>" not in front
    assert reports.main([str(path), "-o", str(tmp_path / "one"), "--one-page"]) == 0
    assert "125 ms" in (tmp_path / "one" / "index.html").read_text()


def test_a_folder_of_several_runs_is_a_site_with_a_part_per_machine(tmp_path):
    both = folder(
        tmp_path / "both",
        made.pytest_benchmark(started="2026-05-01"),
        made.pytest_benchmark(started="2026-05-02", cpu={"brand_raw": AMD, "count": 2}),
    )
    assert reports.main([str(both), "-o", str(tmp_path / "site")]) == 0
    front = (tmp_path / "site" / "index.html").read_text()
    assert AMD in front
    assert INTEL in front


def test_another_python_is_a_changed_version_on_the_site(tmp_path):
    both = folder(
        tmp_path / "both",
        made.pytest_benchmark(started="2026-05-01"),
        made.pytest_benchmark(started="2026-05-02", python="PyPy"),
    )
    assert reports.main([str(both), "-o", str(tmp_path / "site")]) == 0
    (page,) = (tmp_path / "site" / "compare").rglob("*.html")
    assert "Python is PyPy 3.11.7, but was CPython 3.11.7" in page.read_text()
    (case,) = (tmp_path / "site").rglob("cases/**/*.html")
    assert '<h1 class="key">tests' in case.read_text()


def test_a_changed_file_makes_another_site(tmp_path):
    path, site = tmp_path / "x.json", tmp_path / "site"
    for median, shown in ((0.125, "125 ms"), (0.25, "250 ms")):
        write(path, made.pytest_benchmark(entry(median=median)))
        assert reports.main([str(path), "-o", str(site)]) == 0
        assert shown in (site / "index.html").read_text()


def test_rounds_that_a_file_does_not_keep_are_counted_and_said_to_be_missing(results, tmp_path):
    path = write(tmp_path / "x.json", made.pytest_benchmark())
    _, out, _ = results("show", path)
    assert "the file keeps the median of 400 rounds, and not the rounds" in out


# -- whatever a file holds -------------------------------------------------------------------------

BASES = {
    "pytest-benchmark": made.pytest_benchmark(
        entry("test_x", data=[0.1, 0.11, 0.12]), entry("test_y", 0.2), dirty=True
    ),
    "pytest-benchmark 2.5": made.of_2_5(),
    "pytest-benchmark 3.1": made.of_3_1(),
    "pyperf": made.pyperf((0.1, 0.2), (0.3, 0.4)),
    "google-benchmark": made.google_benchmark(
        made.repetition("BM_x", 2.0, items_per_second=5.0), made.aggregate("BM_y", "median", 3.0)
    ),
    "asv": made.asv({"b.time_x": TIMES, "b.time_y": [[1.0], []], "b.time_z": None}),
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from([10**400, "\ud800", "nan", "", -0.0, 1e-320]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(document, path=()):
    """The paths of everything that a document holds, itself included."""
    yield path
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inside:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


@st.composite
def mutated(draw):
    """The text of a file of a tool in which up to three things were replaced, removed or doubled,
    and that may be cut off."""
    document = {"": copy.deepcopy(BASES[draw(st.sampled_from(sorted(BASES)))])}
    for _ in range(draw(st.integers(1, 3))):
        inside = [path for path in places(document) if path]
        if not inside:
            break
        *above, key = draw(st.sampled_from(inside))
        holder = document
        for name in above:
            holder = holder[name]
        match draw(st.sampled_from(["replace", "remove", "double", "negate"])):
            case "replace":
                holder[key] = draw(JUNK)
            case "remove" if above:
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case "negate" if isinstance(holder[key], float):
                holder[key] = -holder[key]
    text = json.dumps(document[""])
    cut = draw(st.integers(0, 9))
    return text[: len(text) * cut // 8] if cut < 8 else text


@settings(max_examples=100, deadline=None)
@given(mutated(), st.sampled_from(sorted(BASES)))
def test_whatever_a_file_holds_is_read_or_told(tmp_path_factory, text, against):
    """Never a traceback, and 1 only where something is named that regressed."""
    folder = tmp_path_factory.mktemp("fuzz")
    base = write(folder / "base.json", BASES[against])
    head = folder / "head.json"
    head.write_text(text)
    for command in (["show", head], ["export", head, "--what", "summary"], ["gate", base, head],
                    ["gate", head, base], ["gate", head, head]):  # fmt: skip
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            code = main([*map(str, command), "--results", str(folder / "runs")])
            out.flush(), err.flush()
        told, errors = (stream.buffer.getvalue().decode() for stream in (out, err))
        assert code in (0, 1, 2, 3)
        assert (code == 1) <= ("regressed" in told)
        assert (code == 2) <= (told == "" and errors.count("\n") == 1)
