"""Profiles that a run kept: copied beside the page, so that the page can link to them.

A record names a trace by its path inside the run's folder. Records are data that anybody may
have written, so nothing but a plain file of a known kind inside that folder is followed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from results import atomic, display
from results.store import Run

#: Kinds of files that profilers write and no browser runs.
KINDS = (".json", ".gz", ".pb")
FOLDER = "traces"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def copy(run: Run, out: Path) -> tuple[Run, dict[str, str]]:
    """Copies the traces of a run into `out`/traces. Returns the run, with a problem for each that
    was ignored, and trace -> link relative to `out`. Raises StoreError if `out` is full."""
    links: dict[str, str] = {}
    problems: list[str] = []
    named = [record.facts["trace"] for record in run.facts if record.facts.get("trace")]
    for name in dict.fromkeys(x if isinstance(x, str) else repr(x) for x in named):
        try:
            links[name] = _copy(run, _source(run.folder, name), out)
        except (OSError, ValueError, RuntimeError) as error:  # also: a NUL, a loop of links
            shown = display.visible(display.shorten(name, 120))
            problems.append(f"the trace {shown!r} was ignored: {_why(error)}")
    return replace(run, problems=(*run.problems, *problems)), links


def _source(folder: Path, name: str) -> Path:
    """The file of that name in `folder`. Raises ValueError for anything else."""
    root = folder.resolve()
    path = root / name
    # Equal only without `..` and without a link anywhere on the way
    if path.resolve() != path or not path.is_relative_to(root):
        raise ValueError("it is no plain path inside the run's folder")
    if not path.is_file():
        raise ValueError("there is no such file in the run's folder")
    if path.suffix not in KINDS:
        raise ValueError(f"its name should end in one of {', '.join(KINDS)}")
    return path


def _copy(run: Run, source: Path, out: Path) -> str:
    """The link to the copy, whose name no other file of any run has."""
    place = source.relative_to(run.folder.resolve()).as_posix()
    unique = hashlib.sha256(f"{run.run_id}/{place}".encode()).hexdigest()[:10]
    name = f"{unique}-{_UNSAFE.sub('_', source.name)[-60:]}"
    atomic.write(out / FOLDER / name, source.read_bytes())
    return f"{FOLDER}/{name}"


def _why(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else str(error)
