"""`python -m results`: what it prints, what it exports, and how it says no."""

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from results import atomic, export, frame, store
from results.__main__ import main
from results.store import RunWriter, StoreError
from tests import sample_run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    sample_run.write(root)
    return root


@pytest.fixture
def results(runs, capsys):
    """Runs a command on the stored runs; returns its exit code, output and error lines."""

    def call(*arguments, root=runs):
        try:
            code = main([arguments[0], "--results", str(root), *arguments[1:]])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_list_shows_what_a_run_is(results):
    code, out, err = results("list")
    assert (code, err) == (0, "")
    for part in (sample_run.RUN_ID, "2025-11-20 17:18 UTC", "Example CPU 9000", "295 ok", "MiB"):
        assert part in out


def test_list_of_nothing_is_nothing_to_decide(results, tmp_path):
    code, out, err = results("list", root=tmp_path / "none")
    assert (code, out) == (3, "")
    assert err == f"results: no runs are stored in {tmp_path / 'none'}\n"


@pytest.mark.parametrize("name", ["latest", sample_run.RUN_ID, "2025"])
def test_show_finds_a_run_by_any_name(results, name):
    code, out, _ = results("show", name)
    assert code == 0
    for part in (
        *("295 of 346 cases ended ok", "identical (fp64)", "step_time", "latency_p99"),
        *("break_even_steps", "steps", "peak_fraction", "compute", "matmul_fp32", "420 GFLOP/s"),
        "noisy: the 95% interval reaches more than 5%",
    ):
        assert part in out


def test_show_publishes_no_figure_of_a_case_that_is_not_ok(results):
    _, out, _ = results("show", "latest")
    figures = out[out.index("median") :]
    for suite in ("performance", "cold_start", "memory"):
        assert re.search(f"{suite} +infer/convnet/small/tf_graph/cpu/fp32/b8", figures)
        assert not re.search(f"{suite} +train/convnet/small/tf_graph/cpu/fp32/b8", figures)
    assert "Not shown: 12 figures of cases that are not ok" in out


def test_show_keeps_hostile_names_from_the_terminal(results):
    _, out, _ = results("show", "latest")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[31mred" in out
    assert max(map(len, out.splitlines())) < 1000


def test_show_warns_of_what_could_not_be_read(results, tmp_path):
    folder = sample_run.write(tmp_path, hostile=False)
    records = folder / "records.jsonl"
    records.write_bytes(records.read_bytes()[:-40])
    (folder / "environment.json").unlink()
    code, _, err = results("show", "latest", root=tmp_path)
    assert code == 0
    assert "cut off" in err
    assert "environment.json" in err
    assert len(err.splitlines()) == 2


def test_show_of_an_empty_run_is_nothing_to_decide(results, tmp_path):
    RunWriter(tmp_path, "empty", {}).close()
    code, out, _ = results("show", "empty", root=tmp_path)
    assert code == 3
    assert "no cases" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nope"], "there is no run 'nope'"),
        (["export", "nope"], "there is no run 'nope'"),
        (["export", "latest", "--format", "xml"], "invalid choice: 'xml'"),
        (["export", "latest", "--what", "all"], "invalid choice: 'all'"),
        (["export", "latest", "--format", "parquet"], "name a file with -o"),
        (["export", "latest", "-o", "/proc/none/x.csv"], "cannot write /proc/none/x.csv"),
        (["export", "latest", "-o", "/dev/full"], "No space left on device"),
        (["export"], "RUN"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_usage_errors_are_one_clear_line(results, arguments, said):
    code, out, err = results(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("what", list(export.TABLES))
def test_csv_and_json_hold_the_same_rows(results, runs, what):
    table = export.TABLES[what](store.read(runs / sample_run.RUN_ID))
    _, text, _ = results("export", "latest", "--what", what)
    _, objects, _ = results("export", "latest", "--what", what, "--format", "json")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(json.loads(objects)) == len(table)
    assert list(rows[0]) == list(json.loads(objects)[0]) == list(table.columns)


def test_json_has_null_for_no_number_and_a_string_for_infinity(results):
    _, text, _ = results("export", "latest", "--what", "agreements", "--format", "json")
    found = [(row["error"], row["floor"]) for row in json.loads(text)]
    assert ("inf", None) in found


def test_numbers_survive_csv_exactly(results, runs):
    _, text, _ = results("export", "latest")
    table = frame.measurements(store.read(runs / sample_run.RUN_ID))
    values = [float(row["value"]) for row in csv.DictReader(io.StringIO(text))]
    assert values == list(table["value"])


def test_parquet_round_trip(results, runs, tmp_path):
    file = tmp_path / "new" / "m.parquet"
    code, out, err = results("export", "latest", "--format", "parquet", "-o", str(file))
    assert (code, out, err) == (0, "", "")
    table = frame.measurements(store.read(runs / sample_run.RUN_ID))
    pd.testing.assert_frame_equal(pd.read_parquet(file), table, check_dtype=False)


def test_parquet_without_pyarrow_says_what_to_install(results, tmp_path, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    file = tmp_path / "m.parquet"
    code, _, err = results("export", "latest", "--format", "parquet", "-o", str(file))
    assert code == 2
    assert "pip install pyarrow" in err
    assert not file.exists()


def test_an_export_without_rows_has_a_heading_and_its_own_exit_code(results, tmp_path):
    RunWriter(tmp_path, "empty", {}).close()
    code, out, err = results("export", "empty", root=tmp_path)
    assert code == 3
    assert out.startswith("suite,mode,model")
    assert "has no measurements" in err


def test_export_does_not_change_infinity_or_missing_numbers():
    table = pd.DataFrame({"x": [math.inf, math.nan, 1.5]})
    assert json.loads(export.encode(table, "json")) == [{"x": "inf"}, {"x": None}, {"x": 1.5}]
    assert export.encode(table, "csv") == b'x\ninf\n""\n1.5\n'


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "x.csv"
    atomic.write(file, "old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        atomic.write(file, "new and longer")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_link_stays_a_link_and_the_file_is_readable_by_others(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    atomic.write(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"data"
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "target").stat().st_mode == plain.stat().st_mode


def test_results_need_no_framework_no_pytest_and_no_plotly(runs):
    blocked = ("torch", "tensorflow", "jax", "onnxruntime", "pytest", "plotly", "jinja2")
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "from results.__main__ import main\n"
        "for command in (['list'], ['show', 'latest'], ['export', 'latest']):\n"
        f"    assert main([*command, '--results', {str(runs)!r}]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("sink", "code"), [("head -c 10", 0), ("cat > /dev/full", None)])
def test_a_reader_that_stops_early_is_no_error(runs, sink, code):
    command = f"{sys.executable} -m results show latest --results {runs} | {sink}; exit $PIPESTATUS"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert code is None or done.returncode == code


def test_a_full_disk_behind_standard_output_is_one_line(runs):
    command = f"{sys.executable} -m results export latest --results {runs} > /dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "results: cannot write the answer: No space left on device\n"
