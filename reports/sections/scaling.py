"""The section on scaling: how figures change with the batch, the threads or the length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from reports.charts.lines import Line, Point, lines
from reports.charts.panels import table
from reports.data import RunData
from reports.entries import Entry, Group, all_groups
from reports.exhibits import Cell, Column, Exhibit, Panel, Row
from results import display
from results.records import Case

#: suite -> (field of the case, what the axis says)
SWEEPS = {
    "sweep_batch": ("batch", "batch size"),
    "sweep_threads": ("threads", "threads"),
    "sweep_length": ("length", "length of the sequence"),
}
_CURVES = (
    ("throughput", "1/s", "Throughput", "examples per second"),
    ("host_peak_bytes", "B", "Peak memory", "peak memory"),
)


def scaling(data: RunData) -> list[Panel]:
    """One panel per model, mode and kind of sweep in which something was published."""
    swept: dict[tuple[object, ...], list[Group]] = {}
    for group in all_groups(data):
        case = group.case
        if case.suite in SWEEPS:
            name, _ = SWEEPS[case.suite]
            fixed = tuple(x for field, x in vars(case).items() if field not in ("adapter", name))
            swept.setdefault(fixed, []).append(group)
    panels = [_panel(data, groups) for groups in swept.values()]
    return [panel for panel in panels if panel.exhibits]


def _panel(data: RunData, groups: Sequence[Group]) -> Panel:
    first = groups[0]
    name, axis = SWEEPS[first.case.suite]
    by_adapter: dict[str, dict[int, Entry]] = {}
    for entry in (entry for group in groups for entry in group.entries):
        point = _point(data, entry.view.case, name)
        by_adapter.setdefault(entry.adapter, {})[point] = entry
    order = [adapter for adapter in data.adapters if adapter in by_adapter]
    curves = {adapter: by_adapter[adapter] for adapter in order}
    title = f"{first.title}, over {axis}"
    batch = "" if name == "batch" else f"batch {first.case.batch}"
    case = first.case
    where = (case.size, case.device, batch, case.recipe)
    return Panel(
        title=title,
        detail=", ".join(display.shorten(part, 60) for part in where if part),
        anchor=data.anchors.take("scaling", *first.names),
        exhibits=tuple(
            _exhibit(data, curves, metric, unit, f"{what}, {title}", (y, axis))
            for metric, unit, what, y in _CURVES
            if any(entry.get(metric) for points in curves.values() for entry in points.values())
        ),
    )


def _point(data: RunData, case: Case, name: str) -> int:
    """Where a case lies on the axis. Threads that are the run's are read from its environment;
    0 stands for what is not known."""
    value: int = getattr(case, name)
    usual = data.run.environment.get("threads")
    if value or name != "threads" or isinstance(usual, bool) or not isinstance(usual, int):
        return value
    return max(usual, 0)


def _exhibit(
    data: RunData,
    curves: dict[str, dict[int, Entry]],
    metric: str,
    unit: str,
    title: str,
    axes: tuple[str, str],
) -> Exhibit:
    xs = sorted({x for points in curves.values() for x in points})
    columns = [Column("Adapter"), *(Column(f"{x}" if x else "usual", True, axes[1]) for x in xs)]
    drawn = [adapter for adapter, points in curves.items() if not _unsupported(points.values())]
    rows = []
    for adapter, points in curves.items():
        entries = list(points.values())
        if adapter not in drawn:
            rows.append(Row(adapter, entries[0].view.anchor, badge=entries[0].view.badge))
            continue
        flags = {flag for entry in entries for flag in entry.flags([metric])}
        cells = tuple(_cell(points.get(x), metric) for x in xs)
        rows.append(Row(adapter, entries[0].view.anchor, cells, tuple(sorted(flags))))
    first = next(iter(next(iter(curves.values())).values())).view.case
    chart = lines(
        data.anchors.take("chart", metric, first.suite, first.key),
        label=f"Line chart. {title}. The table beside it holds the same numbers.",
        unit=unit,
        axis=axes[0],
        x_axis=axes[1],
        drawn=[_line(data, adapter, curves[adapter], metric) for adapter in drawn],
    )
    return Exhibit(table(title, columns, rows), chart)


def _unsupported(entries: Iterable[Entry]) -> bool:
    """Whether an adapter cannot run any point: one line says so, and a curve would say nothing."""
    return {entry.view.status for entry in entries} == {"unsupported"}


def _cell(entry: Entry | None, metric: str) -> Cell:
    """The figure at a point, or how the case ended."""
    if entry is None:
        return Cell("not run")
    found = entry.get(metric)
    if found is None:
        badge = None if entry.view.published else entry.view.badge
        return Cell("not measured", badge=badge, anchor=entry.view.anchor)
    hint = f"{found.range.text}; {found.hint}"
    return Cell(found.cell.text, hint, found.flags, anchor=entry.view.anchor)


def _line(data: RunData, adapter: str, points: dict[int, Entry], metric: str) -> Line:
    """The points whose place on the axis is known."""
    known = [_drawn(adapter, x, points[x], metric) for x in sorted(points) if x]
    return Line(adapter, tuple(known), style=data.adapters.index(adapter))


def _drawn(adapter: str, x: int, entry: Entry, metric: str) -> Point:
    found = entry.get(metric)
    if found is None:
        how = "not measured" if entry.view.published else entry.view.badge.text
        return Point(x, math.nan, math.nan, math.nan, f"{adapter} at {x}: {how}")
    flags = f" ⚑ {', '.join(found.flags)}" if found.flags else ""
    text = f"{adapter} at {x}: {found.cell.text}{flags}"
    return Point(x, found.value, found.low, found.high, text, bool(found.flags))
