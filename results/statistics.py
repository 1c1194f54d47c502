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
#: Values that lie beyond a quantile in each process, on average, where t covers what it says: by
#: simulation (tests/test_results_statistics.py) 93% with 4 of them, 94% to 95% with 10.
BEYOND = 10

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
    """Median of one process's rounds with the interval of `quantile_interval`; below 6 values
    there is none at 95%."""
    ordered = _checked(values)
    return _between_ranks(ordered, _median(ordered), 0.5, level)


def quantile_interval(values: Sequence[float], q: float, *, level: float = LEVEL) -> Estimate:
    """The q-quantile of one process's values with a distribution-free interval.

    With x_(1) <= ... <= x_(n) the interval is [x_(r), x_(s)]. The number of values below the true
    quantile is B ~ Binomial(n, q), so it is covered with probability P(r <= B <= s-1), and with
    more than that when values are tied (H. A. David and H. N. Nagaraja, Order Statistics, 3rd
    ed., 2003, section 7.1). r is the largest and s the smallest rank for which either side is
    missed with at most (1 - level) / 2; too few values have no such ranks: the largest of 200
    calls lies below the true p99 with probability 0.99^200 = 13%.

    The estimate interpolates linearly between order statistics so that it is median-unbiased
    whatever the distribution (R. J. Hyndman and Y. Fan, The American Statistician 50, 1996,
    definition 8); for q = 1/2 it is the median. The usual definition 7 lies a third of a standard
    deviation below the p99 of 1,000 values, which six processes would add up to a miss.
    """
    if not 0 < q < 1:
        raise ValueError(f"q is {q!r}, but should lie between 0 and 1")
    ordered = _checked(values)
    return _between_ranks(ordered, _quantile(ordered, q), q, level)


def tail_estimate(
    processes: Sequence[Sequence[float]], q: float, *, level: float = LEVEL
) -> Estimate | None:
    """The q-quantile of single values grouped by the process that measured them; None where no
    process has values enough for `quantile_interval`: below that, a sample's quantile is its
    largest value or so, and lies below the true one.

    One process: `quantile_interval` of its values. Several: `process_interval` of the quantiles of
    all processes, if each has values for BEYOND of them to lie beyond the quantile: the logarithm
    of its estimate is then close enough to unbiased and normal for t to cover. Else those
    quantiles that there are, without an interval: whoever made few calls was slow, and is missing.
    """
    if len(processes) == 1:
        whole = quantile_interval(processes[0], q, level=level)
        return None if whole.method == NO_INTERVAL else whole
    least = least_values(q, level=level)
    supported = [_quantile(_checked(v), q) for v in processes if len(v) >= least]
    if not supported:
        return None
    needed = math.ceil(BEYOND / (1 - q) - 1e-6)
    typical = process_interval(supported, level=level)
    if few := sum(len(values) < needed for values in processes):
        reason = f"{few} of {len(processes)} processes have fewer than {needed} values"
        return _without_interval(typical.median, len(supported), reason)
    return typical


def least_values(q: float, *, level: float = LEVEL) -> int:
    """The fewest values of which the q-quantile has an interval: 6 for the median, 368 for p99."""
    return math.ceil(math.log((1 - level) / 2) / math.log(max(q, 1 - q)))


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


def _between_ranks(ordered: np.ndarray, value: float, q: float, level: float) -> Estimate:
    n = len(ordered)
    low, high, coverage = _ranks(n, q, level)
    if low < 1 or high > n:
        needed = least_values(q, level=level)
        what = f"{level:.0%}" if q == 0.5 else f"{level:.0%} for the {q:.0%} quantile"
        reason = f"{_count(n, 'value')}, but {what} needs at least {needed}"
        return _without_interval(value, n, reason)
    bounds = float(ordered[low - 1]), float(ordered[high - 1])
    return Estimate(value, *bounds, coverage, ORDER_STATISTICS, n)


@lru_cache(maxsize=1024)
def _ranks(n: int, q: float, level: float) -> tuple[int, int, float]:
    """Ranks (r, s) of an interval that covers with at least `level`, and its coverage. r = 0 and
    s = n + 1 stand for bounds that no value gives."""
    tail = (1 - level) / 2
    count = np.arange(n + 1)
    low = int(np.sum(special.bdtr(count, n, q) <= tail))
    high = int(np.argmax(special.bdtrc(count, n, q) <= tail)) + 1
    if low < 1 or high > n:
        return low, high, math.nan
    return low, high, float(special.bdtr(high - 1, n, q) - special.bdtr(low - 1, n, q))


def _checked(values: Sequence[float]) -> np.ndarray:
    """The values in ascending order. Raises ValueError when there is nothing to summarise."""
    ordered = np.sort(np.asarray(values, dtype=float))
    if not ordered.size:
        raise ValueError("no values, but a median needs at least one")
    if not np.isfinite(ordered).all():
        raise ValueError(f"values are {list(values)[:5]!r}, but all should be finite")
    return ordered


def _quantile(ordered: np.ndarray, q: float) -> float:
    return float(np.quantile(ordered, q, method="median_unbiased"))


def _median(ordered: np.ndarray) -> float:
    return float(np.median(ordered))


def _without_interval(median: float, n: int, reason: str) -> Estimate:
    return Estimate(median, math.nan, math.nan, math.nan, NO_INTERVAL, n, reason)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
