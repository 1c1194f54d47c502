"""The gate as a user runs it: `pytest suites --benchmark --against`, and how it ends."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from results.announce import MARKER
from results.gate import SUITES
from results.store import read, run_folders

ROOT = Path(__file__).resolve().parent.parent
MINE = """
from tests.toys import backend

class Program(backend.Program):
    def load(self, params, buffers):
        super().load(params, buffers)
        {more}

class Adapter(backend.Adapter):
    def program(self, spec):
        return Program(spec)
"""
NOTHING = "pass"
MEMORY = "self.kept = bytearray(16 * 2**20)"
CRASH = "import os; os.abort()"

pytestmark = pytest.mark.usefixtures("numpy_alone")


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Runs the gate on memory, which takes a few seconds; returns its process."""

    def start(base, head, *arguments, suite="test_memory.py", results=tmp_path / "runs", **more_of):
        for name, more in (("base", base), ("head", head)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "mine.py").write_text(MINE.format(more=more))
        inherited = os.environ["PYTHONPATH"]
        path = os.pathsep.join([str(tmp_path / "head"), inherited, str(ROOT)])
        command = [sys.executable, "-m", "pytest", f"suites/gate/{suite}", "--benchmark"]
        command += ["--against", str(tmp_path / "base"), "--adapter-module", "mine"]
        command += ["--adapters", "mine", "--models", "mlp", "--size", "tiny", "--report", "none"]
        return subprocess.Popen(
            [*command, "--results", str(results), *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": path, **more_of},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    return start


def ended(process):
    told, _ = process.communicate(timeout=240)
    return process.returncode, told


def only_run(tmp_path):
    (folder,) = run_folders(tmp_path / "runs")
    return read(folder)


def test_nothing_changed_is_0(gate, tmp_path):
    code, told = ended(gate(NOTHING, NOTHING))
    assert code == 0, told
    assert "gate: 1 unchanged" in told
    run = only_run(tmp_path)
    assert [d.verdict for d in run.decisions if d.case.suite in SUITES] == ["unchanged"]
    assert run.environment["threads"] == 1
    assert (run.folder / "gate.md").read_text().startswith(MARKER)
    assert json.loads((run.folder / "gate.json").read_text())["counts"] == {"unchanged": 1}
    assert "no regression" in (run.folder / "gate.svg").read_text()


def test_more_memory_is_1_and_a_failing_test_with_its_decision(gate, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    junit = tmp_path / "junit.xml"
    code, told = ended(gate(NOTHING, MEMORY, f"--junitxml={junit}"))
    assert code == 1, told
    assert "regressed host_peak_bytes" in told
    assert "::error title=Assay%3A regressed::" in told
    assert "1 regressed" in summary.read_text()
    properties = {p.get("name"): p.get("value") for p in ET.parse(junit).iter("property")}
    assert properties["host_peak_bytes"].startswith("regressed host_peak_bytes")


def test_a_policy_decides_what_is_too_much(gate, tmp_path):
    policy = tmp_path / "gate.toml"
    policy.write_text("[model.mlp]\nmemory = 1000.0")
    code, told = ended(gate(NOTHING, MEMORY, "--policy", str(policy)))
    assert code == 0, told


def test_a_base_that_crashes_is_3_and_named(gate, tmp_path):
    code, told = ended(gate(CRASH, NOTHING))
    assert code == 3, told
    assert "base: the worker was killed by SIGABRT" in told
    held = [d.verdict for d in only_run(tmp_path).decisions if d.case.suite in SUITES]
    assert held == ["inconclusive"]


def everywhere(tmp_path, told, junit=None):
    """What each place says of a gate's one case: the terminal, gate.md, gate.json, the badge, the
    records, and the JUnit file (failure, skipped or passed, and the properties)."""
    run = only_run(tmp_path)
    report = json.loads((run.folder / "gate.json").read_text())
    found = {
        "terminal": re.search("gate: (.*)", told)[1],
        "md": (run.folder / "gate.md").read_text().splitlines()[1].partition(": ")[2],
        "json": [(d["metric"], d["verdict"]) for d in report["decisions"]],
        "code": report["exit_code"],
        "badge": re.search("textLength.*>(.*)</text>", (run.folder / "gate.svg").read_text())[1],
        "records": [(d.metric, d.verdict) for d in run.decisions if d.case.suite in SUITES],
    }
    if junit is not None:
        cases = [c for c in ET.parse(junit).iter("testcase") if "test_memory" in c.get("classname")]
        kinds = [{child.tag for child in c} & {"failure", "error", "skipped"} for c in cases]
        found["junit"] = [kind.pop() if kind else "passed" for kind in kinds]
        found["properties"] = [p.get("value") for c in cases for p in c.iter("property")]
    return found


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (CRASH, "crashed: the worker was killed by SIGABRT"),
        ("self.tensors = {n: 1.5 * v for n, v in self.tensors.items()}", "divergent: "),
        ("backend.require(False, 'it is gone')", "support lost: it is gone"),
    ],
)
def test_a_head_that_ends_badly_is_1_wherever_one_looks(gate, tmp_path, head, reason):
    junit = tmp_path / "junit.xml"
    code, told = ended(
        gate(NOTHING, head, f"--junitxml={junit}", "--case-timeout=15", "-k", "infer")
    )
    assert code == 1, told
    found = everywhere(tmp_path, told, junit)
    assert found["terminal"] == found["md"] == "1 regressed"
    assert found["json"] == found["records"] == [("memory", "regressed")]
    assert found["code"] == 1
    assert found["badge"] == "1 regressed"
    assert found["junit"] == ["failure"]
    assert found["properties"][0].startswith(f"regressed memory: {reason}")


def test_what_neither_supports_is_listed_and_nothing_was_decided(gate, tmp_path):
    junit, gone = tmp_path / "junit.xml", "backend.require(False, 'no such kernel')"
    code, told = ended(gate(gone, gone, f"--junitxml={junit}", "-k", "infer"))
    assert code == 3, told
    found = everywhere(tmp_path, told, junit)
    assert found["terminal"] == found["md"] == "nothing was decided, 1 not gated"
    assert found["badge"] == "not decided"
    assert found["junit"] == ["skipped"]
    report = json.loads((only_run(tmp_path).folder / "gate.json").read_text())
    assert [one["reason"] for one in report["ungated"]] == ["no such kernel"]


def test_what_is_wrong_besides_is_in_the_summary_as_in_the_exit_code(gate, tmp_path):
    wrong = "self.tensors = {n: 1.5 * v for n, v in self.tensors.items()}"
    code, told = ended(
        gate(wrong, wrong, "suites/conformance/test_models.py", "-k", "infer and (fp64 or memory)")
    )
    assert code == 1, told
    found = everywhere(tmp_path, told)
    assert found["terminal"] == found["md"] == "1 inconclusive, 1 wrong besides"
    assert found["badge"] == "1 wrong"
    report = json.loads((only_run(tmp_path).folder / "gate.json").read_text())
    assert "divergent" in report["wrong"][0]["reason"]


def test_ctrl_c_midway_leaves_nothing_green(gate, tmp_path):
    """Two cases, of which the second hangs in head, once base is done with it."""
    junit, once = tmp_path / "junit.xml", tmp_path / "once"
    hang = f"import os, time; os.path.exists({str(once)!r}) and time.sleep(600)"
    process = gate(
        NOTHING, hang, f"--junitxml={junit}", "--models", "mlp,halving", "-k", "infer",
        "--case-timeout=500",
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        written = [p.read_text() for p in (tmp_path / "runs").glob("*/records.jsonl")]
        ends = [t for text in written for t in text.splitlines() if '"kind": "outcome"' in t]
        if any('"suite": "gate_memory"' in text for text in ends):
            once.touch()
            break
        time.sleep(0.05)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    code, told = ended(process)
    assert code == 130, told
    found = everywhere(tmp_path, told, junit)
    assert found["terminal"] == found["md"] == "1 unchanged, 1 inconclusive"
    assert found["badge"] == "not decided"
    assert [verdict for _, verdict in found["json"]] == ["unchanged", "inconclusive"]
    assert sorted(found["records"]) == sorted(found["json"])
    assert found["code"] == 3
    assert found["junit"] == ["passed", "skipped"]
    assert "1 of 2 selected cases were not measured" in told
    once.unlink()
    code, told = ended(
        gate(
            NOTHING, hang, "--resume", "latest", f"--junitxml={junit}", "--models", "mlp,halving",
            "-k", "infer",
        )
    )  # fmt: skip
    assert code == 0, told
    assert "gate: 2 unchanged" in told
    assert "has an outcome already" not in told
    assert told.count("gate_memory") == 0 or "infer/mlp" not in told.split("collected")[1]
    runs = [read(folder) for folder in run_folders(tmp_path / "runs")]
    first = [d for d in runs[0].decisions if d.case.suite in SUITES and d.verdict == "unchanged"]
    assert set(first) <= set(runs[1].decisions)  # taken over as it was


def test_a_gate_is_resumed_only_with_the_same_code_on_both_sides(gate, tmp_path):
    assert ended(gate(NOTHING, NOTHING))[0] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text(MINE.format(more=NOTHING))
    policy = tmp_path / "gate.toml"
    policy.write_text("[thresholds]\nmemory = 0.5")
    for base, head, more, told in (
        (NOTHING, NOTHING, ["--against", str(tmp_path / "other")], "against is"),
        ("x = 1", NOTHING, [], "base_code is"),
        (NOTHING, "x = 1", [], "; code is"),
        (NOTHING, NOTHING, ["--policy", str(policy)], "policy is"),
    ):
        code, text = ended(gate(base, head, "--resume", "latest", *more))
        assert code == 2, text
        assert "cannot be resumed" in text
        assert told in text.replace("resumed: ", "resumed: ; ")
        assert len(text.strip().splitlines()) == 1


def test_a_full_disk_is_an_error_and_no_regression(gate, tmp_path):
    """A file system that is full when the first case is to be recorded."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root mounts a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "assay", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system")
    try:
        process = gate(NOTHING, NOTHING, results=disk / "runs")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(disk.glob("runs/*/records.jsonl")):
            time.sleep(0.05)
        filler = (disk / "filler").open("wb", buffering=0)
        with contextlib.suppress(OSError):
            while filler.write(b"x" * 512):
                pass
        code, told = ended(process)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert code == 3, told
    assert "No space left on device" in told
    assert "Traceback" not in told


def test_nothing_that_ran_is_3(gate):
    assert ended(gate(NOTHING, NOTHING, "-k", "nothing_of_the_kind"))[0] == 3


def test_a_base_without_the_package_is_3(gate):
    code, told = ended(gate("import surely_missing", NOTHING))
    assert code == 3, told
    assert "base: " in told


def test_ctrl_c_keeps_what_was_decided_and_removes_the_worktree(gate, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "unused.py").write_text("")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(repository)]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    process = gate(NOTHING, NOTHING, "--against", f"{repository}@HEAD", suite="test_step_time.py")
    records = tmp_path / "runs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [p for p in records.glob("*/records.jsonl") if p.stat().st_size]
        if found:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    code, told = ended(process)
    assert code == 130, told
    assert "Traceback" not in told
    assert any(o.status == "interrupted" for o in only_run(tmp_path).outcomes)
    listed = subprocess.run([*git, "worktree", "list"], capture_output=True, text=True, check=True)
    assert listed.stdout.count("\n") == 1


def test_another_version_of_the_protocol_is_named(gate, tmp_path):
    """A checkout of Assay whose workers speak otherwise."""
    other = tmp_path / "checkout"
    for room in ("harness", "adapters", "numerics"):
        (other / room).mkdir(parents=True)
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = other / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    protocol = other / "harness" / "protocol.py"
    protocol.write_text(protocol.read_text().replace("VERSION = ", "VERSION = 100 + "))
    code, told = ended(gate(NOTHING, NOTHING, "--against", str(other)))
    assert code == 2, told  # nothing was measured: such a base cannot be asked
    assert "it runs another version of Assay" in told, told
    assert "2 of 2 selected cases were not measured" in told, told
