"""Verdicts of the same cases on several machines, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.data import CaseView
from reports.exhibits import Cell, Column, Row, Table
from results import display

_SHOWN = ("bad", "warn")  # tones of badges: what is wrong, a known deviation, or not decided


def machines(views: Mapping[str, Sequence[CaseView]]) -> Table | None:
    """A column per machine and a row for every case that at least two of them ran and that is not
    right, or known to deviate, on one of them. `views` are those of the newest run by the
    machine's name. None where there is one machine, or no such case."""
    by_case = {
        machine: {(v.case.suite, v.case.key): v for v in own} for machine, own in views.items()
    }
    cases = sorted({case for own in by_case.values() for case in own})
    rows = []
    for case in cases:
        seen = {machine: own.get(case) for machine, own in by_case.items()}
        there = [view for view in seen.values() if view is not None]
        if len(there) > 1 and any(view.badge.tone in _SHOWN for view in there):
            name = display.shorten(f"{case[0]}: {case[1]}", 120)
            rows.append(Row(name, "", tuple(map(_cell, seen.values()))))
    columns = (Column("Case"), *(Column(display.shorten(name, 120)) for name in by_case))
    told = f"{len(rows):,} cases with something to say about a machine"
    return Table(told, columns, tuple(rows), matrix=True) if rows else None


def _cell(view: CaseView | None) -> Cell:
    if view is None:
        return Cell("not run")
    small = (display.shorten(view.worst, 60),) if view.worst else ()
    hint = display.shorten(view.reason, 200)
    return Cell(badge=view.badge, anchor=view.anchor, hint=hint, small=small)
