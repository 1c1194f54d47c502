"""Warm-up and timed blocks, inside a worker. Figures and reasons: docs/measurement.md."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from dataclasses import dataclass

from harness import clock

WARM_UP_CALLS, WARM_UP_SECONDS = 25, 0.3  # at least
WARM_UP_CALLS_LIMIT, WARM_UP_SECONDS_LIMIT = 200, 3.0  # at most, then the flag not_steady
SLOW_CALLS = 3  # at least, however slow a step is
WINDOW_SECONDS = 0.05
STEADY = 0.02  # two consecutive windows differ by less than this share
BLOCK_SECONDS, BLOCK_STEPS = 0.03, 5
SLOW_STEP_SECONDS = 0.1  # from here on a block is one step
#: Single calls: as many as fit into so many seconds, and no more than so many
LATENCY_SECONDS, LATENCY_CALLS = 5.0, 1000
SINGLE_SECONDS, SINGLE_CALLS = 0.5, 50
SINGLE_LEAST = 6  # of fewer, a median has no interval
PROBE_SECONDS, PROBE_BLOCKS = 0.1, 10

Step = Callable[[], None]  # one synchronised step


@dataclass(frozen=True)
class WarmUp:
    calls: int
    seconds: float
    steady: bool
    steps_per_block: int


class StepCountError(Exception):
    """A block ran another number of steps than it was asked for, so its time says nothing."""


@dataclass(frozen=True)
class Block:
    seconds: float  # of the whole block
    cpu_seconds: float  # of all threads of the process
    minor_faults: int
    involuntary_switches: int  # how often another process took the processor
    device_seconds: float | None  # between two events on the device


def warm_up(step: Step) -> WarmUp:
    """Steps until steady, and finds how many steps make a block. Leaves garbage collection off:
    `thaw` turns it on again."""
    start, calls, steady = clock.now(), 0, False
    previous, window = _window(step)
    calls += window
    while True:
        rate, window = _window(step)
        calls += window
        seconds = clock.now() - start
        steady = abs(rate / previous - 1.0) < STEADY
        previous = rate
        if steady and calls >= WARM_UP_CALLS and seconds >= WARM_UP_SECONDS:
            break
        if calls >= SLOW_CALLS and seconds >= WARM_UP_SECONDS_LIMIT:
            break
        if calls >= WARM_UP_CALLS_LIMIT and seconds >= WARM_UP_SECONDS:
            break
    gc.collect()
    gc.freeze()
    gc.disable()
    return WarmUp(calls, clock.now() - start, steady, _steps_per_block(previous))


def thaw() -> None:
    """Undoes what `warm_up` did to garbage collection."""
    gc.enable()
    gc.unfreeze()
    gc.collect()


def untold(run: Callable[[], None]) -> None:
    run()


def block(
    step: Callable[[], object],
    wait: Callable[[object], None],
    steps: int,
    device_seconds: Callable[[Callable[[], None]], float | None] = untold,
) -> Block:
    """Times `steps` steps, synchronised at the end only. `device_seconds` runs what it is given
    and returns what a device's own clock said, or None. Raises StepCountError where it does not
    run that exactly once."""
    ran = 0

    def run() -> None:
        nonlocal ran
        value = None
        for _ in range(steps):
            value = step()
            ran += 1
        wait(value)

    before = resource.getrusage(resource.RUSAGE_SELF)
    cpu, start = clock.cpu(), clock.now()
    on_device = device_seconds(run)
    seconds = clock.now() - start
    cpu = clock.cpu() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF)
    if ran != steps:
        raise StepCountError(
            f"a block ran {ran} steps, but should have run {steps}: the adapter's device_seconds "
            "has to call what it is given exactly once"
        )
    return Block(
        seconds=seconds,
        cpu_seconds=cpu,
        minor_faults=after.ru_minflt - before.ru_minflt,
        involuntary_switches=after.ru_nivcsw - before.ru_nivcsw,
        device_seconds=on_device,
    )


def latencies(step: Step, *, seconds: float = LATENCY_SECONDS) -> list[float]:
    """Seconds of single synchronised calls."""
    return _singles(step, seconds=seconds, calls=LATENCY_CALLS)


def transfers(put: Callable[[], object], wait: Callable[[object], None]) -> list[float]:
    """Seconds of bringing a batch to the device, once per value."""
    return _singles(lambda: wait(put()), seconds=SINGLE_SECONDS, calls=SINGLE_CALLS)


def dispatches(step: Callable[[], object], wait: Callable[[object], None]) -> list[float]:
    """Seconds until a single step was enqueued; the waiting after each is not counted."""
    taken: list[float] = []
    begin = clock.now()
    while not _enough(taken, begin, SINGLE_SECONDS, SINGLE_CALLS):
        start = clock.now()
        value = step()
        taken.append(clock.now() - start)
        wait(value)
    return taken


def rate(step: Callable[[], object], wait: Callable[[object], None], work: float) -> float:
    """The largest rate at which `work` per step was done in any of PROBE_BLOCKS blocks."""
    for _ in range(SLOW_CALLS):
        wait(step())
    start = clock.now()
    wait(step())
    steps = max(1, int(PROBE_SECONDS / (clock.now() - start)) + 1)
    return max(work * steps / block(step, wait, steps).seconds for _ in range(PROBE_BLOCKS))


def _singles(call: Callable[[], object], *, seconds: float, calls: int) -> list[float]:
    taken: list[float] = []
    begin = clock.now()
    while not _enough(taken, begin, seconds, calls):
        start = clock.now()
        call()
        taken.append(clock.now() - start)
    return taken


def _enough(taken: list[float], begin: float, seconds: float, calls: int) -> bool:
    if len(taken) >= calls:
        return True
    return len(taken) >= SINGLE_LEAST and clock.now() - begin >= seconds


def _window(step: Step) -> tuple[float, int]:
    """Steps for at least WINDOW_SECONDS: (seconds per step, steps)."""
    start, steps = clock.now(), 0
    while True:
        step()
        steps += 1
        seconds = clock.now() - start
        if seconds >= WINDOW_SECONDS:
            return seconds / steps, steps


def _steps_per_block(step_seconds: float) -> int:
    if step_seconds >= SLOW_STEP_SECONDS:
        return 1
    return max(BLOCK_STEPS, int(BLOCK_SECONDS / step_seconds) + 1)
