"""The gate as a user runs it: `pytest suites --benchmark --against`, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from results.announce import MARKER
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

    def start(base, head, *arguments, suite="test_memory.py", results=tmp_path / "runs"):
        for name, more in (("base", base), ("head", head)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "mine.py").write_text(MINE.format(more=more))
        inherited = os.environ["PYTHONPATH"]
        path = os.pathsep.join([str(tmp_path / "head"), inherited, str(ROOT)])
        command = [sys.executable, "-m", "pytest", f"suites/gate/{suite}", "--benchmark"]
        command += ["--against", str(tmp_path / "base"), "--adapter-module", "mine"]
        command += ["--adapters", "mine", "--models", "mlp", "--size", "tiny", "--report", "none"]
        return subprocess.Popen(
            [*command, "--results", str(results), *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": path},
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
    assert [d.verdict for d in run.decisions] == ["unchanged"]
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
    assert [d.verdict for d in only_run(tmp_path).decisions] == ["inconclusive"]


def test_a_head_that_crashes_is_1(gate):
    code, told = ended(gate(NOTHING, CRASH))
    assert code == 1, told
    assert "the worker was killed by SIGABRT" in told


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
    assert code == 3, told
    assert "it runs another version of Assay" in told, told
