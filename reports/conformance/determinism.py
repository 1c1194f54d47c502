"""Determinism: whether a program gives the same bits again, and how far off it is where not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reports import badges
from reports.badges import Badge
from reports.conformance.attempts import (
    NOT_RUN,
    Attempt,
    adapters_of,
    attempts,
    columns,
    grouped,
    of,
)
from reports.data import RunData
from reports.exhibits import Cell, Row, Table, Topic
from results import display
from results.records import Agreement

#: What is done differently, as `numerics.determinism` names it.
VARIANTS = {
    "again": "the same process, a second time",
    "process": "another process",
    "threads": "another number of threads",
    "position": "the examples in another order",
    "neighbours": "one example beside others",
}
_LONGEST = 300  # characters of a reason
#: Those that have to be bitwise equal for a program to be called deterministic.
_SAME = ("again", "process")
_NOTE = (
    "The same seed, run again. A program is deterministic where the same process and another one "
    "give the same bits. Other threads, another order and other neighbours may change the order of "
    "sums; there the ratio to the noise floor says how much that is."
)


def determinism(data: RunData) -> Topic | None:
    found = attempts(data, lambda view: view.case.suite == "determinism")
    if not found:
        return None
    adapters = adapters_of(found)
    rows: list[Row] = []
    for names, mine in grouped(found, _subject).items():
        model, mode, *place = names
        title = f"{model}, {mode}"
        rows.append(Row(title, "", detail=", ".join(map(str, place)), heading=True))
        rows.append(Row("Verdict", "", tuple(_verdict(of(a, mine)) for a in adapters)))
        for variant in _variants(mine):
            cells = tuple(_cell(of(adapter, mine), variant) for adapter in adapters)
            rows.append(Row(variant, "", cells, detail=VARIANTS.get(variant, "")))
    head = columns("What is done again", adapters)
    table = Table("Determinism, by model and mode", head, tuple(rows), matrix=True)
    return Topic("determinism", "Determinism", _NOTE, (table,))


def _subject(view: Any) -> tuple[str, ...]:
    case = view.case
    return case.model, case.mode, case.size, case.device, case.precision, f"batch {case.batch}"


def _variants(found: Iterable[Attempt]) -> list[str]:
    """Those that occur, known ones first."""
    there = [row.tensor for attempt in found for row in _repeats(attempt)]
    known = [name for name in VARIANTS if name in there]
    return [*known, *sorted(set(there) - set(known))]


def _repeats(attempt: Attempt) -> list[Agreement]:
    return [row for row in attempt.rows if row.quantity == "repeat"]


def _verdict(found: list[Attempt]) -> Cell:
    if not found:
        return NOT_RUN
    view = found[0].view
    if view.status != "ok":
        reason = display.visible(display.shorten(view.reason, 120))
        return Cell(badge=view.badge, anchor=view.anchor, hint=reason)
    same = _deterministic(found[0])
    if same is None:
        return Cell(badge=badges.badge("ok", ""), anchor=view.anchor)
    badge = (
        Badge("deterministic", "=", "good") if same else Badge("NONDETERMINISTIC", "≠", "bad")
    )  # fmt: skip
    return Cell(badge=badge, anchor=view.anchor)


def _deterministic(attempt: Attempt) -> bool | None:
    """As the comparisons say, which nobody can contradict; None where there is none."""
    rows = [row for row in _repeats(attempt) if row.tensor in _SAME]
    return all(row.verdict == "bitwise" for row in rows) if rows else None


def _cell(found: list[Attempt], variant: str) -> Cell:
    rows = [row for attempt in found for row in _repeats(attempt) if row.tensor == variant]
    if not rows:
        return Cell(display.NONE)
    row = rows[0]
    badge = badges.badge("ok", row.verdict)
    if row.verdict == "bitwise":
        return Cell(badge=badge)
    close = display.error(row.error)
    if row.ratio is not None:
        close = f"{display.ratio(row.ratio)} floor"
    reason = display.shorten(row.reason, _LONGEST)
    return Cell(badge=badge, small=(close,), more=(reason,) if reason else ())
