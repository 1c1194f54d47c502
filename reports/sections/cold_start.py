"""The section on cold start: from a new process to the first result, and when that pays off."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.charts.figures import Bar, Series
from reports.charts.panels import bars, names, panel, present, table
from reports.data import BASELINE, RunData
from reports.entries import EMPTY, Entry, Group, cell, row
from reports.exhibits import Cell, Column, Exhibit, Panel
from reports.sections.performance import steady
from results import display

_START = (("import_time", "import"), ("build_time", "build"), ("first_call_time", "first call"))
_COMPILING = (("trace_time", "trace"), ("compile_time", "compile"))
_HINTS = {
    "trace": "the part of the first call that turns the program into a graph",
    "compile": "the part of the first call that turns the graph into code",
    "rest": "what tracing and compiling leave of the first call",
}
_WARM = "first_call_time_warm_cache"
_BREAK_EVEN = "break_even_steps"
_LATER = (
    (_WARM, Column("Warm cache", True, "the first call in a new process, with a filled cache")),
    (
        _BREAK_EVEN,
        Column(
            f"Ahead of {BASELINE}",
            True,
            "after so many steps the time that compiling took is earned back",
        ),
    ),
)


@dataclass(frozen=True)
class _Part:
    """A stack's part in seconds, and the metrics that it is made of."""

    seconds: float
    metrics: tuple[str, ...]


def cold_start(data: RunData) -> list[Panel]:
    """One panel per model and mode whose start was measured. A start does not depend on the
    suite: where several measured it, the one with the most adapters is shown."""
    found: dict[tuple[str, ...], Group] = {}
    for group in steady(data):
        same = group.names[1:]  # all but the suite
        shown = found.get(same)
        adapters = len(group.having(names(_START)))
        if adapters and (shown is None or adapters > len(shown.having(names(_START)))):
            found[same] = group
    return [panel(data, g, "cold-start", [_cold(data, g)]) for g in found.values()]


def _cold(data: RunData, group: Group) -> Exhibit:
    compiling = present(group, _COMPILING)
    later = [(metric, column) for metric, column in _LATER if group.having([metric])]
    parts = [*_START[:2], *compiling, ("", "rest" if compiling else "first call")]
    shown = [*names(_START), *names(compiling), *(metric for metric, _ in later)]
    columns = [
        Column("Adapter"),
        *(Column(name.capitalize(), True, _HINTS.get(name, "")) for _, name in parts),
        Column("Total", True, "until the first result, in a new process"),
        *(column for _, column in later),
    ]
    rows = [
        row(
            entry,
            shown,
            [
                *(_cell(entry, _part(entry, metric)) for metric, _ in parts),
                _cell(entry, _total(entry)),
                *(_later(entry, metric) for metric, _ in later),
            ],
        )
        for entry in group.entries
    ]
    drawn = group.having(names(_START))
    series = [Series(name, tuple(_bar(e, metric, name) for e in drawn)) for metric, name in parts]
    title = f"Time until the first result, {group.title}"
    chart = bars(
        data,
        ("start", *group.names),
        drawn,
        series,
        [*names(_START), *names(compiling)],
        unit="s",
        axis="time in a new process",
        title=title,
        stacked=True,
    )
    return Exhibit(table(title, columns, rows), chart)


def _part(entry: Entry, metric: str) -> _Part | None:
    """The time of a metric; of "", what tracing and compiling leave of the first call."""
    if metric:
        found = entry.get(metric)
        return _Part(found.value, (metric,)) if found else None
    first = entry.get("first_call_time")
    if first is None:
        return None
    inside = [found.value for name in names(_COMPILING) if (found := entry.get(name))]
    rest = max(0.0, first.value - math.fsum(inside))  # medians of parts may exceed the whole
    return _Part(rest, ("first_call_time", *names(_COMPILING)))


def _total(entry: Entry) -> _Part | None:
    parts = [found.value for metric in names(_START) if (found := entry.get(metric))]
    return _Part(math.fsum(parts), tuple(names(_START))) if len(parts) == len(_START) else None


def _cell(entry: Entry, part: _Part | None) -> Cell:
    if part is None:
        return EMPTY
    if len(part.metrics) == 1:
        return cell(entry, part.metrics[0])
    return Cell(display.quantity(part.seconds, "s"), flags=entry.flags(part.metrics))


def _later(entry: Entry, metric: str) -> Cell:
    """A figure; where no step count can be named, the reason in its place."""
    found = entry.get(metric)
    if found and math.isnan(found.value):
        return Cell("undecided", found.note, found.flags)
    return cell(entry, metric)


def _bar(entry: Entry, metric: str, name: str) -> Bar | None:
    part = _part(entry, metric)
    if part is None:
        return None
    shown = display.quantity(part.seconds, "s")
    return Bar(part.seconds, math.nan, math.nan, f"{name}: {shown}")
