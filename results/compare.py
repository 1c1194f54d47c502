"""Two stored runs, one against the other.

What was stored was measured at two times, and a machine is not the same at two times: between two
runs of one program lies whatever it did meanwhile. So this is weaker than pairs that take turns
(`pytest suites --benchmark --against`), and says so.

The replicates are processes: of each the median counts. A run with one process per case (preset
quick) has nothing to tell a change from chance with, and its cases are inconclusive.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from results import gate, machines
from results.gate import INCONCLUSIVE, Effect
from results.policy import Policy
from results.records import Case, Decision, Measurement
from results.store import Run

#: metric -> what of a policy is its threshold. All of them are worse when they are larger.
COMPARED: Mapping[str, str] = {
    "step_time": "step_time",
    "latency": "latency",
    "host_peak_bytes": "memory",
    "device_peak_bytes": "memory",
    "first_call_time": "cold_start",
    "artifact_bytes": "artifact",
}
#: Suites whose figures are a by-product of something else.
APART = ("gate", "confirm", "canary", "sweep_")
WEAKER = (
    "Stored runs were measured at different times, which makes them weaker than pairs that take "
    "turns: differences of a few percent may be the machine's. "
    "`pytest suites --benchmark --against BASE` measures in turns."
)


@dataclass(frozen=True)
class Comparison:
    """What two runs show. `refusals` are reasons for which they should not be compared at all,
    `notes` what else a reader should know."""

    decisions: Sequence[Decision]
    refusals: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def compare(base: Run, head: Run, policy: Policy) -> Comparison:
    """Every metric, verdict and count that both runs have."""
    environments = head.environment, base.environment
    refusals = machines.differences(*environments)
    notes = [WEAKER, *machines.same_software(*environments)]
    decisions = [
        *_timed(base, head, policy),
        *_verdicts(base, head, policy),
        *_counts(base, head, policy),
    ]
    left_out = _missing(base, head)
    if left_out:
        some = ", ".join(left_out[:5]) + (" and more" if len(left_out) > 5 else "")
        notes.append(f"{len(left_out)} cases of base are not in head: {some}")
    for name, run in (("base", base), ("head", head)):
        notes += [f"{name}: {problem}" for problem in run.problems]
    return Comparison(decisions, refusals, notes)


def effect(base: Sequence[float], head: Sequence[float], *, level: float = gate.LEVEL) -> Effect:
    """The effect that medians of processes show which were not paired: the difference of the means
    of their logarithms, with the interval of B. L. Welch (Biometrika 34, 1947), which does not take
    the two to scatter alike. From one process of either there is no interval."""
    x, y = (np.log(np.asarray(values, dtype=float)) for values in (base, head))
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise ValueError("times should be finite and above 0")
    change = float(y.mean() - x.mean())
    differences = (y[:, None] - x[None, :]).ravel()
    middle = math.exp(float(np.median(differences)))
    pairs = min(len(x), len(y))
    if pairs < 2:
        return Effect(math.exp(change), 0.0, math.inf, middle, 0.5, pairs)
    parts = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    error = math.sqrt(parts.sum())
    if error == 0:
        p = 0.5 if change == 0 else float(change < 0)
        return Effect(*(math.exp(change),) * 3, middle, p, pairs)
    freedom = parts.sum() ** 2 / (parts**2 / (np.array([len(x), len(y)]) - 1)).sum()
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    p = float(special.stdtr(freedom, -change / error))
    return Effect(math.exp(change), math.exp(change - half), math.exp(change + half), middle, p,
                  pairs)  # fmt: skip


def decide(
    case: Case, metric: str, base: Sequence[float], head: Sequence[float], threshold: float,
    *, told: str,
) -> Decision:  # fmt: skip
    """On medians of processes."""
    found = effect(base, head)
    bytes_ = metric.endswith("_bytes")
    if bytes_:
        least = 2**20 if "peak" in metric else 0
        middle = [float(np.median(values)) for values in (base, head)]
        verdict = gate.by_amount(middle[:1], middle[1:], threshold, least=least)
    else:
        verdict = gate.verdict(found, threshold)
    reason = f"{len(base)} and {len(head)} processes"
    if verdict == INCONCLUSIVE and found.pairs < 2:
        reason = "one process has no interval; presets standard and full measure in 3 and in 6"
    bounds = (None, None) if bytes_ or found.pairs < 2 else (found.low, found.high)
    return Decision(case, metric, verdict, told, threshold=threshold, ratio=found.ratio,
                    low=bounds[0], high=bounds[1], p=None if bytes_ else found.p,
                    reason=reason)  # fmt: skip


# --------------------------------------------------------------------------------------------------


def _timed(base: Run, head: Run, policy: Policy) -> Iterable[Decision]:
    before, now = (_medians(run.measurements) for run in (base, head))
    judged = {o.case for o in head.outcomes if o.status == "ok"}
    for (case, metric), values in now.items():
        threshold = policy.threshold(case, COMPARED[metric])
        known = before.get((case, metric))
        if known and threshold is not None and case in judged and min(*known, *values) > 0:
            yield decide(case, metric, known, values, threshold, told=base.run_id)


def _medians(records: Iterable[Measurement]) -> dict[tuple[Case, str], list[float]]:
    """Of each case and metric the medians of its processes."""
    values: dict[tuple[Case, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.metric in COMPARED and not record.case.suite.startswith(APART):
            values[record.case, record.metric][record.process] += record.values
    return {
        key: [float(np.median(found)) for found in processes.values()]
        for key, processes in values.items()
    }


def _verdicts(base: Run, head: Run, policy: Policy) -> Iterable[Decision]:
    """Of every case that both runs have: was it right, and how nearly?"""
    before, now = (_standing(run) for run in (base, head))
    for case, (rank, name) in now.items():
        if case not in before or policy.threshold(case, "conformance") is None:
            continue
        old, was = before[case]
        if rank is None or old is None:
            continue
        verdict = gate.grown(old, rank)
        reason = name if name == was else f"{was} to {name}"
        yield Decision(case, "conformance", verdict, base.run_id, reason=reason)


def _standing(run: Run) -> dict[Case, tuple[int | None, str]]:
    """Of each case the place of its worst verdict in `gate.RANKS` and its name; behind them all is
    a case that did not end well, and None one of which nothing is known."""
    worst: dict[Case, int] = {}
    for row in run.agreements:
        place = gate.rank(row.verdict)
        if place is not None:
            worst[row.case] = max(worst.get(row.case, 0), place)
    found: dict[Case, tuple[int | None, str]] = {}
    for outcome in run.outcomes:
        case = outcome.case
        if outcome.status == "ok":
            place = worst.get(case)
            found[case] = (place, gate.RANKS[place][0] if place is not None else "ok")
        elif outcome.status in ("unsupported", "interrupted"):
            found[case] = (None, outcome.status)
        else:
            found[case] = (len(gate.RANKS), outcome.status)
    return found


def _counts(base: Run, head: Run, policy: Policy) -> Iterable[Decision]:
    before, now = (
        {fact.case: fact.facts for fact in run.facts if "parameter_dtypes" in fact.facts}
        for run in (base, head)
    )
    for case, facts in now.items():
        if case not in before or policy.threshold(case, "counts") is None:
            continue
        for name in gate.COUNTS:
            old, new = before[case].get(name), facts.get(name)
            if type(old) is int and type(new) is int:
                reason = f"{old:,}" if old == new else f"{old:,} to {new:,}"
                yield Decision(case, name, gate.grown(old, new), base.run_id, reason=reason)


def _missing(base: Run, head: Run) -> list[str]:
    """Cases that were fine in base and are not in head at all."""
    there = {outcome.case for outcome in head.outcomes}
    return [
        f"{outcome.case.suite}/{outcome.case.key}"
        for outcome in base.outcomes
        if outcome.status == "ok" and outcome.case not in there
    ]
