"""What every section with figures uses: a table and the bar chart that shows the same."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts import figures
from reports.charts.figures import Bar, Series
from reports.data import RunData
from reports.entries import Entry, Group
from reports.exhibits import Chart, Column, Exhibit, Panel, Row, Table
from results import display

#: (metric, what a column or legend calls it)
Metrics = Sequence[tuple[str, str]]

INTERVAL = Column("Interval", True, "covers the true value with a probability of at least 95%")


def names(metrics: Metrics) -> list[str]:
    return [metric for metric, _ in metrics]


def present(group: Group, metrics: Metrics) -> list[tuple[str, str]]:
    """Those of the metrics that any member of the group has."""
    return [pair for pair in metrics if group.having([pair[0]])]


def panel(data: RunData, group: Group, what: str, exhibits: Sequence[Exhibit]) -> Panel:
    anchor = data.anchors.take(what, *group.names)
    return Panel(group.title, group.detail, anchor, tuple(exhibits))


def table(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    return Table(caption, tuple(columns), tuple(rows))


def versus(base: Entry | None, hint: str) -> list[Column]:
    name = f"vs {display.shorten(base.adapter, 20)}" if base else ""
    return [Column(name, True, hint)] if base else []


def chart(
    data: RunData,
    group: Group,
    metrics: Metrics,
    *,
    unit: str,
    axis: str,
    title: str,
) -> Chart:
    """One bar per adapter that has any of the metrics, one series per metric."""
    drawn = group.having(names(metrics))
    series = [
        Series(name, tuple(_bar(entry, metric, name) for entry in drawn))
        for metric, name in metrics
    ]
    what = (metrics[0][0], *group.names)
    return bars(data, what, drawn, series, names(metrics), unit=unit, axis=axis, title=title)


def bars(
    data: RunData,
    what: Sequence[str],
    drawn: Sequence[Entry],
    series: Sequence[Series],
    metrics: Sequence[str],
    *,
    unit: str,
    axis: str,
    title: str,
    stacked: bool = False,
) -> Chart:
    """The series of `drawn` entries; who has a flag on any of the metrics is marked."""
    return figures.bars(
        data.anchors.take("chart", *what),
        label=f"Bar chart. {title}. The table beside it holds the same numbers.",
        unit=unit,
        axis=axis,
        names=[entry.adapter for entry in drawn],
        series=series,
        flagged=[bool(entry.flags(metrics)) for entry in drawn],
        stacked=stacked,
    )


def _bar(entry: Entry, metric: str, name: str) -> Bar | None:
    found = entry.get(metric)
    if found is None:
        return None
    flags = f" ⚑ {', '.join(found.flags)}" if found.flags else ""
    return Bar(found.value, found.low, found.high, f"{name}: {found.cell.text}{flags}")
