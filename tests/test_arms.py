"""What a gate can be told to compare with, and what it says where that is not there."""

import os
import subprocess
import sys

import pytest

from harness.arms import Arm, ArmError, Base
from harness.client import PROJECT, Client, NotStarted, WorkerFailure


def git(folder, *arguments):
    own = ["-c", "user.name=t", "-c", "user.email=t@t"]
    command = ["git", "-C", str(folder), *own, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with an adapter in a subfolder, in two versions; the first is tagged `old`."""
    folder = tmp_path / "repository"
    (folder / "src").mkdir(parents=True)
    git(tmp_path, "init", "--quiet", str(folder))
    for version in ("old", "new"):
        (folder / "src" / "mine.py").write_text(
            "from tests.toys import backend\n\n\nclass Adapter(backend.Adapter):\n"
            f"    def versions(self):\n        return {{'mine': '{version}'}}\n"
        )
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", version)
        git(folder, "tag", version)
    return folder


def hello(arm, tmp_path, module="mine"):
    client = Client(
        module, python=arm.python or sys.executable, environment={}, log=tmp_path / "log",
        memory_limit=2**30, timeout=20, project=arm.project, folders=arm.folders, name="base",
    )  # fmt: skip
    client.close()
    return client.hello


def test_an_interpreter_and_a_folder():
    base = Base([sys.executable, "tests"])
    assert base.arm.python == sys.executable
    assert base.arm.folders == (PROJECT / "tests",)
    assert base.arm.project == PROJECT


def test_a_relative_interpreter_that_is_a_link_stays_one(tmp_path, monkeypatch):
    """A virtual environment's interpreter is a link: followed, it would be another environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python").symlink_to(sys.executable)
    assert Base(["./python"]).arm.python == str(tmp_path / "python")


def test_a_checkout_of_assay_takes_the_place_of_this_one():
    assert Base([str(PROJECT)]).arm == Arm("", PROJECT, (), str(PROJECT))


def test_a_revision_of_somebody_s_adapter_runs_as_it_was(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{repository / 'src'}{os.pathsep}{PROJECT}")
    base = Base([f"{repository / 'src'}@old"])
    try:
        assert hello(base.arm, tmp_path)["versions"]["mine"] == "old"
        assert hello(Arm(), tmp_path)["versions"]["mine"] == "new"
        assert "detached" in git(repository, "worktree", "list")
    finally:
        base.close()
    assert git(repository, "worktree", "list").count("\n") == 0
    assert not base.arm.folders[0].exists()
    base.close()


def test_a_revision_of_this_project_is_a_checkout(repository):
    (repository / "harness").mkdir()
    (repository / "harness" / "worker.py").write_text("")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "is Assay now")
    base = Base(["HEAD"], project=repository)
    try:
        assert base.arm.project != repository
        assert (base.arm.project / "harness" / "worker.py").is_file()
    finally:
        base.close()


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (["/nowhere/python"], "is neither an interpreter nor a folder, nor a git revision"),
        (["no-such-branch"], "nor a git revision"),
        (["/nowhere@HEAD"], "there is no folder /nowhere"),
        ([__file__], "not one that can be run"),
        ([sys.executable, sys.executable], "names two interpreters"),
        ([str(PROJECT), str(PROJECT)], "names two checkouts"),
    ],
)
def test_what_is_not_there_is_told(targets, told):
    with pytest.raises(ArmError, match=told):
        Base(targets)


def test_nothing_is_left_where_the_second_target_is_wrong(repository):
    with pytest.raises(ArmError):
        Base([f"{repository}@old", "/nowhere"])
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_failure_of_base_says_so(tmp_path):
    with pytest.raises(WorkerFailure) as caught:
        hello(Arm(), tmp_path, module="tests.toys.needs_missing_package")
    assert caught.value.who == "base"
    assert caught.value.reason.startswith("base: Python package")
    with pytest.raises(NotStarted, match=r"base: the worker of .* in /nowhere cannot be started"):
        hello(Arm(python="/nowhere"), tmp_path)
