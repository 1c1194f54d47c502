"""How much of the conformance suite an adapter passes: a table, JSON, and a badge.

An item is an operation, a model, a recipe, a trap: whatever a section counts. It is

    passed        everything about it that ran is right; known deviations are counted apart
    unsupported   nothing about it runs there, for a reason that its records give
    wrong         something diverged, or failed, crashed, ran out of time or memory
    undecided     there was no reference to judge it by

The score is the share of passed items among all.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from results import describe, machines
from results.badge import badge as drawn
from results.records import Agreement, Case, Outcome, Record
from results.store import Run

#: What decides which kernels a library picks: kernels are right on some processors.
PROCESSOR = ("model", "vendor", "architecture", "cores", "instruction_sets")
STATES = ("passed", "unsupported", "wrong", "undecided")
#: Section -> which cases it is about, and which name an item has there.
SECTIONS: Mapping[str, tuple[Callable[[Case], bool], Callable[[Case], str]]] = {
    "operations": (lambda c: (c.suite, c.mode) == ("operations", "infer"), lambda c: c.model),
    "their gradients": (lambda c: (c.suite, c.mode) == ("operations", "train"), lambda c: c.model),
    "compositions": (lambda c: c.suite == "compositions", lambda c: c.model),
    "threads": (lambda c: c.suite == "threads", lambda c: c.model),
    "sizes": (lambda c: c.suite == "sizes", lambda c: c.model),
    "integers": (lambda c: c.suite == "integers", lambda c: c.model),
    "models": (lambda c: (c.suite, c.mode) == ("conformance", "infer"), lambda c: c.model),
    "model gradients": (lambda c: (c.suite, c.mode) == ("conformance", "train"), lambda c: c.model),
    "training": (
        lambda c: (c.suite, c.mode) == ("conformance", "train"),
        lambda c: f"{c.model} {c.recipe}".strip(),
    ),
    "lower precision": (
        lambda c: c.suite in ("precision", "loss_scaling"),
        lambda c: f"{c.mode} {c.model} {c.precision} {c.recipe}".strip(),
    ),
    "convergence": (lambda c: c.suite == "convergence", lambda c: f"{c.model} {c.precision}"),
    "quantization": (
        lambda c: c.suite == "quantization" and c.precision != "fp32",  # what it is compared with
        lambda c: c.precision,
    ),
    "travel": (lambda c: c.suite == "travel", lambda c: f"{c.mode} {c.model} {c.recipe}".strip()),
    "autodiff": (lambda c: c.suite == "autodiff", lambda c: c.model),
    "control flow": (lambda c: c.suite == "control", lambda c: c.model),
    "traps": (lambda c: c.suite == "traps", lambda c: f"{c.model} {c.recipe}".strip()),
    "determinism": (lambda c: c.suite == "determinism", lambda c: f"{c.mode} {c.model}"),
}


@dataclass(frozen=True)
class Section:
    """One line of a card. `wrong_items` are named, in alphabetical order."""

    passed: int = 0
    unsupported: int = 0
    wrong: int = 0
    undecided: int = 0
    wrong_items: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.passed + self.unsupported + self.wrong + self.undecided


@dataclass(frozen=True)
class Card:
    """One adapter's scores. `deviations` counts comparisons that differ for a known reason."""

    adapter: str
    sections: Mapping[str, Section]
    deviations: int

    @property
    def passed(self) -> int:
        return sum(section.passed for section in self.sections.values())

    @property
    def total(self) -> int:
        return sum(section.total for section in self.sections.values())

    @property
    def score(self) -> float:
        """0 to 1."""
        return self.passed / self.total

    @property
    def complete(self) -> bool:
        """Whether every section was run."""
        return set(self.sections) == set(SECTIONS)


def cards(records: Iterable[Record]) -> list[Card]:
    """A card for every adapter of which there is anything to count, in alphabetical order: of one
    whose cases were all interrupted nothing is known, and 0% would be a verdict."""
    rows = list(records)
    outcomes = [row for row in rows if isinstance(row, Outcome)]
    agreements = [row for row in rows if isinstance(row, Agreement)]
    verdicts: dict[Case, list[Agreement]] = defaultdict(list)
    for row in agreements:
        verdicts[row.case].append(row)
    found = []
    for adapter in sorted({outcome.case.adapter for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.case.adapter == adapter]
        sections = {name: _section(name, own, verdicts) for name in SECTIONS}
        sections = {name: section for name, section in sections.items() if section.total}
        known = [r for r in agreements if r.verdict == "deviation" and r.case.adapter == adapter]
        if sections and any(outcome.status != "interrupted" for outcome in own):
            found.append(Card(adapter, sections, len(known)))
    return found


def _section(
    name: str, outcomes: Iterable[Outcome], verdicts: Mapping[Case, list[Agreement]]
) -> Section:
    about, label = SECTIONS[name]
    items: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        if about(outcome.case):
            state = _state(name, outcome, verdicts.get(outcome.case, []))
            items[label(outcome.case)].append(state)
    states = {item: _worst(found) for item, found in items.items()}
    counts = {state: list(states.values()).count(state) for state in STATES}
    wrong = tuple(sorted(item for item, state in states.items() if state == "wrong"))
    return Section(**counts, wrong_items=wrong)


def _state(section: str, outcome: Outcome, rows: Iterable[Agreement]) -> str:
    """Of one case. Gradients and training are parts of one case, told apart by its comparisons."""
    if outcome.status == "divergent" and section in ("model gradients", "training"):
        of_gradients = section == "model gradients"
        own = [row for row in rows if (row.quantity == "gradient") == of_gradients]
        return "wrong" if any(row.verdict == "divergent" for row in own) else "passed"
    known = {"ok": "passed", "unsupported": "unsupported", "mistrusted": "undecided"}
    return known.get(outcome.status, "undecided" if outcome.status == "interrupted" else "wrong")


def _worst(states: Iterable[str]) -> str:
    """Of an item's cases: unsupported only where all of them are."""
    found = set(states)
    return next(
        state for state in ("wrong", "undecided", "passed", "unsupported") if state in found
    )


def to_json(found: Iterable[Card], run: Run) -> str:
    """The cards by adapter, and what they are true of: the processor with its instruction sets,
    the libraries' versions, and the places of other machines that ran cases of the run."""
    told = run.environment
    cards_ = {
        card.adapter: {
            "score": round(card.score, 4),
            "complete": card.complete,
            "passed": card.passed,
            "total": card.total,
            "deviations": card.deviations,
            "sections": {name: asdict(section) for name, section in card.sections.items()},
        }
        for card in found
    }
    body = {
        "run": run.run_id,
        "started": told.get("started"),
        "machine": {
            "id": machines.name(told),
            "processor": _chosen(told.get("cpu"), PROCESSOR),
            "isa": told.get("isa"),
            "threads": told.get("threads"),
            "system": told.get("system"),
            "also_ran_on": sorted(set(machines.places(run.facts).values())),
        },
        "versions": {"python": told.get("python"), **describe.versions(run)},
        "adapters": cards_,
    }
    return json.dumps(body, indent=1) + "\n"


def _chosen(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those entries of a mapping; None for what it lacks, or where there is no mapping."""
    known = value if isinstance(value, Mapping) else {}
    return {name: known.get(name) for name in names}


def table(found: Iterable[Card]) -> list[str]:
    """Lines for a terminal: of every section passed/unsupported/wrong, and the score."""
    cards_ = list(found)
    names = [name for name in SECTIONS if any(name in card.sections for card in cards_)]
    head = ["adapter", *names, "score"]
    body = [[card.adapter, *(_cell(card, name) for name in names), f"{card.score:.1%}"]
            for card in cards_]  # fmt: skip
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *body)
    ]
    notes = [
        f"{card.adapter}, {name}, wrong: {', '.join(section.wrong_items)}"
        for card in cards_
        for name, section in card.sections.items()
        if section.wrong_items
    ]
    return ["passed/unsupported/wrong", *lines, *notes] if cards_ else []


def _cell(card: Card, name: str) -> str:
    section = card.sections.get(name)
    if section is None:
        return "-"
    undecided = f" ?{section.undecided}" if section.undecided else ""
    return f"{section.passed}/{section.unsupported}/{section.wrong}{undecided}"


def badge(card: Card) -> str:
    """An SVG that says how much of the suite the adapter passes."""
    label = "assay conformance"
    value = f"{card.score:.1%}" + ("" if card.complete else " of a part")
    wrong = sum(section.wrong for section in card.sections.values())
    colour = "#b3261e" if wrong else "#1b6e3c"  # both have a contrast above 4.5 with white
    told = f"{card.adapter}: {card.passed} of {card.total} passed, {wrong} wrong"
    return drawn(label, value, colour, told)
