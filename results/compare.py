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
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special

from results import display, foreign, gate, machines, rounds, settings, standing
from results.gate import IMPROVED, INCONCLUSIVE, REGRESSED, Effect
from results.metrics import HIGHER_IS_BETTER, METRICS
from results.policy import Policy
from results.records import Case, Decision, Measurement
from results.store import Run

#: metric -> what of a policy is its threshold. All of them are worse when they are larger, but
#: those of HIGHER_IS_BETTER, of which base is divided by head: above 1 is slower throughout.
COMPARED: Mapping[str, str] = {
    "step_time": "step_time",
    "latency": "latency",
    "host_peak_bytes": "memory",
    "device_peak_bytes": "memory",
    "first_call_time": "cold_start",
    "artifact_bytes": "artifact",
    # of other tools
    "cpu_time": "step_time",
    "items_per_second": "step_time",
    "bytes_per_second": "step_time",
    "process_peak_bytes": "memory",
    "object_bytes": "memory",
}
#: Suites whose figures are a by-product of something else.
APART = ("gate", "confirm", "canary", "sweep_")
WEAKER = (
    "Stored runs were measured at different times, which makes them weaker than pairs that take "
    "turns: differences of a few percent may be the machine's."
)
IN_TURNS = "`pytest suites --benchmark --against BASE` measures in turns."


@dataclass(frozen=True)
class Comparison:
    """What two runs show.

    machines    in what their machines differ: then they should not be compared at all
    settings    in what they were made differently: likewise
    notes       what else a reader should know
    ungated     cases on which nothing is decided, and why
    undecided   why not everything could be decided; empty where it could
    """

    decisions: Sequence[Decision]
    machines: Sequence[str] = ()
    settings: Sequence[str] = ()
    notes: Sequence[str] = ()
    ungated: Mapping[Case, str] = field(default_factory=dict)
    undecided: str = ""


def compare(base: Run, head: Run, policy: Policy) -> Comparison:
    """Every metric, verdict and count that both runs have, and how every case ended."""
    environments = head.environment, base.environment
    own = not all("tool" in environment for environment in environments)
    notes = [f"{WEAKER} {IN_TURNS}" if own else WEAKER, *machines.same_software(*environments)]
    decisions = [
        *_timed(base, head, policy),
        *standing.supported(base, head, policy),
        *_counts(base, head, policy),
    ]
    for told, cases in zip(
        ("base are not in head", "head are not in base"), standing.alone(base, head), strict=True
    ):
        if cases:
            some = ", ".join(map(_name, cases[:5]))
            more = " and more" if len(cases) > 5 else ""
            noun = told if len(cases) > 1 else told.replace("are", "is")
            notes.append(f"{len(cases)} case{'s'[: len(cases) - 1]} of {noun}: {some}{more}")
    notes += rounds.advice(decisions)
    tracked = {m.case for m in head.measurements if m.metric == "tracked_value"}
    if tracked:
        notes.append(f"{len(tracked)} tracked values are not compared: more may be better or worse")
    for name, run in (("base", base), ("head", head)):
        notes += [f"{name}: {problem}" for problem in run.problems]
    return Comparison(
        corrected(decisions),
        [*machines.differences(*environments), *machines.moved(head.facts, base.facts)],
        settings.differences(*environments),
        notes,
        standing.neither(base, head),
        _unfinished(base=base, head=head),
    )


def _name(case: Case) -> str:
    return f"{case.suite}/{case.model if foreign.measured(case) else case.key}"


def _unfinished(**runs: Run) -> str:
    """Why nothing can be said of cases that are in neither run: one was stopped before its end."""
    stopped = [
        name
        for name, run in runs.items()
        if "started" in run.environment
        and ("ended" not in run.environment or run.environment.get("unreached"))
    ]
    return f"{' and '.join(stopped)} was stopped before its end" if stopped else ""


def corrected(decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions, after a correction for how many times were compared (Holm, over all that have
    an interval, slower and faster each): a change that chance may explain is inconclusive. There is
    no second stage here that would measure it again."""
    tested = {str(n): d.p for n, d in enumerate(decisions) if d.p is not None and d.low is not None}
    held = {
        REGRESSED: gate.holm(tested),
        IMPROVED: gate.holm({name: 1 - p for name, p in tested.items()}),
    }
    chance = f"among {len(tested)} times that were compared it may be chance (Holm)"
    return [
        replace(d, verdict=INCONCLUSIVE, reason=f"{d.reason}; {chance}")
        if str(n) in tested and str(n) not in held.get(d.verdict, tested)
        else d
        for n, d in enumerate(decisions)
    ]


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
        verdict = _by_amount(metric, base, head, threshold)
    else:
        verdict = gate.verdict(found, threshold)
    reason = f"{len(base)} and {len(head)} processes"
    bounds = (None, None) if bytes_ or found.pairs < 2 else (found.low, found.high)
    return Decision(case, metric, verdict, told, threshold=threshold, ratio=found.ratio,
                    low=bounds[0], high=bounds[1], p=None if bytes_ else found.p,
                    reason=reason)  # fmt: skip


def _by_amount(metric: str, base: Sequence[float], head: Sequence[float], threshold: float) -> str:
    """The verdict on bytes: by their medians, of peaks at least 1 MiB apart."""
    before, now = (float(np.median(values)) for values in (base, head))
    return gate.by_amount([before], [now], threshold, least=2**20 if "peak" in metric else 0)


def _without_ratio(
    case: Case, metric: str, base: Sequence[float], head: Sequence[float], threshold: float,
    *, told: str,
) -> Decision:  # fmt: skip
    """On medians of which one is 0, so that nothing can be divided: bytes are compared by their
    amount all the same."""
    unit = METRICS[metric][0]
    before, now = (display.quantity(float(np.median(values)), unit) for values in (base, head))
    bytes_ = metric.endswith("_bytes")
    verdict = _by_amount(metric, base, head, threshold) if bytes_ else INCONCLUSIVE
    reason = f"{before} to {now}" + ("" if bytes_ else ", and nothing can be divided by 0")
    return Decision(case, metric, verdict, told, threshold, reason=reason)


# --------------------------------------------------------------------------------------------------


def _timed(base: Run, head: Run, policy: Policy) -> Iterable[Decision]:
    before, now = (_medians(run.measurements) for run in (base, head))
    fine = [{o.case for o in run.outcomes if o.status == "ok"} for run in (base, head)]
    right = fine[0] & fine[1]  # what is not right has no speed, and is nobody's baseline
    retimed = foreign.retimed(base, head)
    for (case, metric), known in before.items():
        threshold = policy.threshold(case, COMPARED[metric])
        if threshold is None or case not in right:
            continue
        values = now.get((case, metric))
        if values is None:
            reason = "measured in base, but not in head"
            yield Decision(case, metric, INCONCLUSIVE, base.run_id, threshold, reason=reason)
        elif case in retimed:
            reason = f"timed in another way: {retimed[case]}"
            yield Decision(case, metric, INCONCLUSIVE, base.run_id, threshold, reason=reason)
        elif min(*known, *values) > 0:
            sides = (known, values) if metric not in HIGHER_IS_BETTER else (values, known)
            made = decide(case, metric, *sides, threshold, told=base.run_id)
            alone = made.verdict == INCONCLUSIVE and min(len(known), len(values)) < 2
            told = rounds.statement(base, head, case, metric) if alone else made.reason
            yield replace(made, reason=told)
        else:
            yield _without_ratio(case, metric, known, values, threshold, told=base.run_id)


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
