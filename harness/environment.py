"""What the machine and the run are: everything a reader needs to place a number."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from harness import clock

#: Distributions of this interpreter whose versions are recorded. What a worker under another
#: interpreter runs is in the facts of its cases.
PACKAGES = (
    "torch tensorflow keras jax jaxlib optax onnxruntime onnx "
    "numpy scipy scikit-learn pytest pytest-benchmark pandas plotly psutil"
).split()


def describe(*, command: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The environment of a run, as JSON-ready data: SI units, null for what cannot be read."""
    return {
        "started": clock.today().isoformat(timespec="seconds"),
        "command": " ".join(command),
        **options,
        "cpu": {
            "model": _cpu_model(),
            "cores": psutil.cpu_count(logical=False),
            "threads": psutil.cpu_count(),
            "architecture": platform.machine(),
        },
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": list(os.getloadavg()),
        "kernel": platform.release(),
        "system": platform.system(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "interpreter": sys.implementation.name,
        "versions": {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
    }


def physical_cores() -> int:
    """Cores this process may use: the physical ones, or fewer when the affinity mask says so."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return cores


def _cpu_model() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of this project, with `+` when files differ from it."""
    here = Path(__file__).resolve().parent
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(here), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")
