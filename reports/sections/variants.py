"""What a run knows of each model in each adapter and precision: the cases that were timed, alone or
in turns with float32, and whose memory was measured, how their tensors were judged, and how
training in that precision went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports.data import QUALITY, STEADY, CaseView, RunData, quantized, width
from reports.entries import Entry, all_groups
from results import frame
from results.records import Agreement, Case

#: What the others are compared with.
BASE = "fp32"
_SUITES = (QUALITY, *STEADY)
_ANY = "any"  # in place of what does not count

#: Where training until a score ran: size, batch, recipe.
Place = tuple[str, int, str]


@dataclass(frozen=True)
class Variant:
    """An adapter in one precision.

    views     its cases: the one whose quality was assessed first, then the timed one
    entry     the published figures of all of them
    compared  its tensors as they were judged, without those whose reference cannot be used
    trained   its cases of the convergence suite, by where they ran
    """

    views: tuple[CaseView, ...]
    entry: Entry
    compared: tuple[Agreement, ...]
    trained: Mapping[Place, CaseView]

    @property
    def case(self) -> Case:
        return self.views[0].case

    @property
    def diverges(self) -> bool:
        """Whether any of its cases says that the program is wrong, or that nobody can judge it."""
        return any(
            view.status in ("divergent", "mistrusted")
            or (view.status == "ok" and not view.published)
            for view in self.views
        )

    @property
    def output(self) -> Agreement | None:
        """Its worst output."""
        outputs = (row for row in self.compared if row.quantity == "output")
        return max(outputs, key=_error, default=None)

    @property
    def worst(self) -> Agreement | None:
        """Its worst tensor of any kind."""
        return max(self.compared, key=_error, default=None)


def variants(data: RunData, *, integers: bool = False) -> dict[Case, list[Variant]]:
    """By what is the same in all of them; adapters in the page's order, the widest precision
    first. `integers`: those that are quantized and what they are compared with, else the others."""
    found: dict[Case, dict[Case, list[Entry]]] = {}
    for entry in (entry for group in all_groups(data) for entry in group.entries):
        case = entry.view.case
        if _belongs(case, integers=integers):
            alike = replace(case, suite=_ANY, adapter=_ANY, precision=_ANY)
            found.setdefault(alike, {}).setdefault(replace(case, suite=_ANY), []).append(entry)
    judged, trained = frame.agreements_by_case(data.run), _trained(data)
    rank = {adapter: number for number, adapter in enumerate(data.adapters)}
    return {
        alike: [
            _variant(members[case], judged, trained)
            for case in sorted(members, key=lambda c: (rank[c.adapter], width(c.precision)))
        ]
        for alike, members in found.items()
    }


def _belongs(case: Case, *, integers: bool) -> bool:
    steady = case.suite in STEADY
    if integers:
        return quantized(case) or (steady and case.precision == BASE)
    return steady and not quantized(case)


def _variant(
    entries: Sequence[Entry],
    judged: Mapping[Case, Sequence[Agreement]],
    trained: Mapping[Case, Mapping[Place, CaseView]],
) -> Variant:
    entries = sorted(entries, key=lambda entry: _SUITES.index(entry.view.case.suite))
    views = tuple(entry.view for entry in entries)
    figures = {metric: made for entry in entries for metric, made in entry.figures.items()}
    rows = (row for view in views for row in judged.get(view.case, ()))
    return Variant(
        views=views,
        entry=Entry(views[0], figures),
        compared=tuple(row for row in rows if _usable(row)),
        trained=trained.get(_trains_as(views[0].case), {}),
    )


def _usable(row: Agreement) -> bool:
    """Whether its error says something: beside a reference that is rounding noise none does."""
    return frame.BADNESS[row.verdict] > 0 and row.verdict != "mistrusted"


def _error(row: Agreement) -> float:
    return row.error


def _trained(data: RunData) -> dict[Case, dict[Place, CaseView]]:
    found: dict[Case, dict[Place, CaseView]] = {}
    for view in data.cases:
        case = view.case
        if case.suite == "convergence":
            place = case.size, case.batch, case.recipe
            found.setdefault(_trains_as(case), {})[place] = view
    return found


def _trains_as(case: Case) -> Case:
    """What a case has in common with training until a score, which has a size, a batch and a recipe
    of its own."""
    return replace(case, suite=_ANY, size=_ANY, batch=1, recipe="", threads=0, length=0)
