"""Memory of this process, as the kernel counts it. Linux alone lets a process set its high-water
mark back, so that elsewhere memory is not measured."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.base import Unsupported

M_PERTURB = -6  # of glibc's mallopt
SMALL_BYTES = 1032  # up to which glibc keeps freed blocks aside, and hands them out as they are
KEPT_ASIDE = 7  # of each size
#: Where the kernel tells about this process, and takes orders.
PROCESS = Path("/proc/self")


def require() -> None:
    """Raises Unsupported, which names the platform, where peaks of memory cannot be measured."""
    lacking = [name for name in ("status", "clear_refs") if not (PROCESS / name).exists()]
    if not lacking:
        try:
            reset_peak()
            _status_bytes("VmHWM")
        except OSError as error:  # a sandbox that shows the files and does nothing
            lacking = [str(error)]
    if lacking:
        raise Unsupported(
            f"memory is measured through {PROCESS}/status and {PROCESS}/clear_refs, but "
            f"{platform.system()} {platform.release()} lacks {', '.join(lacking)} here"
        )


def resident() -> int:
    """Bytes resident now, after garbage collection and after malloc gave back what it could."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    return _status_bytes("VmRSS")


def reset_peak() -> None:
    """Sets the kernel's high-water mark to what is resident now."""
    (PROCESS / "clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that were resident at once since `reset_peak`."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    """`VmHWM`, ... of the process's status, in bytes."""
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{field} in {PROCESS / 'status'}")


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
