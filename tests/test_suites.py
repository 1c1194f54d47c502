"""The suites as a user runs them: `pytest suites` in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from results.store import read, run_folders

ROOT = Path(__file__).resolve().parent.parent
NUMPY_ALONE = pytest.mark.usefixtures("numpy_alone")
TOYS = ("backend sleeps hogs raises returns_nan segfaults wrong_epsilon "
        "needs_missing_package falls_back").split()  # fmt: skip


def suites(*arguments, root=ROOT, results, **options):
    command = [sys.executable, "-m", "pytest", "suites", "--results", str(results), *arguments]
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=600, check=False, **options
    )


def heed_ctrl_c():
    """In a child: a process that is started in the background ignores Ctrl-C, and so would this."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def only_run(results):
    (folder,) = run_folders(results)
    return read(folder)


def toys(*names):
    return [f"--adapter-module=tests.toys.{name}" for name in names] + [
        "--adapters=" + ",".join(names)
    ]


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--adapters", "torch_eagre"], "unknown adapter 'torch_eagre': there are torch_eager,"),
        (["--adapters", "torch_eagre"], "did you mean 'torch_eager'?"),
        (["--models", "vitt"], "unet, vit, vnet3d; did you mean 'vit'?"),
        (["--precisions", "fp23"], "unknown precision 'fp23'"),
        (["--device", "tpu"], "unknown device 'tpu': there are cpu, cuda"),
        (["--size", "smal", "--benchmark"], "unknown size 'smal': there are full, small, tiny"),
        (["--python", "jax_jit=/nowhere"], "/nowhere is not an executable file"),
        (["--python", "jaxx=/bin/true"], "unknown adapter 'jaxx'"),
        (["--threads", "0"], "--threads is 0, but should be above 0"),
        (["-n", "2"], "the suites run in one pytest process"),
        (["--against", "/bin/true"], "it needs --benchmark beside it"),
        (["--policy", "gate.toml"], "it needs --against beside it"),
        (["--benchmark", "--benchmark-disable"], "--benchmark-disable keeps it from it"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, arguments, told):
    done = suites(*arguments, "--collect-only", results=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.strip().count("\n") <= 1
    assert "Traceback" not in done.stdout + done.stderr


@NUMPY_ALONE
def test_a_results_folder_that_cannot_be_written_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = suites(*toys("backend"), "--models=mlp", results=blocked / "runs")
    assert done.returncode not in (0, 1)
    assert "cannot create the run's folder" in done.stdout + done.stderr
    assert "--results DIR" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@NUMPY_ALONE
def test_a_full_disk_keeps_what_was_recorded(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system to fill needs the right to mount a tmpfs")
    try:
        names = toys("backend", "raises")
        done = suites(*names, "--models=convnet,mlp,vit", "-k", "infer", results=tmp_path)
        assert done.returncode not in (0, 1)
        assert "cannot append to" in done.stdout + done.stderr
        assert "No space left on device" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert [o.status for o in only_run(tmp_path).outcomes][:2] == ["ok", "failed"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# -- the run goes on --------------------------------------------------------------------------


def test_every_provoked_fault_is_one_outcome_and_the_report_shows_it(tmp_path):
    done = suites(
        *toys(*TOYS), "--benchmark", "--size=tiny", "--models=vit", "-k", "infer",
        "--precisions=fp64,fp32", "--case-timeout=5", "--memory-limit=0.5",
        "--report", str(tmp_path / "report"),
        results=tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    run = only_run(tmp_path / "runs")
    assert not run.problems
    found = {}
    for outcome in run.outcomes:
        found.setdefault(outcome.case.adapter, set()).add(outcome.status)
        assert outcome.reproduce.startswith("pytest 'suites/")
    assert found == {
        "backend": {"ok"},
        "sleeps": {"timeout"},
        "hogs": {"out_of_memory"},
        "raises": {"failed"},
        "returns_nan": {"divergent"},
        "segfaults": {"crashed"},
        "wrong_epsilon": {"divergent"},
        "needs_missing_package": {"unsupported"},
        "falls_back": {"ok", "failed"},
    }
    # float64, float32, what quantization is compared with, and four that are measured: steps, cold
    # start, latency, memory
    assert len(run.outcomes) == 7 * len(TOYS)
    assert len({(o.case.suite, o.case.key) for o in run.outcomes}) == len(run.outcomes)
    assert {m.case.adapter for m in run.measurements} == {"backend"}
    pages = [path.read_text() for path in (tmp_path / "report").rglob("*.html")]
    for outcome in run.outcomes:
        name = outcome.case.key.replace("_", "_<wbr>").replace("/", "/<wbr>")
        assert any(f'<h1 class="key">{name}</h1>' in page for page in pages)
    page = "".join(pages)
    assert "the toy &lt;b&gt;kernel&lt;/b&gt; refused" in page
    assert "<b>kernel</b>" not in page


@NUMPY_ALONE
def test_ctrl_c_keeps_what_was_measured(tmp_path):
    command = [
        sys.executable, "-m", "pytest", "suites", *toys("backend", "sleeps"), "--models=mlp",
        "-k", "infer and fp64", "--results", str(tmp_path),
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if " ok " in line:  # the backend's case is done; `sleeps` never will be
                threading.Timer(1.0, process.send_signal, [signal.SIGINT]).start()
        process.wait(timeout=60)
    assert process.returncode == 130  # as a shell has it
    run = only_run(tmp_path)
    assert [o.status for o in run.outcomes] == ["ok", "interrupted"]
    assert "2 cases: 1 interrupted, 1 ok" in "".join(lines)
    assert workers_of(tmp_path) == []


def workers_of(results):
    """Workers that outlived their parent."""
    found = subprocess.run(
        ["pgrep", "-f", "harness.worker --adapter tests.toys.sleeps"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.split()


@NUMPY_ALONE
def test_a_killed_parent_leaves_no_worker(tmp_path):
    command = [
        sys.executable, "-m", "pytest", "suites", *toys("sleeps"), "--models=mlp",
        "-k", "infer and fp64", "--results", str(tmp_path),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not workers_of(tmp_path):
            assert process.poll() is None
        process.kill()
    # a worker that had just been started notices when it has started
    for _ in range(1200):
        if not workers_of(tmp_path):
            break
        threading.Event().wait(0.05)
    assert workers_of(tmp_path) == []


# -- extending ---------------------------------------------------------------------------------


def test_a_model_and_an_adapter_are_one_file_each(tmp_path):
    """In a copy of the project: a file in adapters/models, and a module anywhere on the path."""
    project = tmp_path / "project"
    ignore = shutil.ignore_patterns(".*", "runs", "__pycache__", "tests")
    shutil.copytree(ROOT, project, ignore=ignore)
    toy_files = ROOT / "tests" / "toys"
    shutil.copy(toy_files / "toy_model.py", project / "adapters/models/toy_model.py")
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(toy_files / "backend.py", outside / "toy_backend.py")
    done = suites(
        "--adapter-module=toy_backend", "--adapters=toy_backend,torch_eager",
        "--models=toy_model", "--benchmark", "--size=tiny", "--report", str(tmp_path / "report"),
        root=project, results=tmp_path / "runs",
        env={**os.environ, "PYTHONPATH": str(outside)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = only_run(tmp_path / "runs")
    statuses = {(o.case.suite, o.case.key): o.status for o in run.outcomes}
    for adapter in ("toy_backend", "torch_eager"):
        assert statuses["conformance", f"infer/toy_model/tiny/{adapter}/cpu/fp64/b4"] == "ok"
        assert statuses["performance", f"infer/toy_model/tiny/{adapter}/cpu/fp32/b4"] == "ok"
    assert statuses["conformance", "train/toy_model/tiny/toy_backend/cpu/fp64/b4"] == "unsupported"
    timed = {m.case.adapter for m in run.measurements if m.metric == "step_time"}
    assert timed == {"toy_backend", "torch_eager"}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "toy_backend" in page
    assert "toy_model" in page


def test_a_missing_framework_leaves_the_others_running(tmp_path):
    """A package that cannot be imported stands in front of the real one."""
    hidden = tmp_path / "hidden" / "tensorflow"
    hidden.mkdir(parents=True)
    error = "raise ModuleNotFoundError('No module named tensorflow', name='tensorflow')"
    (hidden / "__init__.py").write_text(error)
    done = suites(
        "--adapters=tf_graph,tf_xla,torch_eager", "--models=mlp", "-k", "test_agreement",
        results=tmp_path / "runs", env={**os.environ, "PYTHONPATH": str(hidden.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = only_run(tmp_path / "runs").outcomes
    statuses = {(o.case.adapter, o.status) for o in outcomes}
    expected = {("tf_graph", "unsupported"), ("tf_xla", "unsupported"), ("torch_eager", "ok")}
    assert statuses == expected
    assert all("'tensorflow' is not installed" in o.reason for o in outcomes
               if o.status == "unsupported")  # fmt: skip


# -- pytest's own habits ---------------------------------------------------------------------------


@NUMPY_ALONE
def test_pytest_benchmark_s_json_holds_what_the_worker_measured(tmp_path):
    done = suites(
        *toys("backend"), "--benchmark", "--size=tiny", "--models=mlp", "-k", "infer",
        "--benchmark-json", str(tmp_path / "b.json"), "--report=none",
        results=tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (benchmark,) = json.loads((tmp_path / "b.json").read_text())["benchmarks"]
    run = only_run(tmp_path / "runs")
    (step_time,) = [m for m in run.measurements if m.metric == "step_time"]
    assert benchmark["stats"]["data"] == pytest.approx(step_time.values)
    assert benchmark["group"] == "infer/mlp/tiny/cpu/fp32"


@NUMPY_ALONE
def test_without_benchmark_nothing_is_measured(tmp_path):
    done = suites(*toys("backend"), "--models=mlp", "-k", "infer", results=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert only_run(tmp_path).measurements == []


@NUMPY_ALONE
def test_junit_and_markers_work(tmp_path):
    done = suites(
        *toys("raises"), "--models=mlp", "-k", "infer", "--junitxml", str(tmp_path / "j.xml"),
        results=tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "failed: infer/mlp/tiny/raises/cpu/fp64/b8" in (tmp_path / "j.xml").read_text()
