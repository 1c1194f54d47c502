"""What the page of one case holds: its figures, every round of them, its tensors, who else ran it,
and how it went over the runs of the site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jinja2.utils import htmlsafe_json_dumps

from reports.anchors import Anchors
from reports.charts import lines
from reports.charts.figures import SERIES, label_text
from reports.data import BASELINE, CaseView, RunData
from reports.entries import Entry, all_groups
from reports.exhibits import Cell, Chart, Column, Exhibit, Panel, Row, Table
from reports.sections import history
from results import display, frame
from results.history import Series
from results.metrics import DERIVED, METRICS
from results.records import Agreement, Case, Measurement

TENSORS = 60  # of a case, the worst first
ROUNDS = 400  # of a process that are listed; a chart has them all up to CHARTED
CHARTED = 5_000
_HEIGHT = 260
_MEANS = METRICS | DERIVED


@dataclass(frozen=True)
class CasePage:
    """One case. Figures and rounds are there only where they may be published."""

    view: CaseView
    figures: Table | None
    rounds: tuple[Exhibit, ...]
    tensors: Table | None
    others: Table | None
    history: tuple[Panel, ...]


def pages(data: RunData, series: Iterable[Series]) -> list[CasePage]:
    """The page of every case of a run, in reading order. `series` are those of its machine."""
    over_runs: dict[Case, list[Series]] = defaultdict(list)
    for one in series:
        if len(one.points) > 1:
            over_runs[one.case].append(one)
    rounds: dict[Case, list[Measurement]] = defaultdict(list)
    for record in data.run.measurements:
        rounds[record.case].append(record)
    judged = frame.agreements_by_case(data.run)
    beside = {e.view.case: (e, group.entries) for group in all_groups(data) for e in group.entries}
    return [
        CasePage(
            view,
            _figures(beside[view.case][0]) if view.published else None,
            tuple(_rounds(rounds.get(view.case, []))) if view.published else (),
            _tensors(judged.get(view.case, [])),
            _others(*beside[view.case]),
            tuple(history.panel(one, Anchors()) for one in over_runs.get(view.case, ())),
        )
        for view in data.cases
    ]


def _figures(entry: Entry) -> Table | None:
    columns = (
        Column("Metric"), Column("Median", True), Column("Interval", True),
        Column("Flags"), Column("What it is"), Column("How the interval was made"),
    )  # fmt: skip
    rows = tuple(
        Row(
            metric.replace("_", " "), "",
            (
                figure.cell, figure.range, Cell(", ".join(figure.flags) or display.NONE),
                Cell(_MEANS[metric][1] if metric in _MEANS else ""),
                Cell("; ".join(filter(None, (figure.hint, figure.note)))),
            ),
        )
        for metric, figure in entry.figures.items()
    )  # fmt: skip
    return Table("Figures of this case", columns, rows) if rows else None


def _rounds(records: Sequence[Measurement]) -> Iterable[Exhibit]:
    """Of each metric the values as they were read, process by process; a chart where there are
    enough to see something."""
    metrics = dict.fromkeys(record.metric for record in records)
    for metric in metrics:
        found = [record for record in records if record.metric == metric]
        unit = display.unit_of(metric, found[0].unit)
        rows = tuple(_round_row(record, unit) for record in found)
        columns = (
            Column("Process"), Column("Values", True), Column("Steps per value", True),
            Column("Least", True), Column("Largest", True), Column("All of them"),
        )  # fmt: skip
        name = metric.replace("_", " ")
        table = Table(f"Every {name} as it was measured", columns, rows)
        longest = max(len(record.values) for record in found)
        yield Exhibit(table, _chart(name, unit, found) if 3 < longest <= CHARTED else None, True)


def _round_row(record: Measurement, unit: str) -> Row:
    values = [float(value) for value in record.values]
    shown = ", ".join(display.quantity(value, unit) for value in values[:ROUNDS])
    rest = len(values) - ROUNDS
    every = Cell("values", more=(shown, *([f"and {rest} more"] if rest > 0 else [])))
    return Row(
        f"process {record.process}", "",
        (
            Cell(f"{len(values):,}", value=len(values)), Cell(str(record.steps_per_round)),
            Cell(display.quantity(min(values), unit), value=min(values)),
            Cell(display.quantity(max(values), unit), value=max(values)), every,
        ),
        tuple(display.flags(",".join(record.flags))),
    )  # fmt: skip


def _chart(name: str, unit: str, found: Sequence[Measurement]) -> Chart:
    """Values over rounds, a line per process. Made as plain data: a site has thousands."""
    divisor, shown = display.scale(max(float(max(r.values)) for r in found), unit)
    traces = [
        {
            "type": "scatter", "mode": "lines+markers", "name": f"process {record.process}",
            "y": [float(f"{value / divisor:.4g}") for value in record.values],
            "hovertemplate": f"%{{y}} {label_text(shown)}<extra></extra>",
            "line": {"color": SERIES[place % len(SERIES)][0], "width": 1.5},
            "marker": {"symbol": lines.SYMBOLS[place % len(lines.SYMBOLS)], "size": 5},
        }
        for place, record in enumerate(found)
    ]  # fmt: skip
    y = {"rangemode": "tozero", "nticks": 6, **lines.titled(f"{name} ({shown})" if shown else name)}
    layout = lines.frame(lines.titled("round"), y) | {"showlegend": len(traces) > 1}
    json = str(htmlsafe_json_dumps({"data": traces, "layout": layout}, sort_keys=True))
    told = f"Line chart of {name} over rounds. The table holds the numbers."
    return Chart(f"chart/rounds/{name.replace(' ', '_')}", json, _HEIGHT, told)


def _tensors(rows: Sequence[Agreement]) -> Table | None:
    """The worst comparisons, each with its floor and its reference."""
    worst = frame.worst_tensors(rows, limit=TENSORS)
    by_element = any(row.ulp is not None for row in worst)
    columns = (
        Column("Tensor"), Column("Verdict"), Column("Error", True, "relative, of norms"),
        Column("Noise floor", True), Column("Error over floor", True),
        *[Column("Worst element", True, "units in the last place")] * by_element,
        Column("Reference"),
    )  # fmt: skip
    made = tuple(
        Row(
            display.tensor(row.quantity, row.tensor), "",
            (
                Cell(display.verdict(row.verdict)), Cell(display.error(row.error), value=row.error),
                _number(row.floor, display.error), _number(row.ratio, display.ratio),
                *[_number(row.ulp, display.ratio)] * by_element,
                Cell(display.shorten(row.reference, 60),
                     small=(display.shorten(row.reason, 60),) if row.reason else (),
                     hint=row.reason),
            ),
        )
        for row in worst
    )  # fmt: skip
    rest = len(rows) - len(made)
    caption = f"The worst {len(made)} of {len(rows)} comparisons" if rest else "Every comparison"
    return Table(caption, columns, made) if made else None


def _number(value: float | None, text: Callable[[float], str]) -> Cell:
    return Cell(display.NONE) if value is None else Cell(text(value), value=value)


def _others(entry: Entry, entries: Sequence[Entry]) -> Table | None:
    """The same in other adapters."""
    metric = next((m for m in ("throughput", "latency_p50") if entry.get(m)), "")
    columns = [Column("Adapter"), Column("Verdict"), Column("Worst tensor"), Column("Error")]
    columns += [Column(metric.replace("_", " ").capitalize(), True)] if metric else []
    order = display.table_order([e.adapter for e in entries], BASELINE)
    rows = tuple(
        Row(
            found.adapter, found.view.anchor,
            (
                Cell(badge=found.view.badge),
                Cell(display.shorten(found.view.worst, 60) or display.NONE),
                Cell(found.view.closeness or display.NONE), *_figure(found, metric),
            ),
        )
        for found in sorted(entries, key=lambda e: order.index(e.adapter))
    )  # fmt: skip
    return Table("The same case in every adapter", tuple(columns), rows) if len(rows) > 1 else None


def _figure(entry: Entry, metric: str) -> list[Cell]:
    if not metric:
        return []
    found = entry.get(metric)
    return [found.cell if found else Cell(display.NONE)]
