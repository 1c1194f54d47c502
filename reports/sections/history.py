"""How figures went over the runs of a page: a chart per series whose level changed, with the
versions that changed with it."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from reports.anchors import Anchors
from reports.charts import lines
from reports.charts.figures import SERIES, chart_json, label_text
from reports.exhibits import Cell, Chart, Column, Exhibit, Panel, Row, Table
from results import display, history
from results.history import Change, Series
from results.metrics import DERIVED, METRICS
from results.store import Run

CHARTS = 20  # of the series that changed most; all of them are in the table
_HEIGHT = 260
_COLUMNS = (
    Column("Case"),
    Column("Metric"),
    Column("Runs", True),
    Column("Now", True, "in the last run"),
    Column("Change", True, "of its level; above 1 is slower or larger"),
    Column("Since", hint="the first run at the new level"),
    Column("What changed with it"),
    Column("Settings", hint="of the runs: those with others are another series"),
)


def panels(runs: Sequence[Run], anchors: Anchors) -> list[Panel]:
    """All changes as a table, then a chart for each of the largest. None where no case is in two
    runs of one machine."""
    return of(history.series(_ordered(runs)), len(runs), anchors)


def of(series: Sequence[Series], runs: int, anchors: Anchors) -> list[Panel]:
    """The same, of the series of so many runs."""
    found = [one for one in series if len(one.points) > 1]
    if not found:
        return []
    changed = sorted((s for s in found if s.changes), key=_largest, reverse=True)
    rows = tuple(_row(one, change) for one in changed for change in one.changes)
    detail = f"{len(found)} series over {runs} runs, {len(changed)} with a change of level"
    first = Table("Changes of level, the largest first", _COLUMNS, rows)
    told = [Panel("Changes", detail, anchors.take("history", "changes"), (Exhibit(first),))]
    return told + [panel(one, anchors) for one in changed[:CHARTS]]


def _ordered(runs: Sequence[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (str(run.environment.get("started", "")), run.run_id))


def _largest(series: Series) -> float:
    return max(max(change.ratio, 1 / change.ratio) for change in series.changes)


def _unit(series: Series) -> str:
    return (METRICS.get(series.metric) or DERIVED[series.metric])[0]


def _row(series: Series, change: Change) -> Row:
    return Row(
        series.case.key,
        "",
        (
            Cell(series.metric),
            Cell(str(len(series.points))),
            Cell(display.quantity(series.points[-1].value, _unit(series))),
            Cell(f"{change.ratio:.3f}×"),
            Cell(series.points[change.index].run_id),
            Cell("; ".join(change.versions) or display.NONE),
            Cell(display.shorten(series.settings, 120) or display.NONE),
        ),
    )


def panel(series: Series, anchors: Anchors) -> Panel:
    """A chart of one series with the table that says the same."""
    rows = tuple(
        Row(
            point.run_id,
            "",
            (
                Cell(point.started or display.NONE),
                Cell(display.quantity(point.value, _unit(series))),
                Cell(_told(series, place)),
            ),
        )
        for place, point in enumerate(series.points)
    )
    columns = (Column("Run"), Column("Started"), Column("Value", True), Column("Change"))
    table = Table(f"{series.metric} of {series.case.key}", columns, rows)
    place = (series.case.suite, series.case.key, series.metric, series.machine,
             *filter(None, [series.settings]))  # fmt: skip
    chart = _chart(series, anchors.take("chart", "history", *place))
    machine = f"machine {series.machine}" if series.machine else "a machine that is not recorded"
    detail = "; ".join(filter(None, [machine, series.settings]))
    return Panel(
        f"{series.metric}, {series.case.key}", detail, anchors.take("history", *place),
        (Exhibit(table, chart),),
    )  # fmt: skip


def _told(series: Series, place: int) -> str:
    for change in series.changes:
        if change.index == place:
            return "; ".join([f"{change.ratio:.3f}×", *change.versions])
    return ""


def _chart(series: Series, chart_id: str) -> Chart:
    """Values over runs, and a line where the level changed."""
    divisor, unit = display.scale(max(point.value for point in series.points), _unit(series))
    values = [point.value / divisor for point in series.points]
    figure = go.Figure(
        go.Scatter(
            mode="lines+markers",
            x=list(range(len(values))),
            y=values,
            customdata=[label_text(f"{p.run_id}: {display.quantity(p.value, _unit(series))}", 120)
                        for p in series.points],
            hovertemplate="%{customdata}<extra></extra>",
            line={"color": SERIES[0][0], "width": 2},
        )
    )  # fmt: skip
    changes = [
        {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": c.index - 0.5,
         "x1": c.index - 0.5, "line": {"color": "#c9822b", "dash": "dash", "width": 1.5}}
        for c in series.changes
    ]  # fmt: skip
    x = {"tickvals": [0, len(values) - 1], "ticktext": ["first run", "last run"]}
    y = {"rangemode": "tozero", "nticks": 6, **lines.titled(f"{series.metric} ({unit})")}
    figure.update_layout(lines.frame(x, y), shapes=changes, showlegend=False)
    told = f"Line chart of {series.metric} over {len(values)} runs. The table holds the numbers."
    return Chart(chart_id, chart_json(figure), _HEIGHT, told)
