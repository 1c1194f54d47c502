"""What the machine and the run are: everything a reader needs to place a number.

All of it is JSON-ready data in SI units, and null where it cannot be read. `describe` is taken
once per run; `load` is what goes on changing and is taken as often as it is wanted.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from harness import clock, gpu, machine, processors, switches

#: Distributions of this interpreter whose versions are recorded. What a worker under another
#: interpreter runs is in the facts of its cases.
PACKAGES = (
    "torch torchao triton tensorflow keras jax jaxlib jax-cuda12-plugin jax-cuda13-plugin flax "
    "optax onnxruntime onnxruntime-gpu onnx onnxscript ml_dtypes numpy scipy scikit-learn pandas "
    "plotly psutil threadpoolctl mkl intel-openmp pytest pytest-benchmark nvidia-ml-py "
    "nvidia-cudnn-cu12 nvidia-cudnn-cu13 nvidia-cublas-cu12 nvidia-cublas nvidia-nccl-cu12"
).split()

#: How the names of environment variables begin that change what libraries compute or how fast.
VARIABLES = tuple(
    "OMP_ GOMP_ KMP_ MKL_ OPENBLAS_ BLIS_ NUMEXPR_ VECLIB_ NPY_ DNNL_ ONEDNN_ TF_ KERAS_ XLA_ JAX_ "
    "TORCH PYTORCH_ INDUCTOR TRITON_ ATEN_ ORT_ ONNX CUDA_ CUDNN_ CUBLAS NCCL_ NVIDIA_ "
    "MALLOC_ GLIBC_TUNABLES LD_ PYTHON NPROC CXX".split()
)
#: What a name or a value contains that must not be kept. `://...@` is a password in an address.
_SECRET_NAME = re.compile("TOKEN|KEY|PASSW|PASSPHRASE|SECRET|CREDENTIAL|AUTH", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/\s]*@|(token|password|secret|key)=", re.IGNORECASE)

_PRESSURE = re.compile(r"(some|full) avg10=([0-9]{1,3}\.[0-9]{1,6}) .*?total=([0-9]{1,18})\s*")


def describe(*, command: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The environment of a run. A variable whose value is null is set, but may be a secret."""
    memory = machine.memory()
    found = {
        "started": clock.today().isoformat(timespec="seconds"),
        "command": _clean(shlex.join(command)),
        **options,
        "cpu": machine.cpu(),
        "virtualisation": machine.virtualisation(),
        "control_group": machine.control_group(),
        "numa": machine.numa(),
        "memory_bytes": memory["total_bytes"],
        "memory": memory,
        "gpus": gpu.describe(),
        "load_average": _load_average(),
        "kernel": platform.release(),
        "system": platform.system(),
        "distribution": _distribution(),
        "libc": " ".join(machine.guarded(platform.libc_ver) or ()).strip() or None,
        "python": platform.python_version(),
        "interpreter": sys.implementation.name,
        "python_build": {
            "compiler": platform.python_compiler(),
            "configure": sysconfig.get_config_var("CONFIG_ARGS"),
            "cflags": sysconfig.get_config_var("PY_CFLAGS"),
        },
        "versions": {name: _version(name) for name in PACKAGES},
        "variables": variables(os.environ),
        "switches": switches.switched({n: v for n, v in variables(os.environ).items() if v}),
        "git_commit": _git_commit(),
    }
    return {**found, "fingerprint": machine.fingerprint(found)}


def load() -> dict[str, Any]:
    """How busy the machine is: seconds since boot for what adds up, shares (0 to 1) of the last
    ten seconds for pressure: `some` process, or `full`y all of them, waited for the resource."""
    stat = machine.read("proc/stat")
    return {
        "load_average": _load_average(),
        "runnable": _runnable(stat),
        "processors": _processor_seconds(stat),
        "pressure": {
            name: pressure(machine.read(f"proc/pressure/{name}"))
            for name in ("cpu", "memory", "io")
        },
    }


def conditions_between(
    before: Mapping[str, Any], after: Mapping[str, Any], wall_seconds: float
) -> dict[str, float]:
    """What happened to the machine between two `load`s, only what could be read.

    steal_share         of all processors' time, what a hypervisor gave to others
    cpu_pressure_share  of the wall time, while some process waited for a processor
    """

    def passed(*names: str) -> float | None:
        old, new = _number_at(before, *names), _number_at(after, *names)
        return None if old is None or new is None or new < old else new - old

    steal, pressed = passed("processors", "steal_s"), passed("pressure", "cpu", "some", "total_s")
    processors = _number_at(after, "processors", "count")
    found = {}
    if wall_seconds > 0 and steal is not None and processors:
        found["steal_share"] = steal / (wall_seconds * processors)
    if wall_seconds > 0 and pressed is not None:
        found["cpu_pressure_share"] = pressed / wall_seconds
    return found


def physical_cores() -> int:
    """Cores that this process may keep busy: the physical ones, or as many as the affinity mask
    (cpusets are part of it) or a container's quota of processor time leave. More threads than the
    quota pays for would be stopped for a part of every period, in the midst of a step."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(processors.cores(os.sched_getaffinity(0))))
    quota = machine.control_group()["cpus"]
    return max(1, min(cores, int(quota))) if quota else cores


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or a container's limit."""
    limit = machine.control_group()["memory_bytes"]
    total = psutil.virtual_memory().total
    return min(total, limit) if limit else total


def variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Environment variables that change results, by name; the value of a secret is None."""
    return {
        _clean(name): (
            None if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value) else _clean(value)
        )
        for name, value in sorted(environment.items())
        if name.startswith(VARIABLES)
    }


def pressure(text: str) -> dict[str, dict[str, float]] | None:
    """`some` and `full` of a file in /proc/pressure; None where it holds neither."""
    rows = filter(None, map(_PRESSURE.fullmatch, text.splitlines()))
    found = {r[1]: {"avg10": float(r[2]) / 100, "total_s": int(r[3]) / 1e6} for r in rows}
    return found or None


def _processor_seconds(text: str) -> dict[str, float | int] | None:
    """Seconds of /proc/stat over all processors: idle (waiting for devices included) and steal."""
    rows = [row.split() for row in text.splitlines() if row.startswith("cpu")]
    tick = machine.guarded(os.sysconf, "SC_CLK_TCK")  # jiffies per second
    if not tick or not rows or rows[0][0] != "cpu" or len(rows[0]) < 9:
        return None
    idle, waiting, steal = (machine.whole(rows[0][place]) for place in (4, 5, 8))
    if idle is None or waiting is None or steal is None:
        return None
    return {"idle_s": (idle + waiting) / tick, "steal_s": steal / tick, "count": len(rows) - 1}


def _runnable(text: str) -> int | None:
    """How many processes run or could run at this moment, this one included."""
    found = re.search(r"^procs_running ([0-9]{1,18})$", text, re.MULTILINE)
    return int(found[1]) if found else None


def _number_at(value: Any, *names: str) -> float | None:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _load_average() -> list[float] | None:
    """Processes that run or wait, averaged over 1, 5 and 15 minutes."""
    found = machine.guarded(os.getloadavg)
    return None if found is None else list(found)


def _distribution() -> str | None:
    release = machine.guarded(platform.freedesktop_os_release) or {}
    return release.get("PRETTY_NAME")


def _clean(text: str) -> str:
    """`text` without halves of characters, which stand for bytes that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


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
