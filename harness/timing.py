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

Step = Callable[[], None]  # one synchronised step


@dataclass(frozen=True)
class WarmUp:
    calls: int
    seconds: float
    steady: bool
    steps_per_block: int


@dataclass(frozen=True)
class Block:
    seconds: float  # of the whole block
    cpu_seconds: float
    minor_faults: int


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


def block(step: Callable[[], object], wait: Callable[[object], None], steps: int) -> Block:
    """Times `steps` steps, synchronised at the end only."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    cpu, start = clock.cpu(), clock.now()
    value = None
    for _ in range(steps):
        value = step()
    wait(value)
    seconds = clock.now() - start
    return Block(
        seconds=seconds,
        cpu_seconds=clock.cpu() - cpu,
        minor_faults=resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults,
    )


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
