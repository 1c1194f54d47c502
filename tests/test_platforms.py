"""On a system without /proc, as macOS is one: everything runs but what cannot be known there."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.base import Unsupported
from harness import memory
from results.store import read, run_folders

ROOT = Path(__file__).resolve().parent.parent
#: Imported by every Python that finds it: takes away what Linux has and macOS has not.
WITHOUT_PROC = """
import io, os
for name in ("sched_getaffinity", "sched_setaffinity"):
    if hasattr(os, name):
        delattr(os, name)

def refusing(function):
    def run(path, *arguments, **options):
        if str(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return function(path, *arguments, **options)
    return run

io.open, os.stat, os.listdir, os.scandir = map(
    refusing, (io.open, os.stat, os.listdir, os.scandir)
)
"""


@pytest.fixture
def without_proc(numpy_alone, monkeypatch):
    folder = Path(os.environ["PYTHONPATH"])
    (folder / "sitecustomize.py").write_text(WITHOUT_PROC)


def test_memory_is_unsupported_and_the_platform_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    with pytest.raises(Unsupported, match=f"but {platform.system()} .* lacks status, clear_refs"):
        memory.require()
    (tmp_path / "status").write_text("VmPeak: 1 kB\n")  # as a sandbox has it
    (tmp_path / "clear_refs").write_text("")
    with pytest.raises(Unsupported, match=r"lacks VmHWM in .*status here"):
        memory.require()


def test_a_run_without_proc_measures_all_but_memory(without_proc, tmp_path):
    command = [
        sys.executable, "-m", "pytest", "suites", "--benchmark", "--adapters=backend",
        "--adapter-module=tests.toys.backend", "--models=mlp", "--size=tiny", "-k",
        "infer and (fp64 or memory or latency)", "--report=none", f"--results={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (folder,) = run_folders(tmp_path)
    outcomes = {outcome.case.suite: outcome for outcome in read(folder).outcomes}
    assert outcomes["conformance"].status == "ok", done.stdout + done.stderr
    assert outcomes["latency"].status == "ok", outcomes["latency"].reason
    assert outcomes["memory"].status == "unsupported", outcomes["memory"].reason
    assert f"but {platform.system()}" in outcomes["memory"].reason
