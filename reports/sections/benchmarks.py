"""The section on what other tools measured: a benchmark per row, and nothing that was judged."""

from __future__ import annotations

from reports.data import RunData
from reports.entries import Entry, Figure, all_groups
from reports.exhibits import Cell, Column, Exhibit, Panel, Row, Table
from results import display, foreign

#: metric -> heading, in the order of the columns
_COLUMNS = {
    "step_time": "Time",
    "cpu_time": "Processor time",
    "items_per_second": "Items/s",
    "bytes_per_second": "Bytes/s",
    "process_peak_bytes": "Peak of the process",
    "object_bytes": "Size",
    "tracked_value": "Value",
}


def benchmarks(data: RunData) -> list[Panel]:
    """One panel; none where the run is Assay's own."""
    made = table(data)
    tool = data.cases[0].case.suite if data.cases else ""
    return [Panel(tool, "", data.anchors.take(tool), (Exhibit(made),))] if made else []


def table(data: RunData) -> Table | None:
    """Every benchmark of another tool with its figures; None where there is none."""
    entries = [
        entry
        for group in all_groups(data)
        for entry in group.entries
        if foreign.measured(entry.view.case)
    ]
    if not entries:
        return None
    metrics = [name for name in _COLUMNS if any(entry.has([name]) for entry in entries)]
    columns = (Column("Benchmark"), *(Column(_COLUMNS[name], True) for name in metrics))
    return Table("Medians, with their intervals", columns, tuple(_row(e, metrics) for e in entries))


def _row(entry: Entry, metrics: list[str]) -> Row:
    view = entry.view
    name = display.shorten(view.case.model, 160)
    if not entry.has(metrics):
        return Row(name, view.anchor, badge=view.badge, why=display.shorten(view.reason, 200))
    figures = [entry.get(metric) for metric in metrics]
    return Row(name, view.anchor, tuple(map(_cell, figures)), entry.flags(metrics))


def _cell(figure: Figure | None) -> Cell:
    if figure is None:
        return Cell(display.NONE)
    interval = figure.range.text
    below = (interval,) if interval != display.NONE else ()
    return Cell(figure.cell.text, figure.hint, figure.flags, small=below, value=figure.value)
