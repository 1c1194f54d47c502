"""Published statements that were put to the test, and known deviations: what a reader may cite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.badges import Badge
from reports.exhibits import Cell, Column, Row, Table
from results import display
from results.records import Agreement, Case, Claim
from results.store import Run

BADGES = {
    "holds": Badge("holds", "✓", "good"),
    "does not hold": Badge("does not hold", "✗", "bad"),
    "not testable here": Badge("not testable here", "–", "mute"),
}


def claims(runs: Sequence[Run]) -> Table | None:
    """A row per claim: what was said, where, and what was measured. None where none was tested."""
    rows = [_claim(found) for run in runs for found in run.claims]
    columns = (
        Column("Statement"), Column("Verdict", facet="verdict"), Column("Measured", True),
        Column("Interval", True), Column("What was measured"), Column("Source", facet="source"),
        Column("Remark"),
    )  # fmt: skip
    caption = "Published statements, each with what this suite measured"
    return Table(caption, columns, tuple(rows), search=True) if rows else None


def _claim(found: Claim) -> Row:
    value, low, high = found.value, found.low, found.high
    measured = found.measured or display.NONE
    if value is not None:
        measured = display.quantity(value, found.unit)
    interval = display.NONE
    if low is not None and high is not None:
        interval = display.interval(low, high, found.unit)
    cases = f" Measured on {', '.join(found.cases)}." if found.cases else ""
    return Row(
        display.shorten(found.statement, 300), "",
        (
            Cell(badge=BADGES[found.verdict]), Cell(measured, value=value), Cell(interval),
            Cell(display.shorten(found.asked, 300)), Cell(display.shorten(found.source, 120)),
            Cell(display.shorten(f"{found.reason}{cases}".strip(), 400) or display.NONE),
        ),
        detail=display.shorten(found.claim, 80),
    )  # fmt: skip


def deviations(runs: Sequence[Run], anchor: Callable[[Run, Case], str]) -> Table | None:
    """A row per adapter and reason for which it deviates; None where nobody does."""
    found: dict[tuple[str, str, str], list[tuple[Run, Agreement]]] = {}
    for run in runs:
        for row in run.agreements:
            if row.verdict == "deviation":
                key = row.case.adapter, row.case.model, row.reason
                found.setdefault(key, []).append((run, row))
    columns = (
        Column("Adapter", facet="adapter"), Column("Of"), Column("Reason"),
        Column("Precisions"), Column("Comparisons", True), Column("Largest error", True),
    )  # fmt: skip
    rows = tuple(
        Row(adapter, anchor(rows[0][0], rows[0][1].case), (
            Cell(display.shorten(subject, 40)), Cell(display.shorten(reason, 400) or display.NONE),
            Cell(", ".join(sorted({row.case.precision for _, row in rows}))),
            Cell(str(len(rows)), value=len(rows)), _largest([row for _, row in rows]),
        ))
        for (adapter, subject, reason), rows in sorted(found.items())
    )  # fmt: skip
    caption = "Known deviations: something else than specified is computed, for a reason"
    return Table(caption, columns, rows) if rows else None


def _largest(rows: Sequence[Agreement]) -> Cell:
    worst = max(row.error for row in rows)
    return Cell(display.error(worst), value=worst)
