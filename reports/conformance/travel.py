"""Weights travel: whether what one framework trained arrives in another, and goes on there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reports import badges
from reports.conformance.attempts import (
    NOT_RUN,
    Attempt,
    adapters_of,
    attempts,
    columns,
    grouped,
    of,
)
from reports.data import BASELINE, RunData
from reports.exhibits import Cell, Row, Table, Topic
from results import display, frame
from results.records import Agreement

_OWN = "own format"
_FROM = "from "
_NOTE = (
    "A row is a framework that takes over a checkpoint, and a column the one that trained and "
    "saved it. In training, parameters, buffers, averages and all that the optimizer keeps have to "
    "arrive with every bit, and training has to go on as it would have where it came from. In "
    "inference the output has to be the one that NumPy gives. “Own format” is the framework's own "
    "checkpoint, saved and read back."
)
_LONGEST = 300  # characters of a reason


def travel(data: RunData) -> Topic | None:
    found = attempts(data, lambda view: view.case.suite == "travel")
    if not found:
        return None
    sources = _sources(found)
    rows: list[Row] = []
    for names, mine in grouped(found, _subject).items():
        model, mode, recipe, *place = names
        title = ", ".join(part for part in (model, mode, recipe) if part)
        rows.append(Row(title, "", detail=", ".join(map(str, place)), heading=True))
        for adapter in adapters_of(mine):
            there = of(adapter, mine)
            cells = tuple(_cell(there, source) for source in sources)
            rows.append(Row(adapter, there[0].view.anchor, cells))
    head = columns("To", [source if source == _OWN else f"{_FROM}{source}" for source in sources])
    table = Table("Weights travel, destination by source", head, tuple(rows), matrix=True)
    return Topic("travel", "Weights travel", _NOTE, (table,))


def _subject(view: Any) -> tuple[str, ...]:
    case = view.case
    place = (case.size, case.device, case.precision, f"batch {case.batch}")
    return case.model, case.mode, case.recipe, *place


def _sources(found: Iterable[Attempt]) -> list[str]:
    """The frameworks that something came from, then the own format."""
    tensors = {row.tensor for attempt in found for row in attempt.rows}
    named = [tensor.removeprefix(_FROM) for tensor in tensors if tensor.startswith(_FROM)]
    return [*display.table_order(named, BASELINE), *([_OWN] if _OWN in tensors else [])]


def _cell(found: list[Attempt], source: str) -> Cell:
    """The worst verdict on what came from a source, and what each part of it says."""
    tensor = source if source == _OWN else f"{_FROM}{source}"
    rows = [row for attempt in found for row in attempt.rows if row.tensor == tensor]
    if not rows:
        return _nothing(found[0], source)
    worst = max(rows, key=_gravity)
    reasons = [f"{row.quantity}: {row.reason}" for row in rows if row.reason]
    return Cell(
        badge=badges.badge("ok", worst.verdict),
        small=tuple(_part(row) for row in rows),
        more=tuple(display.shorten(reason, _LONGEST) for reason in reasons),
        anchor=found[0].view.anchor if reasons else "",
    )


def _gravity(row: Agreement) -> tuple[int, float]:
    """Of those that agree the one with the largest error: a state may arrive with every bit, and
    training then differ by rounding."""
    good = row.verdict in frame.PUBLISHABLE
    return 0 if good else 1 + frame.BADNESS[row.verdict], row.error


def _nothing(attempt: Attempt, source: str) -> Cell:
    """How the case ended, or that this one has nothing to compare there."""
    view = attempt.view
    if view.status == "ok" or attempt.rows:
        return Cell(display.NONE) if source == _OWN else NOT_RUN
    return Cell(badge=view.badge, hint=display.visible(display.shorten(view.reason, 120)))


def _part(row: Agreement) -> str:
    """`state: every bit`, `after 4 steps: 7.60e-14`"""
    if row.verdict == "bitwise":
        return f"{row.quantity}: every bit"
    return f"{row.quantity}: {display.error(row.error)}"
