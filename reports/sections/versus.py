"""One run against an earlier one of the same machine: what changed most comes first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reports.exhibits import Cell, Column, Row, Table
from reports.sections.gate import BADGES, interval, three
from results import describe, display, machines, settings
from results.announce import label
from results.compare import Comparison, compare
from results.gate import VERDICTS
from results.policy import Policy
from results.records import Case, Decision
from results.store import Run

MOST = 20  # earlier runs that the newest of a machine is compared with
_COLUMNS = (
    Column("Case"),
    Column("Adapter", facet="adapter"),
    Column("Model", facet="model"),
    Column("Metric", facet="metric"),
    Column("Verdict", facet="verdict"),
    Column("Ratio", True, "head over base; above 1 is slower or larger"),
    Column("Interval", True, "98%"),
    Column("Threshold", True),
    Column("Why"),
)


@dataclass(frozen=True)
class Versus:
    """`versions` are the libraries that changed from base to head; `counts` how many decisions
    there are by verdict."""

    base: Run
    head: Run
    versions: tuple[str, ...]
    comparison: Comparison
    counts: tuple[tuple[str, int], ...]

    @property
    def notes(self) -> list[str]:
        """What a reader should know before the table."""
        shown = self.comparison
        undecided = [shown.undecided] if shown.undecided else []
        return [*shown.machines, *shown.settings, *undecided, *shown.notes]

    @property
    def title(self) -> str:
        names = (display.shorten(run.run_id, 60) for run in (self.head, self.base))
        return " against ".join(names)


def earlier(runs: Sequence[Run]) -> list[Run]:
    """Whom the last of these runs, oldest first, is compared with, of those that were made with its
    settings: its predecessor, then the newest with each other set of versions, then further ones,
    at most MOST in all."""
    *every, head = runs
    before = [r for r in every if not settings.differences(head.environment, r.environment)]
    seen = {_versions(head)}
    picked = before[-1:]
    seen |= {_versions(run) for run in picked}
    for run in reversed(before):
        if _versions(run) not in seen:
            seen.add(_versions(run))
            picked.append(run)
    picked += [run for run in reversed(before) if run not in picked]
    return picked[:MOST]


def versus(base: Run, head: Run) -> Versus:
    """What became of everything that both runs have, by the usual thresholds."""
    found = compare(base, head, Policy())
    versions = machines.version_changes(_named(head), _named(base))
    counted = tuple((v, sum(d.verdict == v for d in found.decisions)) for v in VERDICTS)
    return Versus(base, head, tuple(versions), found, counted)


def table(found: Versus, anchor: Callable[[Case], str]) -> Table:
    """The largest effect first; what has none behind it, the worst verdict first. `anchor` leads
    to a case of head."""
    ordered = sorted(found.comparison.decisions, key=_effect)
    rows = tuple(_row(decision, anchor(decision.case)) for decision in ordered)
    return Table(f"{found.title}: the largest effect first", _COLUMNS, rows, search=True)


def _effect(decision: Decision) -> tuple[object, ...]:
    size = abs(math.log(decision.ratio)) if decision.ratio else 0.0
    return VERDICTS.index(decision.verdict) > 1, -size, decision.case, decision.metric


def _row(found: Decision, anchor: str) -> Row:
    low, high = (math.nan if x is None else x for x in (found.low, found.high))
    ratio = math.nan if found.ratio is None else found.ratio
    return Row(
        label(found.case), anchor,
        (
            Cell(display.shorten(found.case.adapter, 40)),
            Cell(display.shorten(found.case.model, 40)), Cell(found.metric.replace("_", " ")),
            Cell(badge=BADGES[found.verdict]),
            Cell(three(ratio), value=found.ratio),
            Cell(interval(low, high)),
            Cell(f"{found.threshold:.0%}" if found.threshold else display.NONE),
            Cell(display.shorten(found.reason, 200)),
        ),
    )  # fmt: skip


def _versions(run: Run) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_named(run).items()))


def _named(run: Run) -> Mapping[str, str]:
    """Versions as the workers reported them, else as the parent had them, Python's included."""
    python = describe.text(run.environment.get("python"))
    return ({"Python": python} if python else {}) | describe.versions(run)
