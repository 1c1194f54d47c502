"""Sessions of the suites: resuming, two at once, other interpreters, allocators, sweeps, traces."""

import dataclasses
import fcntl
import json
import signal
import subprocess
import sys
import sysconfig
import threading
import venv
from pathlib import Path

import pytest

from harness.environment import physical_cores
from results.records import Limit
from results.store import read, run_folders
from suites import limits
from tests.test_suites import ROOT, heed_ctrl_c, only_run, suites, toys

pytestmark = pytest.mark.usefixtures("numpy_alone")
INFER = ("--models=mlp", "-k", "infer and fp64")


def interrupted(results):
    """A run whose first case is ok and whose second is interrupted."""
    command = [sys.executable, "-m", "pytest", "suites", *toys("backend", "sleeps"), *INFER,
               "--results", str(results)]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    ) as process:
        for line in process.stdout:
            if " ok " in line:
                threading.Timer(1.0, process.send_signal, [signal.SIGINT]).start()
    return only_run(results)


def test_a_run_is_resumed_where_it_stopped(tmp_path):
    before = interrupted(tmp_path)
    assert [o.status for o in before.outcomes] == ["ok", "interrupted"]
    done = suites(
        *toys("backend", "sleeps"), *INFER, "--resume", before.run_id, "--case-timeout=2",
        results=tmp_path,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert done.stdout.count("infer/mlp/tiny/backend") == 0  # nothing of it ran again
    after = read(run_folders(tmp_path)[-1])
    assert [o.status for o in after.outcomes] == ["ok", "timeout"]
    assert after.outcomes[0] == before.outcomes[0]
    assert [a for a in after.agreements if a.case == after.outcomes[0].case] == before.agreements
    assert after.environment["resumed_from"] == before.run_id
    assert read(before.folder).records == before.records  # and the old run is as it was


def test_a_decided_failure_still_fails(tmp_path):
    suites(*toys("backend", "raises"), *INFER, results=tmp_path)
    done = suites(*toys("backend", "raises"), *INFER, "--resume=latest", results=tmp_path)
    assert "1 failed, 1 passed" in done.stdout
    assert "the toy <b>kernel</b> refused" in done.stdout
    assert len(run_folders(tmp_path)) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--preset=full"], "preset is full, but was quick"),
        (["--threads=1", "--allocator=default"], "allocator is default, but was pinned"),
    ],
)
def test_a_run_made_otherwise_is_not_resumed(tmp_path, options, told):
    suites(*toys("backend"), *INFER, "--threads=2", results=tmp_path)
    done = suites(*toys("backend"), *INFER, "--resume=latest", *options, results=tmp_path)
    assert done.returncode == 2
    assert "cannot be resumed" in done.stderr
    assert told in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_a_run_of_another_machine_is_not_resumed(tmp_path):
    suites(*toys("backend"), *INFER, results=tmp_path)
    path = run_folders(tmp_path)[0] / "environment.json"
    environment = json.loads(path.read_text())
    environment["fingerprint"]["cpu"]["model"] = "another"
    environment["versions"]["numpy"] = "0.1"
    path.write_text(json.dumps(environment))
    done = suites(*toys("backend"), *INFER, "--resume=latest", results=tmp_path)
    assert done.returncode == 2
    assert "but was another" in done.stderr
    assert "but was 0.1" in done.stderr


def test_a_run_that_does_not_exist_is_not_resumed(tmp_path):
    done = suites(*toys("backend"), *INFER, "--resume=2020", results=tmp_path)
    assert done.returncode == 2
    assert "there is no run '2020'" in done.stderr


def test_two_measuring_runs_at_once_are_one_too_many(tmp_path):
    (tmp_path / ".measuring").write_text("4711")
    with (tmp_path / ".measuring").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = suites(*toys("backend"), *INFER, "--benchmark", results=tmp_path)
    assert done.returncode not in (0, 1)
    assert "another run, process 4711, is measuring into" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert run_folders(tmp_path) == []


def test_two_runs_at_once_keep_their_records_apart(tmp_path):
    command = [sys.executable, "-m", "pytest", "suites", *toys("backend"), *INFER,
               "--results", str(tmp_path)]  # fmt: skip
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    runs = [read(folder) for folder in run_folders(tmp_path)]
    assert [[o.status for o in run.outcomes] for run in runs] == [["ok"], ["ok"]]
    assert [run.problems for run in runs] == [(), ()]


def test_an_adapter_runs_under_another_interpreter(tmp_path):
    """In a virtual environment of its own, which sees this one's packages by a .pth file."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    purelib = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")})
    (Path(purelib) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = suites(
        *toys("backend", "caches"), "--models=mlp", "-k", "infer and test_step", "--benchmark",
        "--size=tiny", "--python", f"backend={python}", "--allocator=default", "--report=none",
        results=tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = {f.case.adapter: f.facts for f in only_run(tmp_path / "runs").facts}
    assert facts["backend"]["executable"] == str(python)
    assert facts["caches"]["executable"] == sys.executable
    assert facts["backend"]["versions"]["toy"] == "1.0"
    assert facts["backend"]["malloc"] == {}


def test_a_curve_ends_where_memory_does(tmp_path):
    done = suites(
        *toys("out_of_memory"), "--models=mlp", "--benchmark", "--size=tiny", "--sweep=batch",
        "-k", "curve and infer", "--report=none", results=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = only_run(tmp_path)
    assert [(o.case.batch, o.status) for o in run.outcomes] == [
        (1, "ok"), (2, "ok"), (4, "ok"), (8, "ok"), (16, "ok"), (32, "out_of_memory"),
    ]  # fmt: skip
    assert {m.case.batch for m in run.measurements if m.metric == "throughput"} == {1, 2, 4, 8, 16}
    assert {o.case.suite for o in run.outcomes} == {"sweep_batch"}


def test_sweeps_over_threads_and_lengths(tmp_path):
    done = suites(
        *toys("backend"), "--models=vit,mlp", "--benchmark", "--size=tiny", "--sweep=threads",
        "--sweep=length", "-k", "curve and infer", "--report=none", results=tmp_path,
    )  # fmt: skip
    outcomes = only_run(tmp_path).outcomes
    lengths = [o for o in outcomes if o.case.suite == "sweep_length"]
    assert {o.case.model for o in lengths} == {"vit"}  # mlp has no sequence
    assert {o.status for o in lengths} == {"ok"}, done.stdout
    assert [o.case.length for o in lengths] == [10, 17, 37, 65, 145, 257]
    assert "/b4/s65" in lengths[3].case.key
    threads = [o for o in outcomes if o.case.suite == "sweep_threads"]
    assert {o.case.model for o in threads} == {"vit", "mlp"}
    assert {o.case.threads for o in threads} == set(range(1, physical_cores() + 1))
    assert {o.status for o in threads} == {"ok"}


def test_a_trace_is_kept_beside_the_records(tmp_path):
    done = suites(
        *toys("traced", "backend"), "--models=mlp", "--benchmark", "--size=tiny", "--traces",
        "-k", "test_step and infer", "--report", str(tmp_path / "report"),
        results=tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = only_run(tmp_path / "runs")
    told = {f.case.adapter: f.facts for f in run.facts if "trace" in f.facts}
    path = run.folder / told["traced"]["trace"]
    assert json.loads(path.read_text()) == {"traceEvents": []}
    assert told["backend"] == {"trace": None, "no_trace": "this adapter has no profiler"}


def test_limits_are_measured_once_per_machine(tmp_path):
    one = Limit("bandwidth", "B/s", 1e10, "toy", "cpu", 2, "2026-01-01T00:00:00+00:00")
    environment = {
        "fingerprint": {"id": "abc"},
        "versions": {"x": "1"},
        "python": "3",
        "threads": 2,
    }
    path = limits.file(tmp_path, environment, "bandwidth", "cpu", ["toy"])
    assert limits.read(path) == []
    limits.write(path, [one])
    assert limits.read(path) == [one]
    for other in (
        {"versions": {"x": "2"}},
        {"threads": 1},
        {"fingerprint": {"id": "abd"}},
        {"python": "4"},
    ):
        assert limits.file(tmp_path, environment | other, "bandwidth", "cpu", ["toy"]) != path
    assert limits.file(tmp_path, environment, "bandwidth", "cpu", ["other"]) != path
    path.write_text("rubbish\n")
    assert limits.read(path) == []
    limits.write(tmp_path / "file" / "x", [dataclasses.replace(one)])
    (tmp_path / "blocked").write_text("")
    limits.write(tmp_path / "blocked" / "x", [one])  # cannot be kept: nothing is lost


@pytest.mark.parametrize("option", ["--sweep=depth", "--isolation=none", "--allocator=jemalloc"])
def test_a_wrong_choice_is_one_usage_error(tmp_path, option):
    done = suites(*toys("backend"), option, "--collect-only", results=tmp_path)
    assert done.returncode in (2, pytest.ExitCode.USAGE_ERROR)  # ours, or pytest's own
    assert option.partition("=")[2] in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
