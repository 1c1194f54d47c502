"""What a framework raises, as an outcome's status and reason."""

from __future__ import annotations

from adapters.base import Adapter, Unsupported


def explained(error: Exception, adapter: Adapter) -> dict[str, str]:
    """{"status", "reason"} of an exception in a worker."""
    if isinstance(error, Unsupported):
        return {"status": "unsupported", "reason": str(error)}
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0][:500]
    if adapter.is_missing_kernel(error):
        return {"status": "unsupported", "reason": f"no kernel: {reason}"}
    if isinstance(error, MemoryError) or adapter.is_out_of_memory(error):
        return {"status": "out_of_memory", "reason": reason}
    return {"status": "failed", "reason": reason}
