"""Control flow: how often each framework traced, compiled or gave up as values and shapes changed,
and whether the result was right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from reports import badges
from reports.conformance.attempts import (
    NOT_RUN,
    STATES,
    Attempt,
    adapters_of,
    attempts,
    cell,
    columns,
    grouped,
    of,
)
from reports.data import RunData
from reports.exhibits import Cell, Row, Table, Topic
from results import display, frame

_COUNTS = {"traces": "traces", "compilations": "compilations", "graph_breaks": "graph breaks"}
_NOTE = (
    "Each program gets its inputs in turn, from top to bottom. The numbers are traces / "
    "compilations / graph breaks so far; ↑ marks one that this very input made grow: there the "
    "framework had to trace or compile again. – is what a framework does not have or count."
)


def control_flow(data: RunData) -> Topic | None:
    found = attempts(data, lambda view: view.case.suite == "control")
    if not found:
        return None
    adapters = adapters_of(found)
    rows: list[Row] = []
    for (subject, device), mine in grouped(found, _subject).items():
        rows += _rows(subject, device, mine, adapters)
    head = columns("Program and input", adapters)
    table = Table("Control flow, input by input", head, tuple(rows), matrix=True)
    return Topic("control", "Control flow", _NOTE, (table,))


def _subject(view: Any) -> tuple[str, str]:
    return view.case.model, view.case.device


def _rows(
    subject: str, device: str, found: list[Attempt], adapters: Iterable[str]
) -> Iterable[Row]:
    """A heading, a line for adapters without any result, and a line per input."""
    yield Row(subject, "", detail=device, heading=True)
    precisions = list(dict.fromkeys(attempt.precision for attempt in found))
    whole = {a: cell(of(a, found), precisions) for a in adapters}
    without = {a for a in adapters if not any(_inputs([x]) for x in of(a, found))}
    bad = {a for a in adapters if any(x.state != "passed" for x in of(a, found))} | without
    if bad:
        passed = Cell(badge=STATES["passed"])
        yield Row("the whole", "", tuple(whole[a] if a in bad else passed for a in whole))
    before: dict[str, str] = {}
    for name in _inputs(found):
        cells = []
        for adapter in adapters:
            mine = of(adapter, found)
            cells.append(_cell(mine, name, before.get(adapter)) if mine else NOT_RUN)
            before[adapter] = name
        yield Row(name, "", tuple(cells))


def _inputs(found: Iterable[Attempt]) -> list[str]:
    """The inputs in turn: as counted, else as compared."""
    found = list(found)
    names = [name for attempt in found for name in _counts(attempt)]
    names += [
        row.tensor.partition(": ")[0]
        for attempt in found
        for row in attempt.rows
        if attempt.state != "unsupported"
    ]
    return list(dict.fromkeys(names))


def _counts(attempt: Attempt) -> dict[str, Mapping[str, Any]]:
    """Input -> counts; whatever else a record holds there is left out."""
    for facts in attempt.view.facts:
        counts = facts.get("counts")
        if isinstance(counts, Mapping):
            return {
                str(key).partition("/")[2] or str(key): value
                for key, value in counts.items()
                if isinstance(value, Mapping)
            }
    return {}


def _cell(found: list[Attempt], name: str, before: str | None) -> Cell:
    """The worst verdict on the input over all precisions, and the counts: once where those of all
    precisions are the same."""
    judged = [
        row for a in found for row in a.rows if row.tensor.partition(": ")[0] == name
    ]  # fmt: skip
    told: dict[str, list[str]] = {}
    for attempt in found:
        counts = _counts(attempt)
        if name in counts:
            text = _told(counts[name], counts.get(before or ""))
            told.setdefault(text, []).append(display.shorten(attempt.precision, 20))
    small = tuple(
        text if len(told) == 1 else f"{' '.join(where)}: {text}" for text, where in told.items()
    )
    worst = max(judged, key=lambda row: frame.BADNESS[row.verdict], default=None)
    if worst is None:
        there = any(attempt.state != "unsupported" for attempt in found)
        return Cell("not run" if there else "unsupported", small=small)
    badge = badges.badge("ok", worst.verdict)
    if worst.verdict == "identical":
        badge = replace(badge, text="identical")
    return Cell(badge=badge, small=small, hint=display.visible(display.shorten(worst.reason, 120)))


def _told(counts: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """`2↑ / 2↑ / 0`"""
    parts = []
    for key in _COUNTS:
        value = counts.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            parts.append(display.NONE)
            continue
        last = before.get(key) if before is not None else value
        parts.append(f"{value}↑" if isinstance(last, int) and value > last else f"{value}")
    return "no counts" if set(parts) == {display.NONE} else " / ".join(parts)
