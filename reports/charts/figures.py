"""Charts: horizontal bars per adapter. A chart never stands alone, see `exhibits.Exhibit`.

Names from records are shortened and escaped, because plotly reads a subset of HTML in labels.
Backgrounds are transparent and no text colour is set here: page.js sets the colours of the
theme. The colours of bars are legible on light and dark paper; where a chart has several series
they also differ in pattern.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from jinja2.utils import htmlsafe_json_dumps

from reports.exhibits import Chart
from results import display

_BAR, _HEAD, _FOOT = 34, 12, 46
_LEGEND = 30
_LABEL, _HOVER = 22, 80

#: (colour, pattern) of the first, second, ... series
SERIES = (
    ("#4a86d8", ""),
    ("#c9822b", "/"),
    ("#b0589d", "x"),
    ("#2f9a74", "."),
    ("#8d76d6", "\\"),
    ("#d4605a", "+"),
)


@dataclass(frozen=True)
class Bar:
    """value and its interval in SI units; nan where there is no interval. text is what to say
    on hovering."""

    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Series:
    """One bar per name, None where there is nothing to show."""

    name: str
    bars: tuple[Bar | None, ...]


def bars(
    chart_id: str,
    *,
    label: str,
    unit: str,
    axis: str,
    names: Sequence[str],
    series: Sequence[Series],
    flagged: Sequence[bool],
    stacked: bool = False,
) -> Chart:
    """A chart of horizontal bars, first name on top. `flagged` names are marked with a flag."""
    tops = [_top(column, stacked) for column in zip(*(s.bars for s in series), strict=True)]
    divisor, shown = display.scale(max(tops, default=0.0), unit)
    figure = go.Figure(
        [_trace(s, i, divisor=divisor, stacked=stacked) for i, s in enumerate(series)]
    )
    figure.update_layout(_layout(names, flagged, stacked=stacked, legend=len(series) > 1))
    title = {"text": axis if unit == "1/s" else f"{axis} ({shown})", "font": {"size": 13}}
    figure.update_xaxes(title=title | {"standoff": 6}, separatethousands=True)
    thickness = _BAR if stacked or len(series) == 1 else _BAR + 10
    height = (
        _HEAD
        + _FOOT
        + thickness * len(names)
        + (legend_height([s.name for s in series]) if len(series) > 1 else 0)
    )
    return Chart(chart_id, chart_json(figure), height, label)


def chart_json(figure: go.Figure) -> str:
    """A figure as JSON that may stand in a script element."""
    plain = figure.to_plotly_json()
    plain["layout"].pop("template", None)
    return str(htmlsafe_json_dumps(plain, sort_keys=True))


def legend_height(names: Sequence[str]) -> int:
    """Pixels that a legend takes on a phone, where the plot is about 230 pixels wide; an entry is
    as wide as the longest, about 7 pixels per letter and 45 for its sign."""
    beside = max(1, 230 // (45 + 7 * max(map(len, names), default=0)))
    return _LEGEND + 20 * (math.ceil(len(names) / beside) - 1)


def label_text(name: str, limit: int = _LABEL) -> str:
    """A name as plotly shows it literally."""
    return html.escape(display.visible(display.shorten(name, limit)), quote=False)


def _trace(series: Series, number: int, *, divisor: float, stacked: bool) -> go.Bar:
    colour, pattern = SERIES[number % len(SERIES)]
    drawn = [(row, bar) for row, bar in enumerate(series.bars) if bar is not None]
    above = [(bar.high - bar.value) / divisor for _, bar in drawn]
    below = [(bar.value - bar.low) / divisor for _, bar in drawn]
    return go.Bar(
        name=series.name,
        orientation="h",
        x=[bar.value / divisor for _, bar in drawn],
        y=[row for row, _ in drawn],  # positions, since names may be equal once shortened
        customdata=[label_text(bar.text, _HOVER) for _, bar in drawn],
        hovertemplate="%{customdata}<extra></extra>",
        marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay"}},
        error_x=None if stacked else error_bars(above, below),
    )


def error_bars(above: Sequence[float], below: Sequence[float]) -> dict[str, object]:
    """Interval ends beyond the figure; none where there is no interval or no finite end."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [value if math.isfinite(value) else None for value in above],
        "arrayminus": [value if math.isfinite(value) else None for value in below],
        "thickness": 1.5,
        "width": 5,
    }


def _top(column: Sequence[Bar | None], stacked: bool) -> float:
    values = [bar.value for bar in column if bar is not None]
    return sum(values) if stacked else max(values, default=0.0)


def _layout(
    names: Sequence[str], flagged: Sequence[bool], *, stacked: bool, legend: bool
) -> dict[str, object]:
    ticks = [
        label_text(name) + (" ⚑" if flag else "") for name, flag in zip(names, flagged, strict=True)
    ]
    return {
        "barmode": "stack" if stacked else "group",
        "bargap": 0.35,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 16, "t": _HEAD + (_LEGEND if legend else 0), "b": _FOOT},
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1,
            "yanchor": "bottom",
            "traceorder": "normal",
        },
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": {
            "rangemode": "tozero",
            "fixedrange": True,
            "automargin": True,
            "nticks": 4,
            "tickangle": 0,
        },
        "yaxis": {
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": ticks,
            "range": [len(names) - 0.5, -0.5],
            "fixedrange": True,
            "automargin": True,
            "showgrid": False,
            "zeroline": False,
        },
    }
