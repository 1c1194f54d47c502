"""Memory of this process, as the kernel counts it (Linux)."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

M_PERTURB = -6  # of glibc's mallopt
SMALL_BYTES = 1032  # up to which glibc keeps freed blocks aside, and hands them out as they are
KEPT_ASIDE = 7  # of each size


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


@contextmanager
def filled(byte: int) -> Iterator[None]:
    """Inside, memory that malloc hands out is full of a byte, for whoever reads what nobody wrote.
    Without glibc, it is what it is."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    _dirty_small_blocks(libc, byte)
    libc.mallopt(M_PERTURB, byte ^ 0xFF)  # malloc hands out the complement
    try:
        yield
    finally:
        libc.mallopt(M_PERTURB, 0)


def _dirty_small_blocks(libc: ctypes.CDLL, byte: int) -> None:
    """Fills the freed blocks that this thread keeps aside, which mallopt does not reach."""
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    for size in range(24, SMALL_BYTES + 1, 16):
        blocks = [libc.malloc(ctypes.c_size_t(size)) for _ in range(KEPT_ASIDE)]
        for block in filter(None, blocks):
            ctypes.memset(block, byte, size)
            libc.free(block)
