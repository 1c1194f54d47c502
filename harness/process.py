"""Facts about this process that no framework tells."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX")


def facts() -> dict[str, Any]:
    """Allocator settings, denormal mode, processors and thread pools of this process."""
    return {
        "malloc": {name: os.environ[name] for name in MALLOC if name in os.environ},
        "denormals": "kept" if _keeps_denormals() else "flushed to zero",
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "thread_pools": _thread_pools(),
    }


def _keeps_denormals() -> bool:
    """Whether this thread computes with denormal numbers, as IEEE 754 has it."""
    with np.errstate(under="ignore"):
        return bool(np.float32(2.0**-126) * np.float32(0.5) != 0)


def _thread_pools() -> list[dict[str, Any]] | None:
    """What threadpoolctl sees: BLAS and OpenMP runtimes with their numbers of threads. None where
    it is not installed."""
    try:
        import threadpoolctl
    except ImportError:
        return None
    names = ("user_api", "internal_api", "version", "num_threads", "threading_layer")
    pools = threadpoolctl.threadpool_info()
    return [{name: pool[name] for name in names if pool.get(name)} for pool in pools]
