"""Has it become slower? The decision of a gate, from measurements that were made in pairs.

A pair is two live programs, base and head, that took turns: its estimate is the median over rounds
of log(head / base). Rounds of one pair share what that pair of processes happened to get
(addresses, allocations), so pairs are the replicates, not rounds (docs/gate.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # scipy.stats would take a second to import

from results.records import GATE_VERDICTS, Decision

REGRESSED, IMPROVED, UNCHANGED, INCONCLUSIVE = VERDICTS = GATE_VERDICTS
#: suite -> what it gates
SUITES: Mapping[str, str] = {
    "gate": "step_time",
    "gate_latency": "latency",
    "gate_memory": "memory",
    "gate_cold_start": "cold_start",
}
#: After so many pairs it is looked at; nothing is decided in between.
LOOKS = (6, 8, 12, 16)
#: Of the interval at each look.
LEVEL = 0.98
THRESHOLD = 0.05  # the change that matters, where nobody says another
#: Fresh pairs that confirm what was flagged.
CONFIRMING = 8
#: Share of flagged cases that are false, and probability that any is, up to which they block.
ALPHA = 0.05

#: Verdicts on tensors, better ones first; those that are not named judge nothing.
RANKS = (
    ("identical", "bitwise", "null-gradient"),
    ("rounding-equal",),
    ("precision-equal",),
    ("deviation",),
    ("divergent", "mistrusted"),
)
#: Facts that are counts, of which more is worse.
COUNTS = ("graph_breaks", "compilations", "generated_kernels", "library_calls", "captured_calls",
          "graph_nodes")  # fmt: skip


def rank(verdict: str) -> int | None:
    """The place of a verdict in RANKS; None where it judges nothing."""
    return next((place for place, names in enumerate(RANKS) if verdict in names), None)


def grown(before: float, now: float) -> str:
    """The verdict on what should not grow at all."""
    return REGRESSED if now > before else IMPROVED if now < before else UNCHANGED


@dataclass(frozen=True)
class Effect:
    """By how much head differs from base, as a ratio: above 1 is slower, larger, later.

    ratio         exp of the mean of the pairs' logarithms
    low, high     its interval at `level`; 0 and infinity from a single pair
    hodges_lehmann   exp of the median of all averages of two pairs, which no single pair can move
    p             probability of a mean at least as high if nothing had changed (one-sided t test)
    pairs         how many
    """

    ratio: float
    low: float
    high: float
    hodges_lehmann: float
    p: float
    pairs: int


def effect(logs: Sequence[float], *, level: float = LEVEL) -> Effect:
    """The effect that pair estimates, natural logarithms of head over base, show: Student's t over
    pairs (Student, Biometrika 6, 1908), and beside it the estimate of J. L. Hodges and E. L.
    Lehmann (Annals of Mathematical Statistics 34, 1963). Raises ValueError for no pairs, and for
    values that are not finite."""
    values = np.asarray(logs, dtype=float)
    if not values.size:
        raise ValueError("no pairs, but an effect needs at least one")
    if not np.isfinite(values).all():
        raise ValueError(f"pairs are {list(logs)[:5]!r}, but all should be finite")
    k, mean = len(values), float(values.mean())
    middle = _exp(float(np.median(_walsh(values))))
    if k == 1:
        return Effect(_exp(mean), 0.0, math.inf, middle, 0.5, 1)
    error = float(values.std(ddof=1)) / math.sqrt(k)
    half = float(special.stdtrit(k - 1, (1 + level) / 2)) * error
    if error == 0:
        p = 0.5 if mean == 0 else float(mean < 0)
    else:
        p = float(special.stdtr(k - 1, -mean / error))
    return Effect(_exp(mean), _exp(mean - half), _exp(mean + half), middle, p, k)


def verdict(found: Effect, threshold: float) -> str:
    """What an effect says about a change of `threshold` (0.05: five percent), which is the smallest
    that matters.

    regressed     slower for certain, and by more than half of the threshold
    improved      the mirror image
    unchanged     whatever changed is for certain less than the threshold
    inconclusive  anything else
    """
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold is {threshold!r}, but should be above 0")
    tau = math.log1p(threshold)
    low, mean, high = (_log(x) for x in (found.low, found.ratio, found.high))
    if low > 0 and mean > tau / 2:
        return REGRESSED
    if high < 0 and mean < -tau / 2:
        return IMPROVED
    if -tau < low and high < tau:
        return UNCHANGED
    return INCONCLUSIVE


def look(logs: Sequence[float], threshold: float, *, looks: Sequence[int] = LOOKS) -> str:
    """The verdict where the pairs so far allow one, else the empty string: more pairs are needed.
    At the last look whatever is not decided is inconclusive."""
    if len(logs) not in looks:
        return ""
    found = verdict(effect(logs), threshold)
    return "" if found == INCONCLUSIVE and len(logs) < max(looks) else found


def by_amount(
    base: Sequence[float], head: Sequence[float], threshold: float, *, least: float = 0.0
) -> str:
    """The verdict on an amount that repeats almost exactly, bytes for example: every pair has to
    say the same. A change counts above the larger of `threshold` times the base and `least`."""
    if not base or len(base) != len(head):
        raise ValueError(f"{len(base)} values of base and {len(head)} of head, but should be pairs")
    said = set()
    for before, after in zip(base, head, strict=True):
        allowed, change = max(threshold * before, least), after - before
        said.add(REGRESSED if change > allowed else IMPROVED if change < -allowed else UNCHANGED)
    return said.pop() if len(said) == 1 else INCONCLUSIVE


def holm(p_values: Mapping[str, float], *, alpha: float = ALPHA) -> set[str]:
    """The names whose hypotheses are rejected when the probability of rejecting any true one may
    be `alpha` (S. Holm, Scandinavian Journal of Statistics 6, 1979): the i-th smallest of m is
    compared with alpha / (m - i + 1), until the first that is not below it."""
    rejected: set[str] = set()
    ordered = sorted(p_values, key=lambda name: (p_values[name], name))
    for rank, name in enumerate(ordered):
        if p_values[name] > alpha / (len(ordered) - rank):
            break
        rejected.add(name)
    return rejected


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Each name's p-value, adjusted: where those up to q are called changes, about a share of q of
    them is not (Y. Benjamini and Y. Hochberg, Journal of the Royal Statistical Society B 57,
    1995)."""
    ordered = sorted(p_values, key=lambda name: (p_values[name], name), reverse=True)
    adjusted, least, m = {}, 1.0, len(ordered)
    for position, name in enumerate(ordered):
        least = min(least, p_values[name] * m / (m - position))
        adjusted[name] = least
    return adjusted


def discovered(decisions: Sequence[Decision], rate: float = ALPHA) -> list[Decision]:
    """Those that are slower at a false discovery rate: of such a list about that share is not. It
    is for reading, and blocks nothing: a change in it may be far below any threshold."""
    told = {str(place): d.p for place, d in enumerate(decisions) if d.p is not None}
    adjusted = benjamini_hochberg(told)
    return [d for place, d in enumerate(decisions) if adjusted.get(str(place), 1.0) <= rate]


def flagged(found: Decision) -> bool:
    """Whether a decision says regressed and has to be confirmed before it holds."""
    first = found.stage == 1 and found.case.suite in SUITES
    return first and found.verdict == REGRESSED and found.p is not None


def _walsh(values: np.ndarray) -> np.ndarray:
    """The averages of all pairs of values, each with itself included."""
    rows, columns = np.triu_indices(len(values))
    return (values[rows] + values[columns]) / 2


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _log(x: float) -> float:
    return -math.inf if x <= 0 else math.log(x)


def sentence(found: Decision) -> str:
    """`regressed step_time 1.052 (1.049 to 1.055), 6 pairs`."""
    told = f"{found.verdict} {found.metric}"
    if found.ratio is None:
        return f"{told}: {found.reason}"
    return f"{told} {change(found)}" + (f", {len(found.ratios)} pairs" if found.ratios else "")


def change(found: Decision) -> str:
    """`1.052 (1.049 to 1.055)`; empty where nothing is divided."""
    if found.ratio is None:
        return ""
    told = f"{found.ratio:.3f}"
    if found.low is None or found.high is None:
        return told
    return f"{told} ({found.low:.3f} to {found.high:.3f})"
