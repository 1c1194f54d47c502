"""One figure per case and metric: the typical value of what was measured, and its interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from results.metrics import METRICS
from results.records import Case, Measurement
from results.statistics import Estimate, estimate, tail_estimate

#: Raw values of this metric are summarised by their quantiles; a median alone would hide the tail.
LATENCY = "latency"
MEDIAN = "latency_p50"
TAILS = {"latency_p95": 0.95, "latency_p99": 0.99}

#: Metrics that repeat: an interval that is too wide says that they were disturbed. A count, a
#: peak of memory or a single start has no such interval.
_REPEATED = (
    *("step_time", "throughput", "dispatch_time", "device_time", "transfer_time"),
    MEDIAN,
    *TAILS,
    "control_ratio",
    "speedup",
)
#: How far an interval may reach to one side, over the figure, before the figure is `noisy`.
NOISY = 0.05


@dataclass(frozen=True)
class Figure:
    """The value of one metric of one case.

    value   its estimate, in the metric's unit
    rounds, processes   how many values it was made from, and of how many processes
    flags   what makes it less trustworthy (`results.metrics.FLAGS`)
    note    why there is no interval, or what a derived figure says besides its value
    """

    case: Case
    metric: str
    unit: str
    value: Estimate
    rounds: int
    processes: int
    flags: frozenset[str]
    note: str = ""


def measured(records: Iterable[Measurement]) -> list[Figure]:
    """The figures of stored metrics in the order of the records, latency as its quantiles: those
    that a process made calls enough for. Records of one process are one sample."""
    groups: dict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for record in records:
        groups[record.case, record.metric].append(record)
    figures: list[Figure] = []
    for (_, metric), group in groups.items():
        processes = _by_process(group)
        name = MEDIAN if metric == LATENCY else metric
        figures.append(_figure(group, name, estimate(processes), processes=processes))
        for name, q in TAILS.items() if metric == LATENCY else ():
            if (tail := tail_estimate(processes, q)) is not None:
                figures.append(_figure(group, name, tail, processes=processes))
    return figures


def _by_process(records: Iterable[Measurement]) -> list[list[float]]:
    values: dict[int, list[float]] = defaultdict(list)
    for record in records:
        values[record.process].extend(record.values)
    return list(values.values())


def _figure(
    records: Sequence[Measurement],
    metric: str,
    value: Estimate,
    *,
    processes: Sequence[Sequence[float]],
) -> Figure:
    stored = records[0].metric
    made = Figure(
        case=records[0].case,
        metric=metric,
        unit=METRICS[stored][0],
        value=value,
        rounds=sum(map(_rounds, records)),
        processes=len(processes),
        flags=frozenset(flag for record in records for flag in record.flags),
        note=_why_none(records, value),
    )
    return replace(made, flags=made.flags | {"noisy"}) if noisy(made) else made


def _rounds(record: Measurement) -> int:
    """How many rounds stand behind a record. Files of other tools may keep the median alone, and
    say how many it is of."""
    told = record.conditions.get("rounds", 0.0) if len(record.values) == 1 else 0.0
    return int(told) or len(record.values)


def _why_none(records: Sequence[Measurement], value: Estimate) -> str:
    """Why there is no interval; empty where there is one."""
    if value.reason and len(records) == 1 and _rounds(records[0]) > len(records[0].values):
        return f"the file keeps the median of {_rounds(records[0]):,} rounds, and not the rounds"
    return value.reason


def noisy(figure: Figure) -> bool:
    """Whether the interval of a repeated metric reaches more than NOISY to one side."""
    value = figure.value
    if figure.metric not in _REPEATED or math.isnan(value.low) or math.isnan(value.high):
        return False
    return max(value.high - value.median, value.median - value.low) > NOISY * value.median
