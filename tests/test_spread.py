"""Cases on several machines: a real scheduler with two workers, each a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results.store import read, run_folders
from suites import spread
from suites.spread import Answer, Spread, SpreadError, records

ROOT = Path(__file__).resolve().parent.parent
TOYS = ("backend", "raises", "returns_nan")
distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")


@pytest.fixture
def cluster(numpy_alone):
    """A scheduler and two workers that measure one thing at a time."""
    from distributed import LocalCluster

    before = dict(os.environ)
    try:
        with LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            scheduler_port=0, resources={"GPU": 1},
        ) as found:  # fmt: skip
            yield found
    finally:  # its nanny leaves variables behind
        os.environ.clear()
        os.environ.update(before)


def suites(cluster, results, *arguments):
    command = [sys.executable, "-m", "pytest", "suites", "--results", str(results), *arguments]
    command += ["--launcher", "dask", "--scheduler", cluster.scheduler_address]
    command += [f"--adapter-module=tests.toys.{name}" for name in TOYS]
    return subprocess.Popen(
        [*command, "--adapters", ",".join(TOYS)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process):
    told, _ = process.communicate(timeout=240)
    return process.returncode, told


def test_two_machines_make_one_run_that_says_who_ran_what(cluster, tmp_path):
    options = ["--models=mlp,convnet", "--precisions=fp64", "-k", "test_agreement and infer"]
    code, told = ended(suites(cluster, tmp_path, *options))
    assert code == 1, told  # two of the toys are wrong
    (folder,) = run_folders(tmp_path)
    run = read(folder)
    assert run.problems == ()
    assert {(o.case.adapter, o.case.model): o.status for o in run.outcomes} == {
        ("backend", "mlp"): "ok", ("backend", "convnet"): "ok",
        ("raises", "mlp"): "failed", ("raises", "convnet"): "failed",
        ("returns_nan", "mlp"): "divergent", ("returns_nan", "convnet"): "divergent",
    }  # fmt: skip
    ran_on = [f for f in run.facts if "ran_on" in f.facts]
    assert len(ran_on) == 6
    assert all(f.facts["ran_on"]["host"] for f in ran_on)
    assert any(a.case.adapter == "backend" for a in run.agreements)


def test_cases_of_a_lost_worker_are_given_to_another_one_and_then_named(cluster):
    """Both machines are lost while they run the case: it is named, and does not hang."""
    address = cluster.scheduler_address
    two = Spread(address, gpu=True)
    try:
        assert two.machines == 2
        two._tasks["deadly"] = two._client.submit(die, resources={"GPU": 1}, pure=False)
        with pytest.raises(Exception, match="2 machines were lost while they ran it"):
            two.answer("deadly")
    finally:
        two.close()


def die():
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_scheduler_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(spread, "CONNECT_SECONDS", 1)
    with pytest.raises(SpreadError, match="no Dask scheduler answers at tcp"):
        Spread("tcp://127.0.0.1:9", gpu=False)


def test_records_of_another_version_are_told():
    line = '{"kind": "outcome", "schema": 99}'
    with pytest.raises(SpreadError, match=r"there sent .* schema version 99"):
        records(Answer((line,), {"host": "there"}, ""))
