"""Sections with figures: throughput and memory, cold start, native controls."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports import figures
from reports.data import RunData
from reports.entries import EMPTY, Entry, Group, cell, groups, range_cell, relative, row
from reports.exhibits import Cell, Column, Exhibit, Panel, Row, Table
from reports.figures import Bar, Series
from results import display

#: (metric, what a column or legend calls it)
Metrics = Sequence[tuple[str, str]]

_SPEED = (("throughput", "throughput"), ("step_time", "step time"))
_MEMORY = (
    ("host_peak_bytes", "steady steps"),
    ("compile_peak_bytes", "build and first call"),
    ("device_peak_bytes", "on the device"),
)
_COLD = (("import_time", "import"), ("build_time", "build"), ("first_call_time", "first call"))

_INTERVAL = Column("Interval", True, "covers the true median with a probability of at least 95%")


def throughput_and_memory(data: RunData) -> list[Panel]:
    """One panel per model and mode that was measured."""
    panels = []
    for group in groups(data):
        exhibits = [
            make(data, group)
            for make, metrics in ((_speed, _SPEED), (_memory, _MEMORY))
            if group.having(_names(metrics))
        ]
        if exhibits:
            panels.append(_panel(data, group, "speed", exhibits))
    return panels


def cold_start(data: RunData) -> list[Panel]:
    """One panel per model and mode whose start was measured. A start does not depend on the
    suite: where several measured it, the one with the most adapters is shown."""
    found: dict[tuple[str, ...], Group] = {}
    for group in groups(data):
        same = group.names[1:]  # all but the suite
        shown = found.get(same)
        adapters = len(group.having(_names(_COLD)))
        if adapters and (shown is None or adapters > len(shown.having(_names(_COLD)))):
            found[same] = group
    return [_panel(data, g, "cold-start", [_cold(data, g)]) for g in found.values()]


def native_controls(data: RunData) -> Table | None:
    """Step time through Assay over that of the framework's own idiom; None if not measured."""
    metric = "control_ratio"
    rows = [
        row(
            entry,
            [metric],
            [cell(entry, metric), range_cell(entry, metric)],
            name=entry.view.case.key,
        )
        for group in groups(data)
        for entry in group.having([metric])
    ]
    columns = (Column("Case"), Column("Ratio", True, "above 1: Assay is slower"), _INTERVAL)
    caption = "Step time over that of the native control, measured in alternating rounds"
    return _table(caption, columns, rows) if rows else None


def _speed(data: RunData, group: Group) -> Exhibit:
    base = group.baseline("throughput")
    columns = [
        Column("Adapter"),
        Column("Examples/s", True, "throughput, median"),
        _INTERVAL,
        *_versus(base, "throughput; above 1 is faster"),
        Column("Step time", True, "median"),
    ]
    rows = [
        row(
            entry,
            _names(_SPEED),
            [
                cell(entry, "throughput"),
                range_cell(entry, "throughput"),
                *([relative(entry, base, "throughput")] if base else []),
                cell(entry, "step_time"),
            ],
        )
        for entry in group.entries
    ]
    title = f"Throughput, {group.title}"
    chart = _chart(data, group, _SPEED[:1], unit="1/s", axis="examples per second", title=title)
    return Exhibit(_table(title, columns, rows), chart if base else None)


def _memory(data: RunData, group: Group) -> Exhibit:
    present = [pair for pair in _MEMORY if group.having([pair[0]])]
    first, first_name = present[0]
    base = group.baseline(first)
    columns = [Column("Adapter"), *(Column(name.capitalize(), True) for _, name in present)]
    columns += _versus(base, f"{first_name}; above 1 takes more")
    rows = [
        row(
            entry,
            _names(present),
            [*(cell(entry, m) for m in _names(present)), relative(entry, base, first)],
        )
        for entry in group.entries
    ]
    title = f"Peak memory, {group.title}"
    chart = _chart(data, group, present, unit="B", axis="peak memory", title=title)
    return Exhibit(_table(title, columns, rows), chart)


def _cold(data: RunData, group: Group) -> Exhibit:
    columns = [Column("Adapter"), *(Column(name.capitalize(), True) for _, name in _COLD)]
    columns.append(Column("Total", True, "until the first result, in a new process"))
    rows = [
        row(entry, _names(_COLD), [*(cell(entry, m) for m in _names(_COLD)), _total(entry)])
        for entry in group.entries
    ]
    title = f"Time until the first result, {group.title}"
    axis = "time in a new process"
    chart = _chart(data, group, _COLD, unit="s", axis=axis, title=title, stacked=True)
    return Exhibit(_table(title, columns, rows), chart)


def _chart(
    data: RunData,
    group: Group,
    metrics: Metrics,
    *,
    unit: str,
    axis: str,
    title: str,
    stacked: bool = False,
) -> figures.Chart:
    """One bar per adapter that has any of the metrics, one series per metric."""
    drawn = group.having(_names(metrics))
    return figures.bars(
        data.anchors.take("chart", metrics[0][0], *group.names),
        label=f"Bar chart. {title}. The table beside it holds the same numbers.",
        unit=unit,
        axis=axis,
        names=[entry.adapter for entry in drawn],
        series=[
            Series(name, tuple(_bar(entry, metric, name) for entry in drawn))
            for metric, name in metrics
        ],
        flagged=[bool(entry.flags(_names(metrics))) for entry in drawn],
        stacked=stacked,
    )


def _bar(entry: Entry, metric: str, name: str) -> Bar | None:
    found = entry.get(metric)
    if found is None:
        return None
    return Bar(found.value, found.low, found.high, f"{name}: {found.cell.text}")


def _panel(data: RunData, group: Group, what: str, exhibits: Sequence[Exhibit]) -> Panel:
    anchor = data.anchors.take(what, *group.names)
    return Panel(group.title, group.detail, anchor, tuple(exhibits))


def _table(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    return Table(caption, tuple(columns), tuple(rows))


def _versus(base: Entry | None, hint: str) -> list[Column]:
    name = f"vs {display.shorten(base.adapter, 20)}" if base else ""
    return [Column(name, True, hint)] if base else []


def _total(entry: Entry) -> Cell:
    parts = [found.value for metric in _names(_COLD) if (found := entry.get(metric))]
    return Cell(display.quantity(math.fsum(parts), "s")) if len(parts) == len(_COLD) else EMPTY


def _names(metrics: Metrics) -> list[str]:
    return [metric for metric, _ in metrics]
