"""Cases on several machines: a real scheduler with two workers, each a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.environment import physical_cores
from results import frame, machines
from results.records import Case, Decision, encode
from results.store import read, run_folders
from suites import options, spread
from suites.session import corrected_over_all
from suites.spread import Answer, Spread, SpreadError, measure, records

ROOT = Path(__file__).resolve().parent.parent
TOYS = ("backend", "raises", "returns_nan", "reaches_limits")
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


def suites(cluster, results, *arguments, toys=("backend", "raises", "returns_nan")):
    command = [sys.executable, "-m", "pytest", "suites", "--results", str(results), *arguments]
    command += ["--launcher", "dask", "--scheduler", cluster.scheduler_address]
    command += [f"--adapter-module=tests.toys.{name}" for name in TOYS]
    return subprocess.Popen(
        [*command, "--adapters", ",".join(toys)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process):
    told, _ = process.communicate(timeout=600)
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


def test_sweeps_and_limits_are_those_of_the_machine_that_ran_them(cluster, tmp_path):
    chosen = "matmul_fp32 or bandwidth or (test_curve and infer)"
    options = ["--benchmark", "--sweep=threads", "--size=tiny", "--models=mlp", "--report=none"]
    options += ["--case-timeout=240", "-k", chosen]
    code, told = ended(suites(cluster, tmp_path, *options, toys=["reaches_limits"]))  # fmt: skip
    (folder,) = run_folders(tmp_path)
    run = read(folder)
    assert code == 0, told
    points = [o.case for o in run.outcomes if o.case.suite == "sweep_threads"]
    assert [point.threads for point in points] == list(range(1, physical_cores() + 1))
    assert all(outcome.status == "ok" for outcome in run.outcomes)
    assert all("--case-timeout 240.0" in outcome.reproduce for outcome in run.outcomes)
    where = machines.places(run.facts)
    assert {*points} <= {*where}
    assert {limit.limit for limit in run.limits} == {"matmul_fp32", "bandwidth"}
    assert {limit.machine for limit in run.limits} == {*where.values()}
    table = frame.summary(run)
    assert "peak_fraction" in set(table["metric"])


def test_a_worker_that_would_run_cases_side_by_side_is_refused(numpy_alone):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None,
        scheduler_port=0,
    ) as wide:  # fmt: skip
        with pytest.raises(SpreadError, match="has 2 threads, but should have 1"):
            Spread(wide.scheduler_address, gpu=False)
        with distributed.Client(wide) as client:  # and one that came later
            late = client.submit(measure, "suites", ())
            with pytest.raises(SpreadError, match="--nthreads 1"):
                late.result(timeout=60)


def test_what_was_asked_goes_along():
    """Every option that decides how a case runs reaches the machine, and `reproduce`."""
    parser = pytest.Parser()
    options.add(parser)
    asked = ("--case-timeout=7 --memory-limit=3 --share-gpu --wait-for-gpu=5 --traces --isa=avx2 "
             "--strict-deviations --threads=2 --device=cuda").split()  # fmt: skip
    words = options.same(parser.parse_known_args(asked), None)
    again = options.same(parser.parse_known_args(words), None)
    assert words == again
    for word in asked:
        name, _, value = word.partition("=")
        assert name in words
        assert not value or float_or_text(words[words.index(name) + 1]) == float_or_text(value)


def float_or_text(text):
    return float(text) if text.replace(".", "").isdigit() else text


def test_a_gate_s_decisions_are_corrected_over_all_machines():
    """Each of five machines flags its own case at 3%: among five, that may be chance."""
    cases = [Case("gate_steps", "infer", m, "tiny", "a", "cpu", "fp32", 4) for m in "abcde"]
    answers = [
        Answer((encode(Decision(case, "step_time", "regressed", "base", p=0.03, stage=2)),), {}, "")
        for case in cases
    ]
    assert {d.verdict for d in corrected_over_all(answers).values()} == {"inconclusive"}
    assert {d.verdict for d in corrected_over_all(answers[:1]).values()} == {"regressed"}


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
