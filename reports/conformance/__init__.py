"""The conformance section: tables of models, one per suite with one block of rows per mode,
precision, device and size; and what the suites of exercises found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reports.conformance import control_flow, determinism, exercises, traps, travel
from reports.data import BASELINE, CaseView, RunData, quantized, width
from reports.exhibits import Cell, Column, Table, Topic
from reports.exhibits import Row as Line
from results import display, foreign
from results.records import Case

#: Suites that have a topic of their own, in the order of the page.
TOPICS: dict[str, Callable[[RunData], Topic | None]] = {
    "operations": exercises.operations,
    "compositions": exercises.compositions,
    "threads": exercises.threads,
    "sizes": exercises.sizes,
    "integers": exercises.integers,
    "autodiff": exercises.autodiff,
    "control": control_flow.control_flow,
    "traps": traps.traps,
    "determinism": determinism.determinism,
    "travel": travel.travel,
}
#: Suites that a section of their own shows whole.
_ELSEWHERE = ("convergence",)
#: Suites whose cases are so many that those without a fault are shown in their topic alone.
EXERCISES = (
    "operations", "compositions", "threads", "sizes", "integers", "autodiff", "control", "traps",
)  # fmt: skip


def topics(data: RunData) -> list[Topic]:
    """What the suites of exercises found, where they ran."""
    made = (make(data) for make in TOPICS.values())
    return [topic for topic in made if topic is not None]


def listed(view: CaseView) -> bool:
    """Whether a case has a row of its own among all cases."""
    if quantized(view.case):
        return view.status != "unsupported"
    faultless = view.status in ("ok", "unsupported") and view.badge.tone != "bad"
    return not (view.case.suite in EXERCISES and faultless)


def unsupported(data: RunData) -> Table | None:
    """Reasons why cases without a row of their own do not run, each with its count; None where
    all do."""
    views = [v for v in data.cases if v.status == "unsupported" and not listed(v)]
    counts = Counter((v.case.suite, v.case.adapter, v.reason) for v in views)
    examples = {(v.case.suite, v.case.adapter, v.reason): v.case.key for v in reversed(views)}
    columns = (Column("Adapter"), Column("Suite"), Column("Cases", True), Column("Reason"),
               Column("For example"))  # fmt: skip
    rows = [
        Line(adapter, "", tuple(map(_plain, (suite, str(count), reason, examples[named]))))
        for named, count in sorted(counts.items())
        for suite, adapter, reason in [named]
    ]
    return Table("What else is unsupported, by reason", columns, tuple(rows)) if rows else None


def _plain(text: str) -> Cell:
    return Cell(display.visible(display.shorten(text, 200)))


@dataclass(frozen=True)
class Row:
    """A model, what tells its rows apart (batch, recipe), and one view, or None, per adapter."""

    model: str
    detail: str
    cells: tuple[CaseView | None, ...]


@dataclass(frozen=True)
class Block:
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Matrix:
    """The table of one suite."""

    suite: str
    adapters: tuple[str, ...]
    blocks: tuple[Block, ...]


def matrices(data: RunData) -> list[Matrix]:
    """One matrix per suite without a topic or section of its own, in alphabetical order."""
    views = [
        view for view in data.cases if not quantized(view.case) and not foreign.measured(view.case)
    ]
    suites = sorted({view.case.suite for view in views} - {*TOPICS, *_ELSEWHERE})
    return [_matrix(suite, [v for v in views if v.case.suite == suite]) for suite in suites]


def _matrix(suite: str, views: Sequence[CaseView]) -> Matrix:
    adapters = display.table_order([view.case.adapter for view in views], BASELINE)
    blocks: dict[tuple[Any, ...], list[CaseView]] = {}
    for view in sorted(views, key=lambda view: _block_order(view.case)):
        blocks.setdefault(_block_order(view.case), []).append(view)
    return Matrix(suite, tuple(adapters), tuple(_block(vs, adapters) for vs in blocks.values()))


def _block_order(case: Case) -> tuple[Any, ...]:
    """A block in float64 proves that the computations are the same, so it leads."""
    return width(case.precision), case.mode, case.device, case.size


def _block(views: Sequence[CaseView], adapters: Sequence[str]) -> Block:
    case = views[0].case
    rows: dict[tuple[str, int, str], dict[str, CaseView]] = {}
    for view in views:
        name = (view.case.model, view.case.batch, view.case.recipe)
        rows.setdefault(name, {})[view.case.adapter] = view
    return Block(
        title=f"{case.mode}, {case.precision}, {case.size}, {case.device}",
        rows=tuple(
            Row(
                model,
                f"batch {batch}, {recipe}".removesuffix(", "),
                tuple(cells.get(a) for a in adapters),
            )
            for (model, batch, recipe), cells in sorted(rows.items())
        ),
    )
