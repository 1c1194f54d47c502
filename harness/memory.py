"""Memory of this process, as the kernel counts it (Linux)."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path


def status_bytes(field: str) -> int:
    """`VmRSS`, `VmHWM`, ... from /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def resident() -> int:
    """Bytes resident now, after garbage collection and after malloc gave back what it could."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return status_bytes("VmRSS")


def reset_peak() -> None:
    """Sets the kernel's high-water mark to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that were resident at once since `reset_peak`."""
    return status_bytes("VmHWM")
