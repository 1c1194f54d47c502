"""The table over all models: which adapter runs which precision rightly, and what that brings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.badges import Badge
from reports.data import RunData
from reports.exhibits import Cell, Column, Exhibit, Panel, Row, Table
from reports.sections.quantized import Program
from reports.sections.variants import BASE
from results import display

#: From best to worst; what is unsupported counts only where nothing else is known of a model.
_STATES = ("unsupported", "right", "undecided", "wrong")
_BADGES = {"wrong": ("✗", "bad"), "undecided": ("?", "warn"), "right": ("✓", "good"),
           "unsupported": ("–", "mute")}  # fmt: skip


def overview(data: RunData, programs: Sequence[Program]) -> list[Panel]:
    """One panel, unless there is but one model or nothing is quantized."""
    found = [program for program in programs if not program.is_base]
    if len({p.case.model for p in found}) < 2 or all(p.unsupported for p in found):
        return []
    able = {p.case.adapter for p in found if not p.unsupported}
    adapters = [name for name in data.adapters if name in able]
    rows = []
    for precision in dict.fromkeys(p.case.precision for p in _ordered(data, found)):
        mine = [p for p in found if p.case.precision == precision]
        cells = (_cell([p for p in mine if p.case.adapter == name]) for name in adapters)
        rows.append(Row(precision, "", tuple(cells)))
    columns = (Column("Precision"), *(Column(name) for name in adapters))
    caption = (
        "How many quantized models are right, of those asked for; from least to most, the SQNR of "
        f"their output and how many times faster than {BASE} they are"
    )
    shown = Table(caption, columns, tuple(rows), matrix=True)
    others = [p.case.adapter for p in found if p.case.adapter not in able]
    listed = ", ".join(display.shorten(name, 40) for name in display.table_order(others))
    detail = f"without {listed}, where nothing is quantized" if others else ""
    anchor = data.anchors.take("quantization", "overview")
    return [Panel("All models", display.shorten(detail, 300), anchor, (Exhibit(shown),))]


def _ordered(data: RunData, found: Sequence[Program]) -> list[Program]:
    return sorted(found, key=lambda program: data.precisions.index(program.case.precision))


def _cell(programs: Sequence[Program]) -> Cell:
    """Of one adapter in one precision."""
    if not programs:
        return Cell("not run")
    states: dict[str, str] = {}
    for program in programs:
        model = program.case.model
        states[model] = max(_state(program), states.get(model, _STATES[0]), key=_STATES.index)
    counts = Counter(states.values())
    worst = max(counts, key=_STATES.index)
    badge = Badge(f"{counts['right']}/{len(states)}", *_BADGES[worst])
    lines = [f"{counts[state]} {state}" for state in _STATES if state != "right" and counts[state]]
    sqnr = [figure.value for program in programs if (figure := program.get("sqnr")) is not None]
    speeds = [found.ratio for program in programs if (found := program.speed) is not None]
    lines += [_spread(sqnr, "dB")] if sqnr else []
    lines += [f"{_spread(speeds, '1')} {BASE}"] if speeds else []
    return Cell(badge=badge, small=tuple(lines))


def _state(program: Program) -> str:
    view = program.gravest
    if view.status == "ok":
        return "right" if view.published else "undecided"
    known = {"unsupported": "unsupported", "mistrusted": "undecided"}
    undecided = view.status in ("interrupted", "no outcome")
    return "undecided" if undecided else known.get(view.status, "wrong")


def _spread(values: Sequence[float], unit: str) -> str:
    """`38.1 to 51.0 dB`"""
    if len(values) == 1:
        return display.quantity(values[0], unit)
    return display.interval(min(values), max(values), unit)
