"""The two sides of a gate: head, which is what runs now, and base, which it is compared with."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.client import PROJECT

BASE, HEAD = "base", ""  # an arm's name in a worker's role
THIS = "head"  # who is to blame for what a worker of HEAD did


class ArmError(Exception):
    """What should be compared with is not there. The text says what is and what should be."""


@dataclass(frozen=True)
class Arm:
    """Where workers of one side come from.

    python   the interpreter; empty: the run's
    project  the folder with Assay's own packages
    folders  what is imported before everything else: an adapter's, for example
    told     how people call it
    """

    python: str = ""
    project: Path = PROJECT
    folders: tuple[Path, ...] = ()
    told: str = "the same"


HERE = Arm()


class Base:
    """The base of a gate, as somebody names it: any of an interpreter, a checkout of Assay, the
    folder of somebody's adapter, and `[FOLDER@]REVISION` of a git repository (the project's, where
    no folder is named), for which a worktree is made. `close` removes it. Raises ArmError."""

    def __init__(self, targets: Sequence[str], *, project: Path = PROJECT) -> None:
        self._project = project
        self._worktrees: list[tuple[Path, Path]] = []  # repository, worktree
        self._scratch: Path | None = None
        python, checkout, folders = "", None, []
        try:
            for target in targets:
                folder = self._folder(target)
                if folder is None:
                    python = _once("interpreter", python, os.path.abspath(target))
                elif _is_assay(folder):
                    checkout = Path(_once("checkout", str(checkout or ""), str(folder)))
                else:
                    folders.append(folder)
        except BaseException:
            self.close()
            raise
        self.arm = Arm(python, checkout or project, tuple(folders), ", ".join(targets))

    def _folder(self, target: str) -> Path | None:
        """The folder that a target stands for; None for an interpreter."""
        path = Path(target)
        if path.is_dir():
            return path.resolve()
        if path.is_file():
            if not os.access(path, os.X_OK):
                raise ArmError(f"--against {target}: it is a file, but not one that can be run")
            return None
        where, _, revision = target.rpartition("@")
        repository = Path(where).resolve() if where else self._project
        if where and not repository.is_dir():
            raise ArmError(f"--against {target}: there is no folder {where}")
        commit = _git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        if commit is None:
            raise ArmError(
                f"--against {target} is neither an interpreter nor a folder, nor a git revision of "
                f"{repository}; it should be one of these, for example /opt/old/bin/python, "
                "../old-checkout or v1.0"
            )
        return self._worktree(repository, commit)

    def _worktree(self, repository: Path, commit: str) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="assay-base-"))
        folder = self._scratch / f"{len(self._worktrees)}-{commit[:12]}"
        top = _git(repository, "rev-parse", "--show-toplevel")
        made = _git(repository, "worktree", "add", "--detach", "--quiet", str(folder), commit)
        if made is None or top is None:
            raise ArmError(f"git could not make a worktree of {commit[:12]} of {repository}")
        self._worktrees.append((repository, folder))
        return (folder / repository.resolve().relative_to(Path(top).resolve())).resolve()

    def close(self) -> None:
        """Removes what was made. Twice does nothing."""
        while self._worktrees:
            repository, folder = self._worktrees.pop()
            _git(repository, "worktree", "remove", "--force", str(folder))
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


def _once(what: str, known: str, new: str) -> str:
    if known:
        raise ArmError(f"--against names two {what}s, {known} and {new}; it should name one")
    return new


def _is_assay(folder: Path) -> bool:
    return (folder / "harness" / "worker.py").is_file()


def _git(repository: Path, *arguments: str) -> str | None:
    """What git answers; None where it refuses, or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
