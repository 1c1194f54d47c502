"""One stored run, prepared for showing. Everything else in this package reads this."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from reports import mixed, quality
from reports.anchors import Anchors
from reports.badges import Badge, badge
from results import display, foreign, frame
from results.announce import label
from results.records import Agreement, Case, Measurement
from results.store import Run

#: The adapter that others are compared with, where it took part.
BASELINE = "torch_eager"
#: Precisions whose layers compute with integers, or with floating-point numbers of 8 bits.
QUANTIZED = (
    *("int8_dynamic", "int8_static", "int8_static_tensor", "int8_static_symmetric"),
    *("int8_static_percentile", "int8_static_entropy", "int16_static", "int8_weight_only"),
    *("int4_weight_only", "int8_qat", "int8_dynamic_legacy", "fp8_dynamic"),
)
#: Precisions in the order of the page: the widest first, then mixed ones, then quantized ones.
PRECISIONS = (
    *("fp64", "fp32", "tf32", "bf16", "fp16"),
    *("amp_bf16", "amp_fp16", "amp_bf16_native", "amp_fp16_native"),
    *QUANTIZED,
)
#: The suite that judges quantized programs on trained parameters, and those that measure them.
QUALITY = "quantization"
STEADY = ("performance", "memory", "speedup")
#: Suites whose outcome is the verdict -> what `ok` says there. Nothing in them is timed alone.
_BY_OUTCOME = {
    "convergence": "reached",
    "loss_scaling": "as specified",
    **{
        f"{stage}gate{what}": "compared"
        for stage in ("", "confirm_")
        for what in ("", "_latency", "_memory", "_cold_start")
    },
    **dict.fromkeys(("canary", "canary_again"), "compared"),
    **dict.fromkeys(foreign.TOOLS, "not judged here"),
}


def width(precision: str) -> tuple[int, str]:
    """Sorts precisions as PRECISIONS does; any other comes after them, by its name."""
    known = precision in PRECISIONS
    return PRECISIONS.index(precision) if known else len(PRECISIONS), precision


def quantized(case: Case) -> bool:
    """Whether the section on quantization shows a case; other sections leave it out."""
    return case.suite == QUALITY or (case.suite in STEADY and case.precision in QUANTIZED)


@dataclass(frozen=True)
class CaseView:
    """One case as every table shows it. `published` says whether its figures may be shown.

    conditions   what else was read while it was measured, as (name, text); only if published
    phases       where its seconds went, as (name, seconds)
    traces       profiles that lie beside the page, as (name, link)
    """

    case: Case
    anchor: str
    badge: Badge
    status: str
    verdict: str
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
    conditions: tuple[tuple[str, str], ...] = ()
    phases: tuple[tuple[str, float], ...] = ()
    traces: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """What the case is called: its key, or another tool's name of it."""
        return label(self.case)

    @property
    def configuration(self) -> tuple[Mapping[str, Any], ...]:
        """The facts without those that a section of their own shows, and without what `policies`
        and `scaled_losses` say; dtypes of weights by dtype."""
        plain = (
            {n: quality.by_dtype(v) if n == "weight_dtypes" else v
             for n, v in each.items() if not self._shown_elsewhere(n, v)}
            for each in self.facts
        )  # fmt: skip
        return tuple(facts for facts in plain if facts)

    def _shown_elsewhere(self, name: str, fact: Any) -> bool:
        if name == "quality":
            return self.published and quality.read(fact) is not None
        return name == "convergence" or mixed.told(name, fact)

    @property
    def policies(self) -> tuple[mixed.Policy, ...]:
        """What ran in which dtype; one in mixed precision, none in others."""
        found = (mixed.policy(each.get("policy")) for each in self.facts)
        return tuple(dict.fromkeys(policy for policy in found if policy))

    @property
    def scaled_losses(self) -> tuple[str, ...]:
        """What loss scaling did."""
        found = (mixed.loss_scaling(each.get("loss_scaling")) for each in self.facts)
        return tuple(line for line in found if line)

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
    hidden are the cases that were measured and are left out.
    """

    run: Run
    cases: tuple[CaseView, ...]
    figures: pd.DataFrame
    hidden: frozenset[Case]
    anchors: Anchors
    limits: pd.DataFrame

    @property
    def withheld(self) -> int:
        """How many cases were measured and are left out."""
        return len(self.hidden)

    @property
    def adapters(self) -> list[str]:
        """The adapters of the run, the baseline first."""
        return display.table_order([view.case.adapter for view in self.cases], BASELINE)

    @property
    def precisions(self) -> list[str]:
        """The precisions of the run, in the order of the page."""
        return sorted({view.case.precision for view in self.cases}, key=width)


def prepare(run: Run, *, prefix: str = "", links: Mapping[str, str] | None = None) -> RunData:
    """Prepares a run; `prefix` begins its anchors where a page shows several runs, and `links`
    lead from the traces that its facts name to their files (`reports.traces`)."""
    anchors = Anchors(prefix=prefix)
    summary = frame.summary(run)
    hidden = summary[~summary["published"] & ~summary["suite"].isin(_BY_OUTCOME)]
    return RunData(
        run=run,
        cases=_views(run, anchors, links or {}),
        figures=summary[summary["published"]].reset_index(drop=True),
        hidden=frozenset(
            Case(**line) for line in hidden[list(frame.CASE)].drop_duplicates().to_dict("records")
        ),
        anchors=anchors,
        limits=frame.limits(run),
    )


def _views(run: Run, anchors: Anchors, links: Mapping[str, str]) -> tuple[CaseView, ...]:
    facts = frame.facts_by_case(run)
    judged = frame.agreements_by_case(run)
    phases = {record.case: tuple(record.phases.items()) for record in run.outcomes}
    measured: dict[Case, list[Measurement]] = {}
    for record in run.measurements:
        measured.setdefault(record.case, []).append(record)
    rows = sorted(frame.cases(run).to_dict("records"), key=_reading_order)
    views = [_view(row, anchors, facts=facts, judged=judged) for row in rows]
    return tuple(
        replace(
            view,
            conditions=_conditions(measured.get(view.case, ())) if view.published else (),
            phases=phases.get(view.case, ()),
            traces=tuple(_traces(view.facts, links)),
        )
        for view in views
    )


def _conditions(records: Iterable[Measurement]) -> tuple[tuple[str, str], ...]:
    """(process, conditions as text); the first metric is named where a process has several
    sets."""
    found: dict[int, dict[str, list[str]]] = {}
    for record in records:
        text = ", ".join(f"{name} {value:.4g}" for name, value in record.conditions.items())
        if text:
            metrics = found.setdefault(record.process, {}).setdefault(text, [])
            metrics.append(record.metric)
    return tuple(
        (f"process {process}" + f", {metrics[0]}" * (len(sets) > 1), text)
        for process, sets in found.items()
        for text, metrics in sets.items()
    )


def _traces(facts: Iterable[Mapping[str, Any]], links: Mapping[str, str]) -> list[tuple[str, str]]:
    named = [each.get("trace") for each in facts]
    return [(name, links[name]) for name in named if isinstance(name, str) and name in links]


def _reading_order(row: dict[Any, Any]) -> tuple[Any, ...]:
    """Neighbours differ in their adapter, whatever order the cases ran in."""
    place = [row["size"], row["device"], width(row["precision"])]
    point = [row[name] for name in ("batch", "length", "threads", "recipe")]
    return row["suite"], row["model"], row["mode"], *place, *point, row["adapter"]


def _view(row: dict[Any, Any], anchors: Anchors, *, facts: Any, judged: Any) -> CaseView:
    case = Case(**{name: row[name] for name in frame.CASE})
    return CaseView(
        case=case,
        anchor=anchors.take(case.suite, case.key),
        badge=badge(row["status"], row["verdict"] or _BY_OUTCOME.get(case.suite, "")),
        status=row["status"],
        verdict=row["verdict"],
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
