"""The suites are found and run wherever pytest is started, and whoever's configuration it reads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from results.store import read, run_folders
from suites import options

ROOT = Path(__file__).resolve().parent.parent
CASES = "suites/conformance/test_models.py"
ONE = ["--adapters=backend", "--adapter-module=tests.toys.backend", "--models=mlp",
       "-k", "infer and fp64"]  # fmt: skip


def run(*arguments, cwd, results=None, **variables):
    command = [sys.executable, "-m", "pytest", *map(str, arguments), "-p", "no:cacheprovider"]
    command += ["--results", str(results)] if results else []
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


@pytest.fixture
def parent(tmp_path):
    """A folder of somebody's project with this checkout in it, by a link."""
    folder = tmp_path / "parent"
    folder.mkdir()
    (folder / "assay").symlink_to(ROOT)
    return folder


def copied(folder):
    """Another checkout."""
    ignore = shutil.ignore_patterns(".*", "runs", "__pycache__", "tests", "example", "docs")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


@pytest.mark.usefixtures("numpy_alone")
@pytest.mark.parametrize("how", ["parent", "file", "root", "strange"])
def test_another_configuration_finds_the_same_cases(parent, tmp_path, how):
    """A pytest.ini of a folder around, one that is named, another root, and one whose tests have
    other names and whose warnings are errors."""
    ini, arguments = parent / "pytest.ini", [parent / "assay" / CASES]
    if how == "file":
        ini = tmp_path / "elsewhere" / "pytest.ini"
        ini.parent.mkdir()
        arguments += ["-c", ini]
    if how == "root":
        arguments += ["--rootdir", tmp_path]
    strange = "python_files = *_check.py\npython_functions = check\nfilterwarnings = error\n"
    ini.write_text("[pytest]\n" + strange * (how == "strange"))
    done = run(*arguments, *ONE, cwd=parent, results=tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = run_folders(tmp_path / "runs")
    (outcome,) = read(folder).outcomes
    assert outcome.case.key == "infer/mlp/tiny/backend/cpu/fp64/b8"
    assert outcome.reproduce.startswith(f"pytest '{CASES}::test_agreement[")
    assert "PASSED" not in done.stdout.replace("1 passed", "")  # the display has a line instead


def test_what_is_not_measured_is_left_out_under_another_root(parent, tmp_path):
    done = run(
        ROOT / "suites", "--rootdir", tmp_path, "--collect-only", "-q", "--models=mlp",
        "--adapters=torch_eager", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conformance/test_models.py" in done.stdout
    for left_out in ("performance/", "gate/", "test_self_test.py"):
        assert left_out not in done.stdout


def test_two_checkouts_are_one_clear_error(tmp_path):
    other = copied(tmp_path / "other")
    done = run(ROOT / CASES, other / CASES, "--collect-only", cwd=tmp_path)
    assert done.returncode not in (0, 1, 3, 5)
    assert "already added by another checkout of Assay" in done.stderr
    assert f"cd {other}; pytest suites" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_folder_around_the_suites_is_asked_for_them_too():
    """With `pytest .`, for which -n is refused like for the suites by name."""
    assert options.of_suites([str(ROOT)], around=True)
    assert not options.of_suites([str(ROOT)])
    assert not options.of_suites([str(ROOT / "tests")], around=True)


@pytest.mark.parametrize("variables", [{}, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}])
def test_without_pytest_benchmark_there_is_one_clear_error(variables):
    off = [] if variables else ["-p", "no:benchmark"]
    done = run(CASES, *off, "--collect-only", cwd=ROOT, **variables)
    assert done.returncode == 2
    assert "pytest-benchmark is switched off (-p no:benchmark" in done.stderr
    assert done.stderr.strip().count("\n") <= 1
