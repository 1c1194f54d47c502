"""The section on convergence: training on real data until a stated score on examples that it does
not see. A chart per model, a line per adapter; tables with the steps and the time that it took."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go

from reports.charts import lines
from reports.charts.figures import chart_json, label_text, legend_height
from reports.charts.lines import Line
from reports.charts.panels import table
from reports.data import CaseView, RunData, width
from reports.entries import Figure, all_groups
from reports.exhibits import Cell, Chart, Column, Exhibit, Panel, Row, Table
from results import display
from results.records import Case

#: An adapter's case of the first is the one that is shown; the second has the time.
SUITES = ("convergence", "time_to_target")
LEVEL = 0.01  # `numerics.convergence.LEVEL`: an adapter is later than the others below it
_TARGET = "#7d8590"  # legible on light and dark paper
_PLOT = 300
_SHOWN = 6  # steps of a curve in the table that says the same
_WIDEST, _THINNEST = 7.0, 1.5  # of lines, in pixels: curves that coincide stay in sight

Curve = tuple[tuple[float, float], ...]  # (step, score) of every evaluation


@dataclass(frozen=True)
class Learning:
    """How an adapter learnt, as it was recorded.

    curves      by seed
    p, least    the probability that it comes so late by chance, and the least that this could have
                been with so many seeds; None where nothing was compared
    """

    score: str
    target: float
    rising: bool
    curves: tuple[Curve, ...]
    p: float | None
    least: float | None

    def steps(self) -> list[float]:
        """Steps to the target by seed; infinite where it was not reached."""
        ends = [curve[-1] for curve in self.curves]
        return [step if self._reached(score) else math.inf for step, score in ends]

    def median(self) -> Curve:
        """The median over seeds at each step at which one was evaluated, from where all have
        begun. A seed that has ended keeps its last score."""
        begun = max(curve[0][0] for curve in self.curves)
        steps = sorted({step for curve in self.curves for step, _ in curve if step >= begun})
        return tuple((step, statistics.median(self.scores(step))) for step in steps)

    def scores(self, step: float) -> list[float]:
        """The last score of each seed up to a step."""
        return [[y for x, y in curve if x <= step][-1] for curve in self.curves]

    def _reached(self, score: float) -> bool:
        return score >= self.target if self.rising else score <= self.target


@dataclass(frozen=True)
class Learner:
    """A case of an adapter, how it learnt, and the published time that this took: its figure, and
    seconds and steps of each seed. The steps may be others than those of the case: programs that
    are timed may use several threads, and then add up in another order."""

    view: CaseView
    learning: Learning | None
    time: Figure | None
    seconds: tuple[float, ...]
    steps: tuple[float, ...]

    @property
    def adapter(self) -> str:
        return self.view.case.adapter


def convergence(data: RunData) -> list[Panel]:
    """One panel per model, precision and way to train it."""
    found: dict[Case, list[Learner]] = {}
    for learner in _learners(data):
        alike = replace(learner.view.case, suite=SUITES[0], adapter=SUITES[0])
        found.setdefault(alike, []).append(learner)
    return [_panel(data, learners) for learners in found.values()]


def _learners(data: RunData) -> list[Learner]:
    """By model and precision, adapters in the page's order."""
    entries = [entry for group in all_groups(data) for entry in group.entries]
    shown, timed = (
        {replace(e.view.case, suite=SUITES[0]): e for e in entries if e.view.case.suite == suite}
        for suite in SUITES
    )
    seconds = {
        record.case: record.values
        for record in data.run.measurements
        if record.metric == "time_to_target"
    }
    found = []
    for case, entry in {**timed, **shown}.items():
        time = timed[case].get("time_to_target") if case in timed else None
        each = seconds[timed[case].view.case] if time else ()
        told = learning(timed[case].view) if time else None
        steps = tuple(told.steps()) if told else ()
        found.append(Learner(entry.view, learning(entry.view), time, tuple(each), steps))
    rank = {adapter: number for number, adapter in enumerate(data.adapters)}
    return sorted(found, key=lambda x: (*_subject(x.view.case), rank[x.adapter]))


def _subject(case: Case) -> tuple[Any, ...]:
    return case.model, width(case.precision)


# -- what was recorded -----------------------------------------------------------------------------


def learning(view: CaseView) -> Learning | None:
    """As a case's facts have it; None where they hold no such thing."""
    for facts in view.facts:
        told = facts.get("convergence")
        if not isinstance(told, Mapping):
            continue
        curves = [_curve(curve) for curve in _listed(told.get("curves"))]
        target = _number(told.get("target"))
        if target is not None and curves and all(curves):
            score, rising = told.get("score"), told.get("rising") is not False
            name = display.visible(display.shorten(score, 40)) if isinstance(score, str) else ""
            p, least = _number(told.get("p_later")), _number(told.get("p_least"))
            return Learning(name or "score", target, rising, tuple(curves), p, least)
    return None


def _curve(told: Any) -> Curve:
    """Empty where anything in it is no number."""
    rows = [row if isinstance(row, Mapping) else {} for row in _listed(told)]
    points = [(_number(row.get("step")), _number(row.get("score"))) for row in rows]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return tuple(sorted(known)) if len(known) == len(points) else ()


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # nan is no number either


# -- one model -------------------------------------------------------------------------------------


def _panel(data: RunData, learners: Sequence[Learner]) -> Panel:
    case = learners[0].view.case
    title = f"{display.shorten(case.model, 60)}, {case.mode}, {display.shorten(case.precision, 30)}"
    where = (case.size, case.device, f"batch {case.batch}", case.recipe)
    place = (case.size, case.precision, case.device, f"b{case.batch}", case.recipe)
    names = ("convergence", case.mode, case.model, *place)
    told = [learner for learner in learners if learner.learning is not None]
    drawn = _chart(data, told, title, data.anchors.take("chart", *names)) if told else None
    exhibits = [Exhibit(_results(learners, title), drawn)]
    if told:
        exhibits.append(Exhibit(_scores(told, title)))
    return Panel(
        title=title,
        detail=", ".join(display.shorten(part, 60) for part in where if part),
        anchor=data.anchors.take(*names),
        exhibits=tuple(exhibits),
    )


def _results(learners: Sequence[Learner], title: str) -> Table:
    timed = any(learner.time for learner in learners)
    columns = [
        Column("Adapter"),
        Column("Verdict"),
        Column("Median steps", True, "to the target"),
        Column("Steps of each seed", hint="to the target, in the same order everywhere"),
        Column("Later by chance", hint="how likely it is to come so late where all are alike"),
    ]
    if timed:
        columns += [
            Column("Time, first seed", True, "with compiling on the first step"),
            Column("Further seeds", True, "their median; nothing is compiled any more"),
        ]
    rows = [_row(learner, timed=timed) for learner in learners]
    goal = next((x.learning for x in learners if x.learning), None)
    caption = f"{title}: steps to {goal.score} {goal.target:g}" if goal else title
    return table(caption, columns, rows)


def _row(learner: Learner, *, timed: bool) -> Row:
    view, told = learner.view, learner.learning
    if told is None:
        return Row(learner.adapter, view.anchor, badge=view.badge)
    steps = told.steps()
    median = Cell(count(statistics.median(steps)))
    each = Cell(", ".join(map(count, steps)), _ends(told))
    cells = [Cell(badge=view.badge), median, each, _chance(told)]
    if timed:
        cells += _times(learner)
    flags = learner.time.flags if learner.time else ()
    return Row(learner.adapter, view.anchor, tuple(cells), flags)


def _ends(told: Learning) -> str:
    scores = ", ".join(display.significant(curve[-1][1]) for curve in told.curves)
    return f"{told.score} at the end: {scores}"


def _chance(told: Learning) -> Cell:
    """The p-value, or that so few seeds could not have shown anything."""
    if told.p is None:
        return Cell(display.NONE, "it was compared with nobody")
    if told.least is not None and told.least > LEVEL:
        seeds = len(told.curves)
        hint = f"so few seeds could not have given less than {told.least:.2g}"
        return Cell(f"{seeds} seed{'s' * (seeds > 1)} cannot decide", hint)
    return Cell(f"p = {told.p:.2g}", f"later below {LEVEL:g}")


def _times(learner: Learner) -> list[Cell]:
    """Of the first seed, and the median of the others."""
    if learner.time is None or not learner.seconds:
        return [Cell("not measured")] * 2
    first, *others = learner.seconds
    told = learner.learning.steps() if learner.learning else []
    after = learner.steps if list(learner.steps) != told else ()
    cells = [_time(first, [first], after[:1], learner.time.flags)]
    if not others:
        return [*cells, Cell(display.NONE)]
    return [*cells, _time(statistics.median(others), others, after[1:], learner.time.flags)]


def _time(
    value: float, each: Sequence[float], after: Sequence[float], flags: tuple[str, ...]
) -> Cell:
    """A time, each of those that it is made of, and their steps where those are others."""
    hint = ", ".join(display.quantity(seconds, "s") for seconds in each)
    ends = [count(steps) for steps in dict.fromkeys((min(after), max(after)))] if after else []
    small = (f"after {' to '.join(ends)}",) if ends else ()
    return Cell(display.quantity(value, "s"), hint, flags, small=small)


def count(steps: float) -> str:
    """`230`, or `never`"""
    return display.quantity(steps, "steps").removesuffix(" steps")


def _scores(learners: Sequence[Learner], title: str) -> Table:
    """The curves of the chart at a few steps."""
    known = sorted({x for one in learners for x, _ in one.learning.median()})  # type: ignore[union-attr]
    picked = sorted({known[round(i * (len(known) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)})
    columns = [Column("Adapter"), *(Column(f"{step:g}", True) for step in picked)]
    rows = []
    for one in learners:
        assert one.learning is not None
        curve = one.learning.median()
        cells = [Cell(_score_at(curve, step)) for step in picked]
        rows.append(Row(one.adapter, one.view.anchor, tuple(cells)))
    score = learners[0].learning.score if learners[0].learning else "score"
    return table(f"{title}: {score} after so many steps, median over seeds", columns, rows)


def _score_at(curve: Curve, step: float) -> str:
    found = [y for x, y in curve if x <= step]
    return display.significant(found[-1]) if found else display.NONE


# -- the chart -------------------------------------------------------------------------------------


def _chart(data: RunData, learners: Sequence[Learner], title: str, chart_id: str) -> Chart:
    """A line per adapter, and a marker where each of its seeds reached the target. Lines become
    thinner from the first to the last, so that none hides another that runs below it."""
    assert learners[0].learning is not None
    goal = learners[0].learning
    drawn = [Line(x.adapter, (), data.adapters.index(x.adapter)) for x in learners]
    thinner = (_WIDEST - _THINNEST) / max(1, len(learners) - 1)
    traces = []
    for number, (line, learner) in enumerate(zip(drawn, learners, strict=True)):
        assert learner.learning is not None
        traces.append(_median(line, learner.learning, width=_WIDEST - number * thinner))
        traces.append(_arrivals(line, learner.learning))
    ends = [0.0, max(x for trace in traces for x in trace.x)]
    figure = go.Figure([_target(goal, ends), *traces])
    x = {"rangemode": "tozero", "nticks": 6, "tickangle": 0, **lines.titled("steps of training")}
    y = {"nticks": 6, **lines.titled(label_text(goal.score))}
    figure.update_layout(lines.frame(x, y))
    height = _PLOT + legend_height([trace.name for trace in figure.data if trace.showlegend])
    label = (
        f"Line chart. {title}: {goal.score} on held-out examples over steps of training, until "
        f"{goal.target:g}. The tables below hold the same numbers."
    )
    return Chart(chart_id, chart_json(figure), height, label)


def _target(goal: Learning, ends: Sequence[float]) -> go.Scatter:
    name = f"target {goal.target:g}"
    return go.Scatter(
        name=name,
        mode="lines",
        x=ends,
        y=[goal.target] * 2,
        line={"color": _TARGET, "dash": "dash", "width": 1.5},
        hovertemplate=f"{name}<extra></extra>",
        showlegend=True,
    )


def _median(line: Line, told: Learning, *, width: float) -> go.Scatter:
    curve = told.median()
    return go.Scatter(
        name=label_text(line.name),
        mode="lines",
        x=[x for x, _ in curve],
        y=[y for _, y in curve],
        customdata=[_hover(line.name, x, y) for x, y in curve],
        hovertemplate="%{customdata}<extra></extra>",
        line={"color": line.colour, "dash": line.dash, "width": width},
        legendgroup=label_text(line.name),
        showlegend=True,
    )


def _arrivals(line: Line, told: Learning) -> go.Scatter:
    ends = [
        curve[-1]
        for curve, steps in zip(told.curves, told.steps(), strict=True)
        if math.isfinite(steps)
    ]
    return go.Scatter(
        name=label_text(line.name),
        mode="markers",
        x=[x for x, _ in ends],
        y=[y for _, y in ends],
        customdata=[_hover(f"{line.name}, one seed,", x, y) for x, y in ends],
        hovertemplate="%{customdata}<extra></extra>",
        marker={
            "symbol": f"{line.symbol}-open",
            "size": 9,
            "color": line.colour,
            "line": {"width": 1.5},
        },
        legendgroup=label_text(line.name),
        showlegend=False,
    )


def _hover(name: str, step: float, score: float) -> str:
    return label_text(f"{name} at {step:g}: {display.significant(score)}", 120)
