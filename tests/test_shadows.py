"""Files of a user that bear the names of ours, in the folder where a run is started, and workers
that cannot start."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from adapters.registry import Registry, UnknownName
from harness.arms import Arm
from harness.client import Client, WorkerFailure
from harness.pool import Pool, Role, Settings
from results.store import read, run_folders

ROOT = Path(__file__).resolve().parent.parent
OURS = ("adapters", "harness", "numerics", "results", "reports", "suites")
ADAPTER = "from tests.toys import backend\n\n\nclass Adapter(backend.Adapter):\n    pass\n"


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """A working directory with a module for each name of ours, which says so when it is run."""
    folder = tmp_path / "user"
    folder.mkdir()
    for name in OURS:
        (folder / f"{name}.py").write_text(f'print("this is the user\'s {name}")')
    (folder / "mine.py").write_text(ADAPTER)
    monkeypatch.chdir(folder)
    return folder


def worker(tmp_path, module, **options):
    return Client(
        module, python=sys.executable, environment={}, log=tmp_path / "log", memory_limit=2**30,
        timeout=20, **options,
    )  # fmt: skip


def suites(*arguments, cwd, results, python=("-m", "pytest")):
    command = [sys.executable, *python, str(ROOT / "suites" / "conformance" / "test_operations.py")]
    command += ["-k", "abs", "--results", str(results), *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


# -- what lies in the working directory ------------------------------------------------------------


def test_a_worker_imports_nothing_from_the_working_directory(users_folder, tmp_path):
    client = worker(tmp_path, "tests.toys.backend")
    client.close()
    assert client.hello["versions"]["toy"] == "1.0"


@pytest.mark.parametrize("arm", ["head", "base"])
def test_nor_does_it_take_ours_from_the_folder_of_an_adapter(users_folder, tmp_path, arm):
    """Neither from that of `--adapter-module` nor from that of `--against`."""
    here = Arm(folders=(users_folder,)) if arm == "base" else Arm()
    registry = Registry.load([str(users_folder / "mine.py")])
    pool = Pool(
        Settings(
            registry=registry, python=sys.executable, scratch=tmp_path, threads=1,
            case_timeout=20.0, memory_limit=2**30, base=here,
        )
    )  # fmt: skip
    role = Role("mine", "judge", arm="base" if arm == "base" else "")
    assert pool.client(role).hello["versions"]["toy"] == "1.0"
    pool.close_all()


def test_a_run_is_right_in_a_folder_with_our_names(users_folder, tmp_path):
    done = suites("--adapter-module=mine", "--adapters=mine", cwd=users_folder, results=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = run_folders(tmp_path)
    assert "ok" in {outcome.status for outcome in read(folder).outcomes}


def test_the_command_assay_is_not_a_users_results(users_folder, tmp_path):
    """`python -m results gate` runs the user's file, prints and exits with 0; no code of ours is
    asked. The console script's folder is searched, and the working directory is not."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["assay"].partition(":")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "assay"
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    shadowed = subprocess.run(
        [sys.executable, "-m", "results", "gate", "a", "b"], capture_output=True, text=True
    )
    assert shadowed.returncode == 0
    assert "this is the user's results" in shadowed.stdout
    for command in ([str(script)], ["-P", "-m", "results"]):
        done = subprocess.run(
            [sys.executable, *command, "gate", "a", "b"], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("results: ")


# -- a worker that cannot start --------------------------------------------------------------------


def test_a_worker_that_never_answers_ends_the_run_with_one_line(tmp_path):
    """Nothing is scored: the adapter is not to blame."""
    done = suites("--adapters=torch_eager", "--python=torch_eager=/bin/false", cwd=ROOT,
                  results=tmp_path)  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    said = [row for row in (done.stdout + done.stderr).splitlines() if "/bin/false exited" in row]
    assert len([row for row in said if row.startswith("!")]) == 1, said
    assert "the worker of adapters.torch_eager in /bin/false exited with status 1" in said[-1]
    assert "leave the adapter out with --adapters" in said[-1]
    assert "passed/unsupported/wrong" not in done.stdout  # a scorecard
    (folder,) = run_folders(tmp_path)
    outcomes = read(folder).outcomes
    assert [outcome.status for outcome in outcomes] == ["interrupted"]


def test_an_adapter_whose_import_fails_is_asked_twice_at_most(toys, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken on purpose')")
    registry = Registry.load([str(tmp_path / "broken.py")])
    pool = Pool(Settings(registry, sys.executable, tmp_path, 1, 20.0, 2**30))
    for _ in range(5):
        with pytest.raises(WorkerFailure, match="broken on purpose"):
            pool.client(Role("broken", "judge"))
    assert len(list(tmp_path.glob("*broken*.log"))) == 2


# -- --adapter-module ------------------------------------------------------------------------------


def test_a_module_is_named_by_its_file_or_from_the_working_directory(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(ADAPTER)
    registry = Registry.load([str(package / "mine.py")])
    assert registry.module("mine") == "package.mine"
    assert registry.folders == (tmp_path,)
    monkeypatch.chdir(tmp_path)
    registry = Registry.load(["package.mine"])
    assert registry.folders == (tmp_path,)
    registry.require_modules()


@pytest.mark.parametrize("name", ["nowhere", "numpy.nowhere", "nowhere.at.all", "json.decoder.no"])
def test_a_module_that_is_nowhere_is_one_line_before_anything_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = Registry.load([name])
    with pytest.raises(UnknownName, match="there is no such module in") as caught:
        registry.require_modules()
    assert f"--adapter-module PATH/{name.rpartition('.')[2]}.py" in str(caught.value)
    registry.require_modules(elsewhere=[name.rpartition(".")[2]])


def test_a_missing_file_and_a_missing_module_are_usage_errors(tmp_path):
    for text, why in (("./no.py", "there is no file no.py"), ("no", "there is no such module")):
        done = suites(f"--adapter-module={text}", cwd=tmp_path, results=tmp_path / "runs")
        assert done.returncode == 2
        assert why in done.stderr
        assert done.stderr.strip().count("\n") <= 1
        assert not (tmp_path / "runs").exists()


def test_what_is_installed_is_found():
    for name in ("numpy.linalg", "adapters.torch_eager", "tests.toys.backend"):
        Registry.load([name]).require_modules()
