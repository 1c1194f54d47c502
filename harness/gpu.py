"""NVIDIA GPUs as the driver's management library (NVML) sees them, through the package pynvml.

Where the package, the driver or a GPU is absent there is nothing to tell: [] or None. So is
whatever one GPU does not support. `index` counts the GPUs that CUDA_VISIBLE_DEVICES leaves, in
NVML's order, that of their places on the bus; CUDA's own order is the same if the GPUs are alike,
or CUDA_DEVICE_ORDER is PCI_BUS_ID.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import psutil

GRAPHICS, SM, MEMORY = 0, 1, 2  # nvmlClockType_t
COMPUTE_MODES = ("default", "exclusive_thread", "prohibited", "exclusive_process")

#: Why the clocks are what they are, by bit.
REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
#: Those that make a measurement tell about heat or power rather than the program.
THROTTLING = frozenset(
    "sw_power_cap hw_slowdown sw_thermal_slowdown hw_thermal_slowdown "
    "hw_power_brake_slowdown".split()
)


@dataclass(frozen=True)
class Sample:
    """The state of a GPU at one moment. `throttle` names the reasons of its clocks: None where the
    GPU does not tell them, and empty where nothing holds the clocks back."""

    sm_hz: int | None
    memory_hz: int | None
    temperature_c: int | None
    power_w: float | None
    throttle: tuple[str, ...] | None


def describe() -> list[dict[str, Any]]:
    """What each visible GPU is and how it is set."""
    nvml = _nvml()
    if nvml is None:
        return []
    return [_describe(nvml, handle) for handle in _handles(nvml)]


def processes(index: int = 0) -> list[dict[str, Any]]:
    """Processes that compute on a GPU: pid, name, bytes of device memory."""
    nvml = _nvml()
    handle = _handle(nvml, index)
    return [] if handle is None else _processes(nvml, handle)


def process_bytes(pid: int) -> int | None:
    """Device memory that a process holds on all visible GPUs, its contexts included. None where
    the driver does not tell, which includes a container that hides the driver's process ids."""
    nvml = _nvml()
    if nvml is None:
        return None
    found = [p["bytes"] for h in _handles(nvml) for p in _processes(nvml, h) if p["pid"] == pid]
    known = [size for size in found if size is not None]
    return sum(known) if known and len(known) == len(found) else None


def sample(index: int = 0) -> Sample | None:
    """The state of a GPU now; None where there is none."""
    nvml = _nvml()
    handle = _handle(nvml, index)
    if handle is None:
        return None
    bits = _ask(
        nvml,
        "nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons",
        handle,
    )
    return Sample(
        sm_hz=_scaled(_ask(nvml, "nvmlDeviceGetClockInfo", handle, SM), 10**6),
        memory_hz=_scaled(_ask(nvml, "nvmlDeviceGetClockInfo", handle, MEMORY), 10**6),
        temperature_c=_ask(nvml, "nvmlDeviceGetTemperature", handle, 0),
        power_w=_scaled(_ask(nvml, "nvmlDeviceGetPowerUsage", handle), 1e-3),
        throttle=None if bits is None else reason_names(bits),
    )


def reason_names(bits: int) -> tuple[str, ...]:
    """The names of a mask of clocks event reasons; bits without a name are one number."""
    named = tuple(name for bit, name in REASONS.items() if bits & bit)
    unnamed = bits & ~sum(REASONS)
    return (*named, f"{unnamed:#x}") if unnamed else named


def throttled(reasons: Iterable[str] | None) -> bool:
    """Whether heat or power holds the clocks down."""
    return not THROTTLING.isdisjoint(reasons or ())


def others(own_pids: Collection[int], index: int = 0) -> list[str]:
    """Processes on a GPU that are not ours, for a reader: `pid 41 (python, 1.5 GiB)`."""
    found = {process["pid"]: process for process in processes(index)}
    foreign = [process for pid, process in found.items() if pid not in own_pids]
    # In a container the driver's ids may be the host's, and name none of the processes here. As
    # many as we miss of our own may then be ours.
    hidden = [process for process in foreign if not psutil.pid_exists(process["pid"])]
    missed = sum(pid not in found for pid in own_pids)
    ours = {process["pid"] for process in hidden[:missed]}
    return [_told(process) for process in foreign if process["pid"] not in ours]


def _told(process: dict[str, Any]) -> str:
    size = process["bytes"]
    known = [part for part in (process["name"], size and f"{size / 2**30:.1f} GiB") if part]
    return f"pid {process['pid']}" + (f" ({', '.join(known)})" if known else "")


def _describe(nvml: Any, handle: Any) -> dict[str, Any]:
    def ask(name: str, *arguments: Any) -> Any:
        return _ask(nvml, f"nvmlDeviceGet{name}", handle, *arguments)

    mode = ask("ComputeMode")
    least, most = ask("PowerManagementLimitConstraints") or (None, None)
    capability = ask("CudaComputeCapability")
    return {
        "name": ask("Name"),
        "uuid": ask("UUID"),
        "compute_capability": capability and ".".join(map(str, capability)),
        "memory_bytes": getattr(ask("MemoryInfo"), "total", None),
        "driver": _ask(nvml, "nvmlSystemGetDriverVersion"),
        "cuda_driver": _cuda_version(_ask(nvml, "nvmlSystemGetCudaDriverVersion")),
        "graphics_hz": _scaled(ask("ClockInfo", GRAPHICS), 10**6),
        "graphics_max_hz": _scaled(ask("MaxClockInfo", GRAPHICS), 10**6),
        "memory_hz": _scaled(ask("ClockInfo", MEMORY), 10**6),
        "memory_max_hz": _scaled(ask("MaxClockInfo", MEMORY), 10**6),
        "power_cap_w": _scaled(ask("EnforcedPowerLimit"), 1e-3),
        "power_default_w": _scaled(ask("PowerManagementDefaultLimit"), 1e-3),
        "power_min_w": _scaled(least, 1e-3),
        "power_max_w": _scaled(most, 1e-3),
        "persistence": _switch(ask("PersistenceMode")),
        "ecc": _switch(ask("EccMode")),
        "mig": _switch(ask("MigMode")),
        "compute_mode": COMPUTE_MODES[mode] if mode in range(len(COMPUTE_MODES)) else None,
        "temperature_c": ask("Temperature", 0),
    }


def _processes(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    # the second name is for a driver older than the package
    running = _ask(
        nvml,
        "nvmlDeviceGetComputeRunningProcesses nvmlDeviceGetComputeRunningProcesses_v2",
        handle,
    )
    return [
        {
            "pid": process.pid,
            "name": _ask(nvml, "nvmlSystemGetProcessName", process.pid),
            "bytes": process.usedGpuMemory,
        }
        for process in running or ()
    ]


# -- the library -----------------------------------------------------------------------------------


def _nvml() -> Any | None:
    """pynvml, initialised; None where there is no package, library or driver. It stays initialised:
    NVML counts, and every start after the first is cheap."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError, OSError):
        return None
    return nvml


def _ask(nvml: Any, names: str, *arguments: Any) -> Any:
    """What the first of these functions returns that exists and works here; None without one."""
    for name in names.split():
        function = getattr(nvml, name, None)
        if function is not None:
            try:
                value = function(*arguments)
            except nvml.NVMLError:
                continue
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return None


def _handles(nvml: Any) -> list[Any]:
    """The GPUs that CUDA sees. As CUDA does, an entry that names none ends the list."""
    count = _ask(nvml, "nvmlDeviceGetCount") or 0
    every = [_ask(nvml, "nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [handle for handle in every if handle is not None]
    chosen = []
    for entry in visible.split(","):
        handle = _named(nvml, entry.strip(), every)
        if handle is None:
            break
        chosen.append(handle)
    return chosen


def _named(nvml: Any, entry: str, every: list[Any]) -> Any | None:
    """The GPU of one entry: an index, the beginning of a UUID, or the UUID of a MIG instance."""
    if entry.isascii() and entry.isdigit():
        index = int(entry[:9])
        return every[index] if index < len(every) else None
    if entry.startswith("MIG-"):
        return _ask(nvml, "nvmlDeviceGetHandleByUUID", entry)
    if not entry.startswith("GPU-"):
        return None
    matching = [
        handle
        for handle in every
        if handle is not None and str(_ask(nvml, "nvmlDeviceGetUUID", handle)).startswith(entry)
    ]
    return matching[0] if len(matching) == 1 else None


def _handle(nvml: Any | None, index: int) -> Any | None:
    handles = _handles(nvml) if nvml is not None else []
    return handles[index] if 0 <= index < len(handles) else None


def _scaled(value: Any, factor: float) -> Any:
    return None if value is None else value * factor


def _switch(value: Any) -> bool | None:
    """Whether a mode is on; of `[current, pending]`, the current one."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return None if value is None else bool(value)


def _cuda_version(number: int | None) -> str | None:
    """`13.0` for 13000."""
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"
