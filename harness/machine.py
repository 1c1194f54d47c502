"""What the machine is, and its fingerprint: what two runs must share to be compared at all.

Everything is read from the files that the kernel keeps under `ROOT`. What cannot be read is None;
no content of these files makes anything here raise.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

#: Where /proc, /sys and /etc are looked for.
ROOT = Path("/")

#: Instruction sets that decide which kernels a library picks, as the kernel names them.
INSTRUCTION_SETS = (
    "f16c fma avx2 avx_vnni avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
    "asimd asimdhp asimddp i8mm bf16 sve sve2 sme"
).split()

_CPU = "sys/devices/system/cpu"
_LARGEST_FILE = 2**20  # characters that are read; far above what a kernel writes
_NO_LIMIT = 2**60  # bytes; cgroup v1 writes a number above it where memory is not limited
_CONTAINERS = ("docker", "podman", "kubepods", "containerd", "lxc")
_GPU = ("name", "memory_bytes", "driver", "power_cap_w")  # what of a GPU is in the fingerprint


def cpu() -> dict[str, Any]:
    """The processor: caches and frequencies are those of its first core."""
    info = first_processor(read("proc/cpuinfo"))
    usable = _usable_cores()
    return {
        "model": info.get("model name") or platform.processor() or None,
        "vendor": info.get("vendor_id") or info.get("CPU implementer"),  # x86, Arm
        "architecture": platform.machine(),
        "cores": guarded(psutil.cpu_count, logical=False),
        "threads": guarded(psutil.cpu_count),
        "affinity": usable,
        "caches": _caches(),
        "governor": line(f"{_CPU}/cpu0/cpufreq/scaling_governor"),
        "min_hz": _number(f"{_CPU}/cpu0/cpufreq/scaling_min_freq", unit=1000),
        "max_hz": _number(f"{_CPU}/cpu0/cpufreq/scaling_max_freq", unit=1000),
        "turbo": _turbo(),
        "instruction_sets": _instruction_sets(info),
    }


def named(processor: Mapping[str, Any]) -> str:
    """What `cpu` describes, in one line: `Intel(R) Xeon(R) Processor (GenuineIntel): avx2 ...`"""
    sets = " ".join(processor["instruction_sets"] or ()) or "instruction sets unknown"
    return f"{processor['model']} ({processor['vendor'] or processor['architecture']}): {sets}"


def memory() -> dict[str, Any]:
    """Main memory in bytes, as it is now, and whether the kernel makes pages huge by itself."""
    main, swap = guarded(psutil.virtual_memory), guarded(psutil.swap_memory)
    return {
        "total_bytes": getattr(main, "total", None),
        "available_bytes": getattr(main, "available", None),
        "swap_total_bytes": getattr(swap, "total", None),
        "swap_used_bytes": getattr(swap, "used", None),
        "transparent_huge_pages": _chosen("sys/kernel/mm/transparent_hugepage/enabled"),
        "transparent_huge_pages_defrag": _chosen("sys/kernel/mm/transparent_hugepage/defrag"),
    }


def virtualisation() -> dict[str, Any]:
    """What lies between this process and the hardware. `kind` is `physical`, or the hypervisor as
    far as it gives its name, else `virtual`; `container` is None where nothing points to one."""
    flags = first_processor(read("proc/cpuinfo")).get("flags")
    hypervisor = "hypervisor" in flags.split() if flags else None  # a flag of x86 only
    vendor, product = (line(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    kind = line("sys/hypervisor/type")
    if kind is None and hypervisor is not None:
        named = " ".join(filter(None, [vendor, product]))
        kind = (named or "virtual") if hypervisor else "physical"
    return {
        "kind": kind,
        "hypervisor": hypervisor,
        "vendor": vendor,
        "product": product,
        "container": _container(),
    }


def control_group() -> dict[str, Any]:
    """What control groups leave to this process: processors' worth of time, and bytes. None where
    there is no limit. The strictest of a group and those around it counts."""
    quotas: list[float] = []
    sizes: list[int] = []
    for controllers, group in _groups(read("proc/self/cgroup")):
        for folder in (group, *group.parents):
            if not controllers:  # version 2: one tree for all controllers
                quotas += _quota(read(f"sys/fs/cgroup/{folder}/cpu.max").split())
                sizes += _size(f"sys/fs/cgroup/{folder}/memory.max")
            if "cpu" in controllers:
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                for mount in dict.fromkeys(("cpu", ",".join(controllers))):
                    files = [f"sys/fs/cgroup/{mount}/{folder}/{name}" for name in names]
                    quotas += _quota([line(file) or "" for file in files])
            if "memory" in controllers:
                sizes += _size(f"sys/fs/cgroup/memory/{folder}/memory.limit_in_bytes")
    return {"cpus": min(quotas, default=None), "memory_bytes": min(sizes, default=None)}


def numa() -> dict[str, str | None]:
    """NUMA node -> its processors, as Linux writes them: `{"node0": "0-7,16-23"}`."""
    folder = "sys/devices/system/node"
    return {name: line(f"{folder}/{name}/cpulist") for name in _numbered(folder, "node")}


# -- the fingerprint -------------------------------------------------------------------------------


def fingerprint(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an environment that must be equal for two runs to be compared, and their `id`.

    Left out is what may change while a machine stays the same (load, frequencies, its name) and
    what is compared (versions of libraries). What the environment lacks is None.
    """

    def at(*names: str) -> Any:
        return _at(environment, *names)

    caches, affinity = at("cpu", "caches"), at("cpu", "affinity")
    total, gpus = at("memory_bytes"), at("gpus")
    fields = {
        "cpu": {name: at("cpu", name) for name in ("model", "architecture", "cores", "threads")},
        "usable_cores": len(affinity) if isinstance(affinity, list) else None,
        "cpu_quota": at("control_group", "cpus"),
        "caches": {name: _at(caches, name, "bytes") for name in caches}
        if isinstance(caches, Mapping)
        else None,
        "instruction_sets": at("cpu", "instruction_sets"),
        "memory_gib": round(total / 2**30) if isinstance(total, int) else None,
        "system": at("system"),
        "kernel": at("kernel"),
        "libc": at("libc"),
        "virtualisation": {name: at("virtualisation", name) for name in ("kind", "container")},
        "gpus": [{name: _at(gpu, name) for name in _GPU} for gpu in gpus]
        if isinstance(gpus, list)
        else None,
    }
    if at("isa") not in (None, "native"):  # another processor, as far as kernels can tell
        fields["isa"] = at("isa")
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return {"id": hashlib.sha256(canonical.encode()).hexdigest()[:12], **fields}


def _at(value: Any, *names: str) -> Any:
    """What lies below these names; None where a mapping lacks one."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


# -- reading ---------------------------------------------------------------------------------------


def read(path: str) -> str:
    """The text of a file under ROOT; empty where it cannot be read."""
    try:
        with (ROOT / path).open(encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST_FILE)
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return ""


def line(path: str) -> str | None:
    """The first line of a file under ROOT, its printable characters, at most 200 of them."""
    text = read(path).lstrip().partition("\n")[0]
    return "".join(c for c in text if c.isprintable())[:200].strip() or None


def guarded(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function of psutil or the standard library returns; None where the system does not
    give what it needs."""
    try:
        return function(*arguments, **options)
    except (OSError, ValueError, LookupError, RuntimeError, AttributeError, psutil.Error):
        return None


def whole(text: str | None) -> int | None:
    """The non-negative integer that a text is, below 2**63; None for anything else."""
    if text is None or not re.fullmatch(r"[0-9]{1,19}", text):
        return None
    return value if (value := int(text)) < 2**63 else None


def first_processor(text: str) -> dict[str, str]:
    """Field -> value of the first processor in /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for row in text.splitlines():
        name, colon, value = row.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _usable_cores() -> list[int] | None:
    """Logical processors that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    usable = guarded(os.sched_getaffinity, 0)
    return None if usable is None else sorted(usable)


def _caches() -> dict[str, dict[str, Any]]:
    """`L1d`, `L1i`, `L2`, ... -> bytes, and the processors that share it."""
    found = {}
    for name in _numbered(f"{_CPU}/cpu0/cache", "index"):
        folder = f"{_CPU}/cpu0/cache/{name}"
        level = _number(f"{folder}/level")
        if level is not None:
            kind = {"Data": "d", "Instruction": "i"}.get(line(f"{folder}/type") or "", "")
            shared = line(f"{folder}/shared_cpu_list")
            found[f"L{level}{kind}"] = {"bytes": _binary(line(f"{folder}/size")), "shared": shared}
    return found


def _binary(text: str | None) -> int | None:
    """Bytes of a size such as `48K`."""
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get((text or "")[-1:], 1)
    number = whole(text[:-1] if text and unit > 1 else text)
    return None if number is None else number * unit


def _turbo() -> bool | None:
    """Whether the processor may exceed its nominal frequency."""
    off, boost = line(f"{_CPU}/intel_pstate/no_turbo"), line(f"{_CPU}/cpufreq/boost")
    if off in ("0", "1"):
        return off == "0"
    return boost == "1" if boost in ("0", "1") else None


def _instruction_sets(info: Mapping[str, str]) -> list[str] | None:
    flags = info.get("flags") or info.get("Features")  # x86, Arm
    return [name for name in INSTRUCTION_SETS if name in flags.split()] if flags else None


def _container() -> str | None:
    for path, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if guarded((ROOT / path).exists):
            return name
    groups = read("proc/self/cgroup")
    return next((name for name in _CONTAINERS if name in groups), None)


def _groups(text: str) -> list[tuple[list[str], Path]]:
    """(controllers, path below the mount) of each control group in /proc/self/cgroup."""
    rows = [row.split(":", 2) for row in text.splitlines()[:64]]
    # in a namespace of its own, a group outside it has `..` in its path
    return [
        (row[1].split(",") if row[1] else [], Path(*(p for p in row[2].split("/") if p != "..")))
        for row in rows
        if len(row) == 3 and len(row[2]) < 4096
    ]


def _quota(words: list[str]) -> list[float]:
    """Processors' worth of time from `[quota, period]`, or nothing where there is no limit."""
    quota, period = (whole(word) for word in words) if len(words) == 2 else (None, None)
    return [quota / period] if quota and period else []


def _size(path: str) -> list[int]:
    size = whole(line(path))
    return [size] if size is not None and size < _NO_LIMIT else []


def _chosen(path: str) -> str | None:
    """The word in brackets: `always [madvise] never`."""
    found = re.search(r"\[([\w+]+)\]", line(path) or "")
    return found[1] if found else None


def _number(path: str, *, unit: int = 1) -> int | None:
    number = whole(line(path))
    return None if number is None else number * unit


def _numbered(folder: str, prefix: str) -> list[str]:
    """Names in a folder that are the prefix and a number, in the order of the numbers."""
    names = guarded(os.listdir, ROOT / folder) or []
    found = [name for name in names if re.fullmatch(rf"{prefix}[0-9]{{1,6}}", name)]
    return sorted(found, key=lambda name: int(name.removeprefix(prefix)))
