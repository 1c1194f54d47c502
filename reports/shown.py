"""Runs as a site shows them: those of one machine together, the newest in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from reports import traces
from reports.anchors import anchor
from reports.data import RunData, prepare
from reports.sections import versus
from reports.sections.versus import Versus
from results import describe, history, machines, trial
from results.history import Series
from results.records import Case, CaseRecord
from results.store import Run
from results.trial import Tried

UNKNOWN = "unknown-machine"
RESERVED = ("assets", "compare", "data", traces.FOLDER)  # folders of a site that are no machine's


@dataclass(frozen=True)
class Shown:
    """The runs of one machine, oldest first, and the newest of them prepared. `slug` begins the
    paths of its pages; `links` lead from traces to their files, from the root of the site."""

    slug: str
    runs: tuple[Run, ...]
    data: RunData
    links: Mapping[str, str]
    series: tuple[Series, ...]
    tried: tuple[Tried, ...]

    @property
    def run(self) -> Run:
        return self.data.run

    @property
    def machine(self) -> str:
        return describe.machine(self.run.environment) or "a machine that is not recorded"

    @cached_property
    def gated(self) -> bool:
        """Whether a gate decided something in the newest run."""
        return bool(self.run.decisions)

    @cached_property
    def paths(self) -> dict[str, str]:
        """anchor of a case -> path of its page"""
        return {view.anchor: self.case_path(view.anchor) for view in self.data.cases}

    @cached_property
    def anchors(self) -> dict[Case, str]:
        return {view.case: view.anchor for view in self.data.cases}

    def case_path(self, anchor: str) -> str:
        return f"{self.slug}/cases/{anchor.removeprefix(self.slug + '/')}.html"

    def of_model(self, model: str) -> RunData:
        """What is known of one model, as if the run held nothing else."""
        cases = tuple(view for view in self.data.cases if view.case.model == model)
        records = tuple(
            r for r in self.run.records if not isinstance(r, CaseRecord) or r.case.model == model
        )
        figures = self.data.figures
        return replace(
            self.data,
            run=replace(self.run, records=records),
            cases=cases,
            figures=figures[figures["model"] == model].reset_index(drop=True),
            hidden=frozenset(case for case in self.data.hidden if case.model == model),
        )

    @cached_property
    def comparisons(self) -> list[Versus]:
        """The newest run against earlier ones."""
        if len(self.runs) < 2:
            return []
        return [versus.versus(base, self.run) for base in versus.earlier(self.runs)]


def shown(
    runs: Sequence[Run], copy_traces: Callable[[Run], tuple[Run, dict[str, str]]]
) -> list[Shown]:
    """One per machine, that of the newest run first. A run that is given twice counts once."""
    groups: dict[str, list[Run]] = {}
    for run in sorted({str(run.folder.resolve()): run for run in runs}.values(), key=_age):
        groups.setdefault(_slug(run), []).append(run)
    found = [_shown(slug, group, copy_traces) for slug, group in groups.items()]
    return sorted(found, key=lambda one: (_age(one.run), one.slug), reverse=True)


def _slug(run: Run) -> str:
    name = anchor(machines.name(run.environment)).replace("/", "_") or UNKNOWN
    return f"{name}~" if name in RESERVED else name


def _shown(
    slug: str, runs: Sequence[Run], copy_traces: Callable[[Run], tuple[Run, dict[str, str]]]
) -> Shown:
    newest, links = copy_traces(runs[-1])
    tried, problem = trial.read(newest.folder)
    if problem:
        newest = replace(newest, problems=(*newest.problems, problem))
    every = (*runs[:-1], newest)
    data = prepare(newest, prefix=slug, links=links)
    return Shown(slug, every, data, links, tuple(_series(every)), tuple(tried))


def _series(runs: Iterable[Run]) -> list[Series]:
    runs = list(runs)
    return history.series(runs) if len(runs) > 1 else []


def _age(run: Run) -> tuple[str, str]:
    """Sorts runs, the oldest first; one that did not record when it ran is older than any."""
    return str(run.environment.get("started", "")), run.run_id
