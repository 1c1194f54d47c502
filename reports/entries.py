"""Published figures, grouped so that the members of a group differ in nothing but their adapter.

Figures come from `RunData.figures` alone, which holds published cases only. A case without
figures is an entry as well, so that its row can say why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reports.data import BASELINE, CaseView, RunData, width
from reports.exhibits import Cell, Row
from results import display
from results.frame import CASE
from results.records import Case


@dataclass(frozen=True)
class Figure:
    """A median with its interval, in SI units. hint says how the interval was made, note what a
    derived figure says besides its value."""

    value: float
    low: float
    high: float
    unit: str
    flags: tuple[str, ...]
    hint: str
    note: str = ""

    @property
    def cell(self) -> Cell:
        text = display.quantity(self.value, self.unit)
        return Cell(text, self.hint, self.flags, value=self.value)

    @property
    def range(self) -> Cell:
        return Cell(display.interval(self.low, self.high, self.unit), self.hint, self.flags)


@dataclass(frozen=True)
class Entry:
    """One adapter in a group, and its published figures by metric."""

    view: CaseView
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def adapter(self) -> str:
        return self.view.case.adapter

    def get(self, metric: str) -> Figure | None:
        return self.figures.get(metric)

    def has(self, metrics: Sequence[str]) -> bool:
        return any(metric in self.figures for metric in metrics)

    def flags(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """The flags of any of the metrics."""
        found = [figure for metric in metrics if (figure := self.get(metric))]
        return tuple(sorted({flag for figure in found for flag in figure.flags}))


@dataclass(frozen=True)
class Group:
    """The entries of one configuration, the baseline first."""

    entries: tuple[Entry, ...]

    @property
    def case(self) -> Case:
        """A member: all fields but the adapter are those of every member."""
        return self.entries[0].view.case

    @property
    def names(self) -> tuple[str, ...]:
        """What an anchor of this group is made of."""
        c = self.case
        place = (c.suite, c.mode, c.model, c.size, c.precision, c.device, f"b{c.batch}")
        return *place, f"s{c.length}" * bool(c.length), f"t{c.threads}" * bool(c.threads), c.recipe

    @property
    def title(self) -> str:
        c = self.case
        return f"{display.shorten(c.model, 60)}, {c.mode}, {display.shorten(c.precision, 30)}"

    @property
    def detail(self) -> str:
        return f"{where(self.case)}, {display.shorten(self.case.suite, 60)} suite"

    def having(self, metrics: Sequence[str]) -> list[Entry]:
        return [entry for entry in self.entries if entry.has(metrics)]

    def baseline(self, metric: str) -> Entry | None:
        """Whom the others are compared with: BASELINE, else the first that has the metric."""
        having = self.having([metric])
        named = [entry for entry in having if entry.adapter == BASELINE]
        return next(iter(named or having), None)


def where(case: Case) -> str:
    """`small, cpu, batch 8, adamw`"""
    length, threads = f"length {case.length}", f"threads {case.threads}"
    point = (length * bool(case.length), threads * bool(case.threads))
    parts = (case.size, case.device, f"batch {case.batch}", *point, case.recipe)
    return ", ".join(display.shorten(part, 60) for part in parts if part)


def groups(data: RunData) -> list[Group]:
    """The groups in which something was published, by model, mode, size and precision."""
    return [group for group in all_groups(data) if any(entry.figures for entry in group.entries)]


def all_groups(data: RunData) -> list[Group]:
    """The groups of all cases: a point of a curve counts even where nobody has a figure."""
    published = _published(data.figures)
    rank = {adapter: number for number, adapter in enumerate(data.adapters)}
    found: dict[tuple[Any, ...], list[Entry]] = {}
    for view in sorted(data.cases, key=lambda view: rank[view.case.adapter]):
        entry = Entry(view, published.get(view.case, {}))
        found.setdefault(_order(view.case), []).append(entry)
    return [Group(tuple(found[order])) for order in sorted(found)]


def row(entry: Entry, metrics: Sequence[str], cells: Sequence[Cell], *, name: str = "") -> Row:
    """The line of one entry; without any of the metrics, a line that says why."""
    view = entry.view
    name = name or entry.adapter
    if not entry.has(metrics):
        return Row(name, view.anchor, badge=None if view.published else view.badge)
    return Row(name, view.anchor, tuple(cells), entry.flags(metrics))


def cell(entry: Entry, metric: str) -> Cell:
    found = entry.get(metric)
    return found.cell if found else EMPTY


def range_cell(entry: Entry, metric: str) -> Cell:
    found = entry.get(metric)
    return found.range if found else EMPTY


def relative(entry: Entry, base: Entry | None, metric: str) -> Cell:
    """The entry's figure over the baseline's."""
    mine, theirs = entry.get(metric), base.get(metric) if base else None
    if mine is None or theirs is None or theirs.value == 0:
        return EMPTY
    flags = tuple(sorted({*mine.flags, *theirs.flags}))
    ratio = mine.value / theirs.value
    return Cell(display.ratio(ratio), flags=flags, value=ratio)


def _order(case: Case) -> tuple[Any, ...]:
    place = (case.size, width(case.precision), case.device, case.batch, case.length, case.threads)
    return case.model, case.mode, *place, case.recipe, case.suite


def _published(table: pd.DataFrame) -> dict[Case, dict[str, Figure]]:
    found: dict[Case, dict[str, Figure]] = {}
    for line in table.to_dict("records"):
        if not line["published"]:  # RunData promises this; the page does not rely on it
            continue
        case = Case(**{name: line[name] for name in CASE})
        found.setdefault(case, {})[line["metric"]] = Figure(
            value=line["median"],
            low=line["low"],
            high=line["high"],
            unit=display.unit_of(line["metric"], line["unit"]),
            flags=tuple(display.flags(line["flags"])),
            hint=_hint(line),
            note=line["note"],
        )
    return found


def _hint(line: Mapping[Any, Any]) -> str:
    if math.isnan(line["low"]):
        return f"no interval: {line['note']}"
    counted = f"{line['rounds']} rounds, processes: {line['processes']}"
    return f"{line['level']:.1%} by {line['method']}; {counted}"


EMPTY = Cell(display.NONE)
