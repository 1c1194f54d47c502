"""One stored run, prepared for showing. Everything else in this package reads this."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.anchors import Anchors
from reports.badges import Badge, badge
from results import display, frame
from results.records import Agreement, Case
from results.store import Run

#: The adapter that others are compared with, where it took part.
BASELINE = "torch_eager"


@dataclass(frozen=True)
class CaseView:
    """One case as every table shows it. `published` says whether its figures may be shown."""

    case: Case
    anchor: str
    badge: Badge
    status: str
    reason: str
    seconds: float
    reproduce: str
    worst: str
    error: float
    ratio: float
    tensors: int
    published: bool
    facts: tuple[Mapping[str, Any], ...]
    tensors_shown: tuple[Agreement, ...]

    @property
    def closeness(self) -> str:
        """`1.2e-07, 0.43× floor`: error and ratio of the worst tensor; empty if not judged."""
        if not self.worst:
            return ""
        text = display.error(self.error)
        return text if math.isnan(self.ratio) else f"{text}, {display.ratio(self.ratio)} floor"


@dataclass(frozen=True)
class RunData:
    """A run, its cases in reading order, and the figures that may be shown.

    figures holds only rows of published cases (`results.frame.summary`): a speed of a case that
    is not ok cannot reach a chart or a table, because nothing else here carries figures.
    withheld counts the cases that were measured and are left out.
    """

    run: Run
    cases: tuple[CaseView, ...]
    figures: pd.DataFrame
    withheld: int
    anchors: Anchors

    @property
    def adapters(self) -> list[str]:
        """The adapters of the run, the baseline first."""
        return display.table_order([view.case.adapter for view in self.cases], BASELINE)


def prepare(run: Run, *, prefix: str = "") -> RunData:
    """Prepares a run; `prefix` begins its anchors where a page shows several runs."""
    anchors = Anchors(prefix=prefix)
    summary = frame.summary(run)
    hidden = summary[~summary["published"]]
    return RunData(
        run=run,
        cases=_views(run, anchors),
        figures=summary[summary["published"]].reset_index(drop=True),
        withheld=len(hidden[list(frame.CASE)].drop_duplicates()),
        anchors=anchors,
    )


def _views(run: Run, anchors: Anchors) -> tuple[CaseView, ...]:
    facts = frame.facts_by_case(run)
    judged = frame.agreements_by_case(run)
    rows = sorted(frame.cases(run).to_dict("records"), key=_reading_order)
    return tuple(_view(row, anchors, facts=facts, judged=judged) for row in rows)


def _reading_order(row: dict[Any, Any]) -> tuple[Any, ...]:
    """Neighbours differ in their adapter, whatever order the cases ran in."""
    place = (row["size"], row["device"], row["precision"], row["batch"], row["recipe"])
    return row["suite"], row["model"], row["mode"], *place, row["adapter"]


def _view(row: dict[Any, Any], anchors: Anchors, *, facts: Any, judged: Any) -> CaseView:
    case = Case(**{name: row[name] for name in frame.CASE})
    return CaseView(
        case=case,
        anchor=anchors.take(case.suite, case.key),
        badge=badge(row["status"], row["verdict"]),
        status=row["status"],
        reason=row["reason"],
        seconds=row["seconds"],
        reproduce=row["reproduce"],
        worst=display.tensor(row["quantity"], row["tensor"]) if row["verdict"] else "",
        error=row["error"],
        ratio=row["ratio"],
        tensors=row["tensors"],
        published=bool(row["published"]),
        facts=tuple(record.facts for record in facts.get(case, ())),
        tensors_shown=tuple(frame.worst_tensors(judged.get(case, ()))),
    )
