"""Which code a run runs: what a run that is resumed has to share with the one that it resumes."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from harness.arms import Arm

#: Packages of Assay whose code changes what is measured or judged.
PACKAGES = ("adapters", "numerics", "harness", "suites")
DIGITS = 12  # of a digest, as people read it
SECONDS = 60
_INSTALLED = (
    "from importlib.metadata import distributions as d; import sys; "
    "print(sys.version, *sorted(f'{x.name}=={x.version}' for x in d()), sep='\\n')"
)


def of(project: Path, places: Iterable[Path] = ()) -> str:
    """The code of a checkout of Assay, and of whatever else lies at `places`: files, and folders
    with all that is in them. It changes with any byte of their Python files."""
    found = hashlib.sha256()
    for place in (*(project / name for name in PACKAGES), *places):
        inside = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for path in inside:
            if path.is_file():
                name = path.relative_to(place) if place.is_dir() else path.name
                found.update(f"{name}\0".encode() + path.read_bytes())
    return found.hexdigest()[:DIGITS]


def of_arm(arm: Arm) -> str:
    """The code of one side of a gate, the packages of its interpreter included."""
    code = of(arm.project, arm.folders)
    if not arm.python:
        return code
    try:
        told = subprocess.run(
            [arm.python, "-c", _INSTALLED], capture_output=True, timeout=SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        told = b""  # the gate itself will say what is wrong with it
    return f"{code}, packages {hashlib.sha256(told).hexdigest()[:DIGITS]}"
