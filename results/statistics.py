"""The typical value of repeated measurements, with an interval that says what it is worth.

Means are not used: one interrupted round would move them (docs/measurement.md). Two intervals
exist, because they answer different questions:

- rounds of **one process** tell how well that process's median is known. Nothing is assumed
  about the distribution. What differs from process to process is not inside this interval.
- medians of **several processes** tell how well the machine's typical value is known. This is
  the interval to publish.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special  # scipy.stats would take a second to import

#: The least probability with which an interval should cover the true median.
LEVEL = 0.95

ORDER_STATISTICS = "order statistics"
STUDENT_T = "t over processes"
NO_INTERVAL = "none"


@dataclass(frozen=True)
class Estimate:
    """A typical value and where the truth lies.

    median   the estimate
    low      lower bound, nan where there is no interval
    high     upper bound, nan where there is no interval
    level    probability that the interval covers the true median: the real one, which is at
             least the one asked for; nan where there is no interval
    method   ORDER_STATISTICS, STUDENT_T or NO_INTERVAL
    n        number of values (rounds) or, for STUDENT_T, of processes
    reason   why there is no interval; empty where there is one
    """

    median: float
    low: float
    high: float
    level: float
    method: str
    n: int
    reason: str = ""


def estimate(processes: Sequence[Sequence[float]], *, level: float = LEVEL) -> Estimate:
    """The typical value of rounds grouped by the process that measured them.

    One process: `median_interval` of its rounds. Several: `process_interval` of their medians.
    Raises ValueError without any value, for an empty process and for values that are not finite.
    """
    if len(processes) == 1:
        return median_interval(processes[0], level=level)
    return process_interval([_median(_checked(rounds)) for rounds in processes], level=level)


def median_interval(values: Sequence[float], *, level: float = LEVEL) -> Estimate:
    """Median of one process's rounds with a distribution-free interval.

    With x_(1) <= ... <= x_(n) the interval is [x_(k), x_(n+1-k)]. It misses the true median only
    when fewer than k values fall on one side of it, so it covers it with probability
    1 - 2 P(B <= k-1), B ~ Binomial(n, 1/2), and with more than that when values are tied
    (H. A. David and H. N. Nagaraja, Order Statistics, 3rd ed., 2003, section 7.1). k is the
    largest that still reaches `level`; below 6 values no k reaches 95%.
    """
    ordered = _checked(values)
    n = len(ordered)
    rank, coverage = _rank(n, level)
    if rank == 0:
        needed = next(m for m in range(n + 1, 10_000) if _rank(m, level)[0])
        return _without_interval(
            _median(ordered), n, f"{_count(n, 'value')}, but {level:.0%} needs at least {needed}"
        )
    low, high = float(ordered[rank - 1]), float(ordered[n - rank])
    return Estimate(_median(ordered), low, high, coverage, ORDER_STATISTICS, n)


def process_interval(medians: Sequence[float], *, level: float = LEVEL) -> Estimate:
    """Typical value over processes, from one median per process.

    Student's t on logarithms: exp(m -+ t(k-1) s / sqrt(k)), with m and s the mean and standard
    deviation of the k logarithms (Student, Biometrika 6, 1908). Logarithms, because process
    medians scatter by a factor rather than by an amount; then exp(m), the geometric mean, is the
    estimate of the median process.
    """
    ordered = _checked(medians)
    k = len(ordered)
    if k < 2:
        return _without_interval(_median(ordered), k, "1 process, but an interval needs at least 2")
    if ordered[0] <= 0:
        reason = f"a process median is {ordered[0]:g}, which has no logarithm"
        return _without_interval(_median(ordered), k, reason)
    logs = np.log(ordered)
    half = float(special.stdtrit(k - 1, (1 + level) / 2) * logs.std(ddof=1) / math.sqrt(k))
    with np.errstate(over="ignore"):  # an infinite bound is the honest answer of two wild values
        low, mid, high = np.exp(logs.mean() + np.array([-half, 0.0, half]))
    return Estimate(float(mid), float(low), float(high), level, STUDENT_T, k)


@lru_cache(maxsize=1024)
def _rank(n: int, level: float) -> tuple[int, float]:
    """The largest k whose interval covers with at least `level`, and its coverage; (0, nan) if
    there is none."""
    best = (0, math.nan)
    for k in range(1, n // 2 + 1):
        coverage = 1 - 2 * float(special.bdtr(k - 1, n, 0.5))
        if coverage < level:
            break
        best = (k, coverage)
    return best


def _checked(values: Sequence[float]) -> np.ndarray:
    """The values in ascending order. Raises ValueError when there is nothing to summarise."""
    ordered = np.sort(np.asarray(values, dtype=float))
    if not ordered.size:
        raise ValueError("no values, but a median needs at least one")
    if not np.isfinite(ordered).all():
        raise ValueError(f"values are {list(values)[:5]!r}, but all should be finite")
    return ordered


def _median(ordered: np.ndarray) -> float:
    return float(np.median(ordered))


def _without_interval(median: float, n: int, reason: str) -> Estimate:
    return Estimate(median, math.nan, math.nan, math.nan, NO_INTERVAL, n, reason)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
