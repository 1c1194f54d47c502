"""The section on a gate: what was compared with base, how it was decided, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from reports.badges import Badge
from reports.charts import lines
from reports.charts.figures import chart_json, error_bars, label_text
from reports.data import RunData
from reports.exhibits import Cell, Chart, Column, Exhibit, Panel, Row, Table
from results import display
from results.announce import label
from results.gate import ALPHA, IMPROVED, INCONCLUSIVE, REGRESSED, UNCHANGED, VERDICTS, discovered
from results.records import Case, Decision
from results.ruling import confirmed

BADGES = {
    REGRESSED: Badge(REGRESSED, "▲", "bad"),
    IMPROVED: Badge(IMPROVED, "▼", "good"),
    UNCHANGED: Badge(UNCHANGED, "=", "mute"),
    INCONCLUSIVE: Badge(INCONCLUSIVE, "?", "warn"),
}
#: Signs of the chart, which differ in shape as well.
_MARKS = {
    REGRESSED: ("triangle-up", "#d4605a"),
    IMPROVED: ("triangle-down", "#2f9a74"),
    UNCHANGED: ("circle", "#7d8590"),
    INCONCLUSIVE: ("x", "#c9822b"),
}
_ROW, _AROUND = 26, 90
_COLUMNS = (
    Column("Case"),
    Column("Verdict"),
    Column("Head over base", True, "above 1 is slower, larger, later"),
    Column("Interval", True, "covers the true ratio with a probability of 98%"),
    Column("Threshold", True, "the change that matters"),
    Column("Pairs", True, "of processes that took turns"),
    Column("Time", True, "that deciding took"),
    Column("Note"),
)
#: What is compared -> how a heading calls it; whatever else there is is told by its name.
_TITLES = {
    "step_time": "Step time",
    "latency": "Latency",
    "cold_start": "Cold start",
    "host_peak_bytes": "Peak memory",
    "device_peak_bytes": "Peak memory of the device",
    "artifact_bytes": "Size of the model for inference",
    "conformance": "Verdicts",
}


#: Suites of decisions that are part of how others came about.
_APART = ("canary", "confirm")


def decided(data: RunData) -> list[Decision]:
    """What a gate decided, each once."""
    return [confirmed(d) for d in data.run.decisions if not d.case.suite.startswith(_APART)]


def gate(data: RunData) -> list[Panel]:
    """A panel per kind of thing that was compared; what changed comes first."""
    found: dict[str, list[Decision]] = {name: [] for name in _TITLES}
    for decision in decided(data):
        found.setdefault(decision.metric, []).append(decision)
    return [_panel(data, metric, of) for metric, of in found.items() if of]


def _panel(data: RunData, metric: str, found: Sequence[Decision]) -> Panel:
    ordered = sorted(found, key=lambda d: (VERDICTS.index(d.verdict), d.case))
    title = _TITLES.get(metric, metric.replace("_", " ").capitalize())
    counts = {name: sum(d.verdict == name for d in found) for name in VERDICTS}
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    base = ", ".join(dict.fromkeys(d.base for d in found))
    fdr = f"; {len(discovered(found))} slower at a false discovery rate of {ALPHA:.0%}"
    timed = any(d.p is not None for d in found)
    detail = f"{told}{fdr if timed else ''}; base: {display.shorten(base, 120)}"
    anchors = {view.case: view.anchor for view in data.cases}
    rows = tuple(_row(anchors, d) for d in ordered)
    table = Table(f"{title} of head and base", _COLUMNS, rows)
    chart = _chart(data, metric, title, [d for d in ordered if d.ratio is not None])
    return Panel(title, detail, data.anchors.take("gate", metric), (Exhibit(table, chart, True),))


def _row(anchors: Mapping[Case, str], found: Decision) -> Row:
    ratio, low, high = (math.nan if x is None else x for x in (found.ratio, found.low, found.high))
    return Row(
        label(found.case),
        anchors.get(found.case, ""),
        (
            Cell(badge=BADGES[found.verdict]),
            Cell(three(ratio)),
            Cell(interval(low, high)),
            Cell(f"{found.threshold:.0%}" if found.threshold else display.NONE),
            Cell(str(len(found.ratios) or display.NONE)),
            Cell(display.quantity(found.seconds, "s") if found.seconds else display.NONE),
            Cell(found.reason),
        ),
    )


def three(ratio: float) -> str:
    """Percents and their tenths are what a gate is about."""
    return f"{ratio:.3f}×" if math.isfinite(ratio) else display.NONE


def interval(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return display.NONE
    return f"{low:.3f} to {high:.3f}×" if math.isfinite(high) else f"at least {low:.3f}×"


def _chart(data: RunData, metric: str, title: str, found: Sequence[Decision]) -> Chart | None:
    """A ratio and its interval per case, the first on top; a line where nothing changed."""
    if not found:
        return None
    drawn = ((v, [(n, d) for n, d in enumerate(found) if d.verdict == v]) for v in VERDICTS)
    figure = go.Figure([_marks(verdict, own) for verdict, own in drawn if own])
    names = [label_text(_short(d.case), 26) for d in found]
    rows = {"tickvals": list(range(len(names))), "ticktext": names, "autorange": "reversed",
            "zeroline": False}  # fmt: skip
    figure.update_layout(lines.frame(lines.titled("head over base"), rows), shapes=[_SAME])
    told = f"Chart of ratios with their intervals. {title}. The table holds the same numbers."
    height = _AROUND + _ROW * len(found)
    return Chart(data.anchors.take("chart", "gate", metric), chart_json(figure), height, told)


def _short(case: Case) -> str:
    """What tells cases apart in most runs; the table has the whole."""
    return " ".join(filter(None, (case.model, case.mode, case.adapter)))


def _marks(verdict: str, own: Sequence[tuple[int, Decision]]) -> go.Scatter:
    """Those of one verdict, each on its row."""
    symbol, colour = _MARKS[verdict]
    ratios = [d.ratio or 0.0 for _, d in own]
    highs, lows = ([math.nan if x is None else x for x in xs]
                   for xs in ([d.high for _, d in own], [d.low for _, d in own]))  # fmt: skip
    return go.Scatter(
        name=verdict,
        mode="markers",
        x=ratios,
        y=[row for row, _ in own],
        customdata=[label_text(f"{label(d.case)}: {display.ratio(d.ratio or 0.0)}", 80)
                    for _, d in own],
        hovertemplate="%{customdata}<extra></extra>",
        marker={"symbol": symbol, "color": colour, "size": 10},
        error_x=error_bars(
            [high - ratio for high, ratio in zip(highs, ratios, strict=True)],
            [ratio - low for low, ratio in zip(lows, ratios, strict=True)],
        ),
    )  # fmt: skip


#: A line where head is as base.
_SAME = {
    "type": "line",
    "yref": "paper",
    "x0": 1,
    "x1": 1,
    "y0": 0,
    "y1": 1,
    "line": {"color": "#7d8590", "dash": "dash", "width": 1.5},
}
