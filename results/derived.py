"""Figures that follow from measured ones and are never stored: those in `metrics.DERIVED`.

Each is made from published figures alone and carries the flags of all that it is made from, so
a doubtful or withheld figure cannot come back under another name. (The quantiles of latency are
made in `results.summary`, from raw values.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from results.metrics import DERIVED, LIMITS
from results.records import Case, Limit
from results.statistics import NO_INTERVAL, Estimate
from results.summary import Figure

#: The adapter that a compiler has to pay for itself against.
EAGER = "torch_eager"

_START = ("import_time", "build_time", "first_call_time")
_COMPILING = ("trace_time", "compile_time")
_SAME = "step times cannot be told apart"


class _Published:
    """Published figures by case and metric."""

    def __init__(self, figures: Iterable[Figure]) -> None:
        self._figures = {(figure.case, figure.metric): figure for figure in figures}
        self.cases = list(dict.fromkeys(case for case, _ in self._figures))

    def get(self, case: Case, *metrics: str) -> list[Figure]:
        """One figure per metric; none at all where one is missing."""
        found = [self._figures.get((case, metric)) for metric in metrics]
        return [f for f in found if f] if all(found) else []


def derived(published: Iterable[Figure], limits: Sequence[Limit]) -> list[Figure]:
    """What follows from the published figures and the limits of the machine."""
    known = _Published(published)
    made = [
        make
        for case in known.cases
        for make in (
            _break_even(known, case),
            _activations(known, case),
            _peak_fraction(known, case, limits),
        )
    ]
    return [figure for figure in made if figure is not None]


def _break_even(known: _Published, case: Case) -> Figure | None:
    """Steps after which an adapter that compiles is ahead of the eager one of the same
    configuration: (ready_A - ready_E) / (step_E - step_A), with ready = import + build + first
    call (suite cold_start) and the step in steady state (suite performance)."""
    if case.suite != "cold_start" or not any(known.get(case, part) for part in _COMPILING):
        return None
    eager = replace(case, adapter=EAGER)
    if case == eager:
        return None
    starts = [known.get(one, *_START) for one in (case, eager)]
    steps = [known.get(replace(one, suite="performance"), "step_time") for one in (case, eager)]
    if not all(starts) or not all(steps):
        return None
    (mine,), (theirs,) = steps
    used = [*starts[0], *starts[1], mine, theirs]
    if _overlap(mine.value, theirs.value):
        return _figure(case, "break_even_steps", math.nan, used, _SAME)
    ready = [math.fsum(part.value.median for part in start) for start in starts]
    steps_needed = break_even(ready[0], ready[1], mine.value.median, theirs.value.median)
    return _figure(case, "break_even_steps", steps_needed, used, "made from medians")


def break_even(ready: float, ready_eager: float, step: float, step_eager: float) -> float:
    """After how many steps total time is equal, all in seconds: 0 for who is ahead from the
    start, infinite for who is no faster per step."""
    if step >= step_eager:
        return math.inf
    return max(0.0, ready - ready_eager) / (step_eager - step)


def _overlap(one: Estimate, other: Estimate) -> bool:
    """Whether two figures cannot be told apart; without intervals nobody can."""
    if any(math.isnan(bound) for e in (one, other) for bound in (e.low, e.high)):
        return True
    return one.low <= other.high and other.low <= one.high


def _activations(known: _Published, case: Case) -> Figure | None:
    """What a step of training takes minus what one of inference takes (suite memory): peaks of the
    device's allocator where both modes have them, since activations then are not in host memory;
    else of the host, above what the process holds between steps: frameworks import code to
    train, which is no activation. None where training takes less, which says nothing: in mixed
    precision, copies of the weights in 16 bits can outweigh a small model's activations."""
    if case.suite != "memory" or case.mode != "train":
        return None
    infer = replace(case, mode="infer")
    for metric in ("device_peak_bytes", "step_peak_bytes"):
        both = known.get(case, metric) + known.get(infer, metric)
        if len(both) == 2:
            train, rest = (figure.value.median for figure in both)
            if train < rest:
                return None
            place = "device" if metric.startswith("device") else "host"
            note = f"{place} memory, made from medians"
            return _figure(case, "activation_bytes", train - rest, both, note)
    return None


def _peak_fraction(known: _Published, case: Case, limits: Sequence[Limit]) -> Figure | None:
    """Arithmetic per second over what the roofline allows: min(P, I B), with P the largest rate
    of a matrix product in this precision, B the largest bandwidth and I the arithmetic per byte
    (S. Williams, A. Waterman, D. Patterson, Communications of the ACM 52, 2009). The interval
    is that of the step time; the note says which limit binds."""
    used = known.get(case, "flops_per_step", "bytes_per_step", "step_time")
    low = case.precision.removeprefix("amp_").removesuffix("_native")
    peak = _largest(limits, f"matmul_{low}", case.device)
    bandwidth = _largest(limits, "bandwidth", case.device)
    if not used or peak is None or bandwidth is None:
        return None
    flops, moved, step = (figure.value for figure in used)
    if not (flops.median and moved.median and step.median):
        return None
    by_memory = flops.median / moved.median * bandwidth
    roof, binding = min((peak, "compute"), (by_memory, "memory"))

    def fraction(seconds: float) -> float:
        return flops.median / seconds / roof if seconds else math.inf

    made = _figure(case, "peak_fraction", fraction(step.median), used, binding)
    value = replace(
        step, median=made.value.median, low=fraction(step.high), high=fraction(step.low)
    )
    return replace(made, value=value, rounds=used[-1].rounds, processes=used[-1].processes)


def _largest(limits: Sequence[Limit], name: str, device: str) -> float | None:
    """A limit of a device; None where it was not measured."""
    if name not in LIMITS:
        return None
    return max((x.value for x in limits if (x.limit, x.device) == (name, device)), default=None)


def _figure(case: Case, metric: str, value: float, used: Sequence[Figure], note: str) -> Figure:
    return Figure(
        case=case,
        metric=metric,
        unit=DERIVED[metric][0],
        value=Estimate(value, math.nan, math.nan, math.nan, NO_INTERVAL, 1, note),
        rounds=sum(figure.rounds for figure in used),
        processes=max(figure.processes for figure in used),
        flags=frozenset().union(*(figure.flags for figure in used)),
        note=note,
    )
