"""Agreement tensor by tensor: which layer, in which step, is how far from the reference in which
adapter; and how far two adapters can be from each other.

Records keep no tensors, so the distance of two adapters is bounded by the triangle inequality:
||a - b|| <= ||a - r|| + ||b - r||, hence their errors, relative to the reference r, add up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reports.data import BASELINE, CaseView, RunData, width
from reports.entries import where
from reports.exhibits import Cell, Column, Exhibit, Panel, Row, Table
from reports.matrix import about_a_model
from results import display, frame
from results.records import Agreement, Case

SHOWN = 25  # tensors of a table, the worst first
Judged = Mapping[tuple[str, str], Agreement]


def tensors(data: RunData) -> list[Panel]:
    """One panel per configuration in which at least two adapters were judged."""
    judged = frame.agreements_by_case(data.run)
    groups: dict[tuple[object, ...], list[CaseView]] = {}
    for view in data.cases:
        if view.case in judged and about_a_model(view.case):
            groups.setdefault(_alike(view.case), []).append(view)
    panels = []
    for views in (groups[key] for key in sorted(groups, key=str)):
        found = {v.case.adapter: (v, _by_tensor(judged[v.case])) for v in views}
        if len(found) > 1:
            panels.append(_panel(data, found))
    return sorted(panels, key=lambda panel: panel.anchor)


def _alike(case: Case) -> tuple[object, ...]:
    point = (case.batch, case.length, case.threads, case.recipe)
    return case.suite, case.mode, case.model, case.size, case.device, case.precision, *point


def _by_tensor(rows: Sequence[Agreement]) -> Judged:
    """The worst comparison of each tensor; null gradients are no comparison."""
    found: dict[tuple[str, str], Agreement] = {}
    for row in rows:
        if frame.BADNESS[row.verdict] == 0:
            continue
        name = row.quantity, row.tensor
        if name not in found or row.error > found[name].error:
            found[name] = row
    return found


def _panel(data: RunData, found: Mapping[str, tuple[CaseView, Judged]]) -> Panel:
    adapters = display.table_order(list(found), BASELINE)
    case = found[adapters[0]][0].case
    title = f"{case.mode}, {display.shorten(case.precision, 30)}"
    detail = f"{where(case)}, {display.shorten(case.suite, 60)} suite"
    named = [f"{width(case.precision)[0]:02d}", case.precision, case.mode, case.suite, case.size]
    anchor = data.anchors.take("tensors", *named, case.device, f"b{case.batch}", case.recipe,
                               *(f"{n}{x}" for n, x in (("s", case.length), ("t", case.threads))
                                 if x))  # fmt: skip
    judged = {adapter: found[adapter][1] for adapter in adapters}
    exhibits = [Exhibit(_table(adapters, found, title))]
    if sum(bool(rows) for rows in judged.values()) > 1:
        exhibits.append(Exhibit(_pairs(adapters, judged, title)))
    return Panel(title, detail, anchor, tuple(exhibits))


def _table(
    adapters: Sequence[str], found: Mapping[str, tuple[CaseView, Judged]], title: str
) -> Table:
    names = {name for _, judged in found.values() for name in judged}
    worst = sorted(names, key=lambda name: (-_far(name, found), name))
    rows = tuple(
        Row(display.tensor(*name), "", tuple(_cell(*found[a], name) for a in adapters))
        for name in worst[:SHOWN]
    )
    rest = len(worst) - len(rows)
    more = f", the worst {len(rows)} of {len(worst)}" if rest > 0 else ""
    columns = (Column("Tensor"), *(Column(display.shorten(a, 40), True) for a in adapters))
    caption = f"Error over the noise floor, or relative error where there is none: {title}{more}"
    return Table(caption, columns, rows)


def _far(name: tuple[str, str], found: Mapping[str, tuple[CaseView, Judged]]) -> float:
    rows = [judged[name] for _, judged in found.values() if name in judged]
    return max((row.error if row.ratio is None else row.ratio for row in rows), default=0.0)


def _cell(view: CaseView, judged: Judged, name: tuple[str, str]) -> Cell:
    row = judged.get(name)
    if row is None:
        return Cell(display.NONE)
    floor = "no floor" if row.floor is None else f"floor {display.error(row.floor)}"
    hint = f"{display.verdict(row.verdict)}; relative error {display.error(row.error)}, {floor}"
    text = display.error(row.error) if row.ratio is None else display.ratio(row.ratio)
    bad = (display.verdict(row.verdict),) if frame.BADNESS[row.verdict] > 4 else ()
    return Cell(text, hint, anchor=view.anchor, small=bad)


def _pairs(adapters: Sequence[str], judged: Mapping[str, Judged], title: str) -> Table:
    """For each two adapters the largest bound over the tensors that both have."""
    rows = tuple(
        Row(one, "", tuple(_bound(judged[one], judged[other], one == other) for other in adapters))
        for one in adapters
    )
    columns = (Column("Adapter"), *(Column(display.shorten(a, 40), True) for a in adapters))
    caption = (
        "How far two adapters are from each other at most, on their worst tensor: the sum of their "
        f"errors, relative to the reference. {title}"
    )
    return Table(caption, columns, rows)


def _bound(one: Judged, other: Judged, same: bool) -> Cell:
    if same:
        return Cell(display.NONE, "the same adapter")
    both = {name: one[name].error + other[name].error for name in one if name in other}
    if not both:
        return Cell(display.NONE, "no tensor in common")
    worst = max(both, key=lambda name: both[name])
    number = both[worst]
    text = "∞" if math.isinf(number) else f"≤ {display.error(number)}"
    return Cell(text, f"on {display.tensor(*worst)}, of {len(both)} tensors")
