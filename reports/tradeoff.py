"""The chart of speed over error: a marker per adapter and precision. Colour and dash tell adapters
apart, as in all charts of curves; shapes tell precisions apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from reports import lines
from reports.data import RunData, width
from reports.exhibits import Chart
from reports.figures import chart_json, label_text, legend_height
from reports.lines import SYMBOLS, Line
from results import display

#: An error below the rounding of the float64 reference is drawn there: a logarithm knows no 0.
_LEAST = 2.0**-53
_PLOT = 320
_NEUTRAL = "#7d8590"  # legible on light and dark paper


@dataclass(frozen=True)
class Mark:
    """error: of the output; speed: over that of the same adapter in fp32."""

    adapter: str
    precision: str
    error: float
    speed: float
    flags: tuple[str, ...] = ()


def tradeoff(data: RunData, marks: Sequence[Mark], chart_id: str, title: str) -> Chart:
    """Marks of one adapter are joined by a thin line, from the least error to the largest."""
    order = sorted({view.case.precision for view in data.cases}, key=width)
    adapters = [name for name in data.adapters if any(m.adapter == name for m in marks)]
    drawn = [Line(name, (), data.adapters.index(name)) for name in adapters]
    shown = [(n, name) for n, name in enumerate(order) if any(m.precision == name for m in marks)]
    traces = [_marks(line, marks, order) for line in drawn]
    keys = [*map(_adapter_key, drawn), *(_precision_key(name, _symbol(n)) for n, name in shown)]
    figure = go.Figure([*traces, *keys])
    x = {"type": "log", "exponentformat": "power", "nticks": 6, "tickangle": 0}
    y = {"rangemode": "tozero", "nticks": 6}
    layout = lines.frame(
        x | lines.titled("relative error of the output"),
        y | lines.titled("times the speed of fp32"),
    )
    figure.update_layout(layout, shapes=[_SAME_SPEED])
    label = f"Scatter chart. {title}. The table below holds the same numbers."
    height = _PLOT + legend_height([key.name for key in keys])
    return Chart(chart_id, chart_json(figure), height, label)


#: A line at the speed of fp32.
_SAME_SPEED = {
    "type": "line",
    "xref": "paper",
    "x0": 0,
    "x1": 1,
    "y0": 1,
    "y1": 1,
    "line": {"color": _NEUTRAL, "dash": "dash", "width": 1.5},
}


def _marks(line: Line, marks: Sequence[Mark], order: Sequence[str]) -> go.Scatter:
    mine = sorted((m for m in marks if m.adapter == line.name), key=lambda m: m.error)
    return go.Scatter(
        name=label_text(line.name),
        mode="lines+markers+text",
        x=[max(mark.error, _LEAST) for mark in mine],
        y=[mark.speed for mark in mine],
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
    speed = display.ratio(mark.speed)
    text = f"{mark.adapter} {mark.precision}: {speed}, error {display.error(mark.error)}{flags}"
    return label_text(text, 120)


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
