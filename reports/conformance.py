"""The conformance tables: model by adapter, one table per suite, one block of rows per mode,
precision, device and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.data import BASELINE, CaseView, RunData
from results import display
from results.records import Case

#: Widest first: a block in float64 proves that the computations are the same, so it leads.
_PRECISIONS = ("fp64", "fp32", "tf32", "amp_bf16", "amp_fp16")


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
    """One matrix per suite, in alphabetical order."""
    suites = sorted({view.case.suite for view in data.cases})
    return [_matrix(suite, [v for v in data.cases if v.case.suite == suite]) for suite in suites]


def _matrix(suite: str, views: Sequence[CaseView]) -> Matrix:
    adapters = display.table_order([view.case.adapter for view in views], BASELINE)
    blocks: dict[tuple[Any, ...], list[CaseView]] = {}
    for view in sorted(views, key=lambda view: _block_order(view.case)):
        blocks.setdefault(_block_order(view.case), []).append(view)
    return Matrix(suite, tuple(adapters), tuple(_block(vs, adapters) for vs in blocks.values()))


def _block_order(case: Case) -> tuple[Any, ...]:
    known = case.precision in _PRECISIONS
    rank = _PRECISIONS.index(case.precision) if known else len(_PRECISIONS)
    return rank, case.precision, case.mode, case.device, case.size


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
