"""Who else uses the GPU, and whether it slowed down: a figure is refused or marked accordingly."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from harness import clock, gpu
from harness.client import WorkerFailure
from results.records import Case

POLL_SECONDS = 1.0


class Guard:
    """Watches over the cases that run on a GPU; says nothing about the others.

    wait    seconds to wait until other processes have left the GPU
    share   measure beside other processes, and mark the figures `gpu_shared`
    """

    def __init__(self, *, wait: float = 0.0, share: bool = False) -> None:
        self._wait = wait
        self._share = share

    def flags(self, case: Case, own: Sequence[int]) -> tuple[str, ...]:
        """`gpu_shared` where another process is on the GPU and that is allowed. Raises
        WorkerFailure where it is not."""
        if case.device != "cuda":
            return ()
        deadline = clock.now() + self._wait
        others = gpu.others(own)
        while others and not self._share and clock.now() < deadline:
            threading.Event().wait(POLL_SECONDS)
            others = gpu.others(own)
        if not others:
            return ()
        if self._share:
            return ("gpu_shared",)
        waited = f" after waiting {self._wait:g} s" if self._wait else ""
        raise WorkerFailure(
            "failed",
            f"the GPU is in use by {', '.join(others)}{waited}, but should be free: stop that, "
            "wait for it with --wait-for-gpu SECONDS, or measure beside it with --share-gpu",
        )

    def sample(self, case: Case) -> gpu.Sample | None:
        """Clocks, temperature and throttling now; None for a case that runs on the CPU."""
        return gpu.sample() if case.device == "cuda" else None

    def throttling(self, case: Case, before: gpu.Sample | None) -> tuple[str, ...]:
        """`throttled` where the GPU was slowed down at either end of what was timed."""
        if case.device != "cuda":
            return ()
        now = self.sample(case)
        reasons = [name for one in (before, now) if one is not None for name in one.throttle or ()]
        return ("throttled",) if gpu.throttled(reasons) else ()
