"""Charts of what a precision brings over what it costs: a marker per adapter and precision. Colour
and dash tell adapters apart, as in all charts of curves; shapes tell precisions apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from reports.charts import lines
from reports.charts.figures import chart_json, label_text, legend_height
from reports.charts.lines import SYMBOLS, Line
from reports.data import RunData
from reports.exhibits import Chart

#: An error below the rounding of the float64 reference is drawn there: a logarithm knows no 0.
LEAST = 2.0**-53
_PLOT = 320
#: Of an axis of decibels: distances of ticks, how many there are at most, and where it begins.
_TICKS, _MOST, _BETWEEN = (1, 2, 5, 10, 20, 50, 100), 6, 0.4
_NEUTRAL = "#7d8590"  # legible on light and dark paper


@dataclass(frozen=True)
class Mark:
    """x: the accuracy; y: what is compared with the same adapter in fp32; told: both in words."""

    adapter: str
    precision: str
    x: float
    y: float
    told: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Axes:
    """Titles and kinds of the axes."""

    x: Mapping[str, object]
    y: Mapping[str, object]


def _axes(x_title: str, y_title: str, **kind: object) -> Axes:
    x = {"nticks": 6, "tickangle": 0, **kind, **lines.titled(x_title)}
    return Axes(x, {"rangemode": "tozero", "nticks": 6, **lines.titled(y_title)})


FASTER = "times the speed of fp32"
SMALLER = "times smaller than fp32"
#: Speed over error.
ERROR = _axes("relative error of the output", FASTER, type="log", exponentformat="power")


def by_sqnr(marks: Sequence[Mark], y_title: str) -> Axes:
    """Axes of what is compared over decibels. The axis begins between two ticks, where no number
    meets those of the other axis."""
    low, high = min(mark.x for mark in marks) - 1.0, max(mark.x for mark in marks) + 1.0
    step = next(step for step in _TICKS if (high - low) / step <= _MOST or step == _TICKS[-1])
    begin = step * (math.floor(low / step - _BETWEEN) + _BETWEEN)
    return _axes("SQNR of the output (dB)", y_title, range=[begin, high], dtick=step, tick0=0)


def tradeoff(
    data: RunData,
    marks: Sequence[Mark],
    order: Sequence[str],
    axes: Axes,
    chart_id: str,
    title: str,
) -> Chart:
    """Marks of one adapter are joined by a thin line, from left to right. `order` has all
    precisions that charts of this kind show: each has the same shape in all of them."""
    adapters = [name for name in data.adapters if any(m.adapter == name for m in marks)]
    drawn = [Line(name, (), data.adapters.index(name)) for name in adapters]
    shown = [(n, name) for n, name in enumerate(order) if any(m.precision == name for m in marks)]
    traces = [_marks(line, marks, order) for line in drawn]
    keys = [*map(_adapter_key, drawn), *(_precision_key(name, _symbol(n)) for n, name in shown)]
    figure = go.Figure([*traces, *keys])
    beside = legend_height([key.name for key in keys])
    figure.update_layout(lines.frame(axes.x, axes.y), shapes=[_SAME])
    figure.update_layout(legend={"maxheight": beside})  # else half of the chart, and scrolled
    label = f"Scatter chart. {title}. The table below holds the same numbers."
    return Chart(chart_id, chart_json(figure), _PLOT + beside, label)


#: A line where fp32 is.
_SAME = {
    "type": "line",
    "xref": "paper",
    "x0": 0,
    "x1": 1,
    "y0": 1,
    "y1": 1,
    "line": {"color": _NEUTRAL, "dash": "dash", "width": 1.5},
}


def _marks(line: Line, marks: Sequence[Mark], order: Sequence[str]) -> go.Scatter:
    mine = sorted((m for m in marks if m.adapter == line.name), key=lambda m: m.x)
    return go.Scatter(
        name=label_text(line.name),
        mode="lines+markers+text",
        x=[mark.x for mark in mine],
        y=[mark.y for mark in mine],
        text=["⚑" if mark.flags else "" for mark in mine],
        textposition="top right",
        customdata=[_hover(mark) for mark in mine],
        hovertemplate="%{customdata}<extra></extra>",
        line={"color": line.colour, "dash": line.dash, "width": 1},
        marker={
            "symbol": [_symbol(order.index(mark.precision)) for mark in mine],
            "size": 10,
            "color": line.colour,
        },
        showlegend=False,
    )


def _hover(mark: Mark) -> str:
    flags = f" ⚑ {', '.join(mark.flags)}" if mark.flags else ""
    return label_text(f"{mark.adapter} {mark.precision}: {mark.told}{flags}", 120)


def _symbol(number: int) -> str:
    """The same for the same precision in all charts of a page."""
    opened = "-open" * (number // len(SYMBOLS) % 2)
    return SYMBOLS[number % len(SYMBOLS)] + opened


def _adapter_key(line: Line) -> go.Scatter:
    """An entry of the legend alone."""
    style = {"color": line.colour, "dash": line.dash, "width": 3}
    return go.Scatter(name=label_text(line.name), mode="lines", x=[None], y=[None], line=style)


def _precision_key(name: str, symbol: str) -> go.Scatter:
    """An entry of the legend alone."""
    style = {"symbol": symbol, "size": 10, "color": _NEUTRAL}
    return go.Scatter(name=label_text(name), mode="markers", x=[None], y=[None], marker=style)
