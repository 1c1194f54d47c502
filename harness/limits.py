"""What this machine can do at most, measured by the adapters: the roof of the roofline."""

from __future__ import annotations

from collections.abc import Sequence

from harness import clock
from harness.client import WorkerFailure
from harness.pool import Pool, Role
from results.metrics import LIMITS
from results.records import Limit


def measure(
    pool: Pool, limit: str, device: str, adapters: Sequence[str]
) -> tuple[list[Limit], list[str]]:
    """The limit as each adapter reaches it, and why the others do not."""
    found, reasons = [], []
    for adapter in adapters:
        try:
            client = pool.client(Role(adapter, "time"))
            rate = client.request(
                "probe",
                timeout=pool.settings.case_timeout,
                limit=limit,
                device=device,
                threads=pool.settings.threads,
            )["rate"]
        except WorkerFailure as failure:
            reasons.append(f"{adapter}: {failure.reason}")
            continue
        found.append(
            Limit(
                limit=limit,
                unit=LIMITS[limit][0],
                value=rate,
                adapter=adapter,
                device=device,
                threads=pool.settings.threads,
                measured=clock.today().isoformat(timespec="seconds"),
            )
        )
    return found, reasons
