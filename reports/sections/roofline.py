"""The roofline: arithmetic per second over arithmetic per byte, below what the machine allows
(S. Williams, A. Waterman, D. Patterson, CACM 52(4), 2009). Both axes are logarithmic."""

from __future__ import annotations

import plotly.graph_objects as go

from reports.charts import lines
from reports.charts.figures import SERIES, chart_json, label_text
from reports.data import RunData
from reports.entries import Entry, Group, groups
from reports.exhibits import Cell, Chart, Column, Exhibit, Panel, Row, Table
from results import display

_HEIGHT = 320
_ROOF = "#7d8590"  # legible on light and dark paper
_NEEDED = ("step_time", "flops_per_step", "bytes_per_step")


def roofline(data: RunData) -> list[Panel]:
    """One panel per configuration whose arithmetic and bytes were counted, on a machine whose
    limits were measured."""
    made = (_panel(data, group) for group in groups(data))
    return [panel for panel in made if panel is not None]


def _panel(data: RunData, group: Group) -> Panel | None:
    entries = [e for e in group.entries if all(_value(e, metric) > 0 for metric in _NEEDED)]
    peak, bandwidth = _limits(data, group)
    if not entries or not peak or not bandwidth or group.case.suite.startswith("sweep_"):
        return None
    rows = tuple(_row(entry, peak, bandwidth) for entry in entries)
    columns = (
        Column("Adapter"),
        Column("FLOP/s", True, "arithmetic of one step over its median time"),
        Column("FLOP per byte", True, "arithmetic over what a step must read and write at least"),
        Column("Allowed", True, "the smaller of the largest arithmetic rate and of the largest "
               "rate of memory times FLOP per byte"),
        Column("Of allowed", True),
    )  # fmt: skip
    table = Table(f"Roofline, {group.title}", columns, rows)
    anchor = data.anchors.take("roofline", *group.names)
    chart = _chart(data, group, entries, peak, bandwidth)
    return Panel(group.title, group.detail, anchor, (Exhibit(table, chart),))


def _limits(data: RunData, group: Group) -> tuple[float, float]:
    """The largest rate of float32 arithmetic and of memory on the group's device; 0: unknown."""
    found: dict[str, float] = {}
    for line in data.limits.to_dict("records"):
        if line["device"] == group.case.device:
            found[line["limit"]] = max(line["value"], found.get(line["limit"], 0.0))
    kind = "matmul_bf16" if "bf16" in group.case.precision else "matmul_fp32"
    return found.get(kind, 0.0), found.get("bandwidth", 0.0)


def _value(entry: Entry, metric: str) -> float:
    figure = entry.get(metric)
    return figure.value if figure else 0.0


def _point(entry: Entry) -> tuple[float, float]:
    """FLOP per byte, FLOP/s"""
    seconds, flops, size = (_value(entry, metric) for metric in _NEEDED)
    return flops / size, flops / seconds


def _row(entry: Entry, peak: float, bandwidth: float) -> Row:
    intensity, rate = _point(entry)
    allowed = min(peak, bandwidth * intensity)
    cells = (
        Cell(display.quantity(rate, "FLOP/s"), value=rate),
        Cell(display.significant(intensity), value=intensity),
        Cell(display.quantity(allowed, "FLOP/s"), value=allowed),
        Cell(display.quantity(rate / allowed, "%"), value=rate / allowed),
    )
    return Row(entry.adapter, entry.view.anchor, cells, entry.flags(["step_time"]))


def _chart(
    data: RunData, group: Group, entries: list[Entry], peak: float, bandwidth: float
) -> Chart:
    points = [_point(entry) for entry in entries]
    ridge = peak / bandwidth
    left = min([x for x, _ in points] + [ridge]) / 4
    right = max([x for x, _ in points] + [ridge]) * 4
    roof = go.Scatter(
        name="what the machine allows", mode="lines", x=[left, ridge, right],
        y=[left * bandwidth, peak, peak], line={"color": _ROOF, "width": 2}, hoverinfo="skip",
    )  # fmt: skip
    rank = {adapter: number for number, adapter in enumerate(data.adapters)}
    marks = [
        go.Scatter(
            name=label_text(entry.adapter), mode="markers", x=[x], y=[y],
            customdata=[label_text(f"{entry.adapter}: {display.quantity(y, 'FLOP/s')}", 80)],
            hovertemplate="%{customdata}<extra></extra>",
            marker={"size": 11, "color": SERIES[rank[entry.adapter] % len(SERIES)][0],
                    "symbol": lines.SYMBOLS[rank[entry.adapter] % len(lines.SYMBOLS)]},
        )
        for entry, (x, y) in zip(entries, points, strict=True)
    ]  # fmt: skip
    figure = go.Figure([roof, *marks])
    log = {"type": "log", "exponentformat": "power"}
    figure.update_layout(
        lines.frame(log | lines.titled("FLOP per byte"), log | lines.titled("FLOP/s"))
    )
    told = f"Roofline chart. {group.title}. The table beside it holds the same numbers."
    anchor = data.anchors.take("chart", "roofline", *group.names)
    return Chart(anchor, chart_json(figure), _HEIGHT, told)
