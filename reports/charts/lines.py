"""Charts of curves: one line per adapter, told apart by colour, dash and marker shape.

A point without a figure is a crossed marker in a strip above the curves, so that it cannot be
taken for a value; the table beside the chart says why it has none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from reports.charts.figures import SERIES, chart_json, error_bars, label_text, legend_height
from reports.exhibits import Chart
from results import display

#: Shapes of markers, of the first, second, ... thing that they tell apart.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "star", "triangle-down")
_DASHES = ("solid", "dash", "dot", "dashdot")
_PLOT = 280
#: Where the strip begins and how far crosses are apart in it, over the largest value.
_EDGE, _STRIP = 1.09, 0.08


@dataclass(frozen=True)
class Point:
    """A figure at x; nan bounds where there is no interval. A point without a figure has the
    value nan. text is what to say on hovering."""

    x: float
    value: float
    low: float
    high: float
    text: str
    flagged: bool = False


@dataclass(frozen=True)
class Line:
    """A curve; `style` is the same number for the same adapter in all charts of a page."""

    name: str
    points: tuple[Point, ...]
    style: int

    @property
    def colour(self) -> str:
        return SERIES[self.style % len(SERIES)][0]

    @property
    def dash(self) -> str:
        return _DASHES[self.style // len(SERIES) % len(_DASHES)]

    @property
    def symbol(self) -> str:
        return SYMBOLS[self.style % len(SYMBOLS)]


def lines(
    chart_id: str, *, label: str, unit: str, axis: str, x_axis: str, drawn: Sequence[Line]
) -> Chart:
    """A chart of curves over a logarithmic axis, whose ticks are the points measured."""
    divisor, shown = display.scale(_largest(drawn), unit)
    top = _largest(drawn) / divisor or 1.0
    crosses = _crosses(drawn, top)
    traces = [_trace(line, divisor) for line in drawn]
    figure = go.Figure([*traces, *crosses])
    ticks = sorted({point.x for line in drawn for point in line.points})
    title = axis if unit == "1/s" else f"{axis} ({shown})"
    above = max((y for cross in crosses for y in cross.y), default=top)
    figure.update_layout(_layout(ticks, x_axis, title, highest=max(1.08 * top, above + 0.06 * top)))
    height = _PLOT + legend_height([trace.name for trace in figure.data])
    return Chart(chart_id, chart_json(figure), height, label)


def _largest(drawn: Sequence[Line]) -> float:
    """The largest value, or the end of its interval where that does not dwarf it."""
    points = [p for line in drawn for p in line.points if not math.isnan(p.value)]
    value = max((point.value for point in points), default=0.0)
    ends = [point.high for point in points if value < point.high < 2.5 * value]
    return max(ends, default=value)


def _trace(line: Line, divisor: float) -> go.Scatter:
    points = [point for point in line.points if not math.isnan(point.value)]
    return go.Scatter(
        name=label_text(line.name),
        mode="lines+markers+text",
        x=[point.x for point in points],
        y=[point.value / divisor for point in points],
        text=["⚑" if point.flagged else "" for point in points],
        textposition="top right",
        customdata=[label_text(point.text, 120) for point in points],
        hovertemplate="%{customdata}<extra></extra>",
        line={"color": line.colour, "dash": line.dash, "width": 2},
        marker={"symbol": line.symbol, "size": 8, "color": line.colour},
        error_y=error_bars(
            [(point.high - point.value) / divisor for point in points],
            [(point.value - point.low) / divisor for point in points],
        )
        | {"color": line.colour, "width": 3},
    )


def _crosses(drawn: Sequence[Line], top: float) -> list[go.Scatter]:
    """One crossed marker of its line per point without a figure, those at the same x above each
    other."""
    seen: Counter[float] = Counter()
    at: list[tuple[Point, float, Line]] = []
    for line in drawn:
        for point in line.points:
            if math.isnan(point.value):
                at.append((point, top * (_EDGE + _STRIP * seen[point.x]), line))
                seen[point.x] += 1
    if not at:
        return []
    cross = go.Scatter(
        name="✕ no figure",
        mode="markers+text",
        x=[point.x for point, _, _ in at],
        y=[height for _, height, _ in at],
        text=["✕"] * len(at),
        textfont={"size": 10},
        customdata=[label_text(point.text, 120) for point, _, _ in at],
        hovertemplate="%{customdata}<extra></extra>",
        marker={
            "symbol": [f"{line.symbol}-open" for _, _, line in at],
            "size": 15,
            "color": [line.colour for _, _, line in at],
        },
    )
    return [cross]


def frame(x: Mapping[str, object], y: Mapping[str, object]) -> dict[str, object]:
    """The layout of a chart of curves, from what is particular to its axes."""
    always = {"fixedrange": True, "automargin": True}
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 16, "t": 12, "b": 46},
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": {**always, **x},
        "yaxis": {**always, **y},
    }


def titled(text: str) -> dict[str, object]:
    """The title of an axis."""
    return {"title": {"text": text, "font": {"size": 13}, "standoff": 6}}


def _layout(
    ticks: Sequence[float], x_axis: str, y_axis: str, *, highest: float
) -> dict[str, object]:
    x = {
        "type": "log",
        "tickmode": "array",
        "tickvals": list(ticks),
        "ticktext": [f"{tick:g}" for tick in ticks],
        "tickangle": 0,
    }
    y = {"range": [0, highest], "nticks": 6, "separatethousands": True}
    return frame(x | titled(x_axis), y | titled(y_axis))
