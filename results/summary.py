"""One figure per case and metric: the typical value of what was measured, and its interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from results.metrics import METRICS
from results.records import Case, Measurement
from results.statistics import Estimate, estimate, process_interval, quantile_interval

#: Raw values of this metric are summarised by their quantiles; a median alone would hide the tail.
LATENCY = "latency"
QUANTILES = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}

#: Metrics that repeat: an interval that is too wide says that they were disturbed. A count, a
#: peak of memory or a single start has no such interval.
_REPEATED = (
    *("step_time", "throughput", "dispatch_time", "device_time", "transfer_time"),
    *QUANTILES,
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
    """The figures of stored metrics in the order of the records, latency as its quantiles.
    Records of one process are one sample."""
    groups: dict[tuple[Case, str], list[Measurement]] = defaultdict(list)
    for record in records:
        groups[record.case, record.metric].append(record)
    figures: list[Figure] = []
    for (_, metric), group in groups.items():
        if metric != LATENCY:
            figures.append(_figure(group))
        else:
            figures.extend(_figure(group, name, q) for name, q in QUANTILES.items())
    return figures


def _figure(records: Sequence[Measurement], metric: str = "", q: float | None = None) -> Figure:
    processes: dict[int, list[float]] = defaultdict(list)
    for record in records:
        processes[record.process].extend(record.values)
    value = estimate(list(processes.values())) if q is None else _quantile(processes, q)
    stored = records[0].metric
    made = Figure(
        case=records[0].case,
        metric=metric or stored,
        unit=METRICS[stored][0],
        value=value,
        rounds=sum(map(len, processes.values())),
        processes=len(processes),
        flags=frozenset(flag for record in records for flag in record.flags),
        note=value.reason,
    )
    return replace(made, flags=made.flags | {"noisy"}) if noisy(made) else made


def _quantile(processes: Mapping[int, Sequence[float]], q: float) -> Estimate:
    """One process: the quantile of its values. Several: as `estimate` does with medians, from
    the quantile of each."""
    each = [quantile_interval(values, q) for values in processes.values()]
    return each[0] if len(each) == 1 else process_interval([found.median for found in each])


def noisy(figure: Figure) -> bool:
    """Whether the interval of a repeated metric reaches more than NOISY to one side."""
    value = figure.value
    if figure.metric not in _REPEATED or math.isnan(value.low) or math.isnan(value.high):
        return False
    return max(value.high - value.median, value.median - value.low) > NOISY * value.median
