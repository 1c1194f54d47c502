"""Traps: what the vocabulary pins, what each framework does by default, and whether what is pinned
holds in every adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reports.conformance.attempts import Attempt, adapters_of, attempts, cell, columns, of
from reports.data import RunData
from reports.exhibits import Cell, Row, Table, Topic
from results import display

_NOTE = (
    "What frameworks do differently by default. The verdict says whether what is pinned holds; "
    "below it is what the framework's own default gives on the same inputs: the same, or how far "
    "from it as a relative error. A default that an adapter shares with another adapter of its "
    "framework is told there only."
)
_NAME = re.compile(r"trap(\d{1,3})_(.+)", re.ASCII)


@dataclass(frozen=True)
class _Told:
    """What one case recorded about one trap."""

    number: int
    title: str
    pinned: str
    default: Mapping[str, Any]


def traps(data: RunData) -> Topic | None:
    found = attempts(data, lambda view: view.case.suite == "traps")
    if not found:
        return None
    titles: dict[int, _Told] = {}
    for told in (told for attempt in found for told in _told(attempt)):
        if told.title or told.number not in titles:
            titles[told.number] = told
    adapters = adapters_of(found)
    rows = []
    for (number, name), mine in _by_trap(found).items():
        title = titles.get(number)
        shown = (title.title if title else "") or name or _slug(mine)
        precisions = list(dict.fromkeys(attempt.precision for attempt in mine))
        cells = tuple(_cell(number, of(adapter, mine), precisions) for adapter in adapters)
        numbered = f"{number}. {shown}" if number else shown
        rows.append(Row(numbered, "", cells, detail=title.pinned if title else ""))
    head = columns("Trap", adapters)
    table = Table("Traps, what is pinned, and defaults", head, tuple(rows), matrix=True)
    return Topic("traps", "Traps", _NOTE, (table,))


def _by_trap(found: Sequence[Attempt]) -> dict[tuple[int, str], list[Attempt]]:
    """(number, "") -> attempts; those of no known number last, as 0 and their name. A training
    recipe may show several traps; which they are, any adapter's case may have told."""
    known: dict[tuple[str, str], list[int]] = {}
    for attempt in found:
        numbers = known.setdefault(_subject(attempt), [])
        numbers += [told.number for told in _told(attempt) if told.number not in numbers]
    traps: dict[tuple[int, str], list[Attempt]] = {}
    for attempt in found:
        named, subject = _NAME.fullmatch(attempt.view.case.model), _subject(attempt)
        mine = [int(named[1])] if named else known[subject]
        for key in [(number, "") for number in mine] or [(0, " ".join(subject).strip())]:
            traps.setdefault(key, []).append(attempt)
    return {key: traps[key] for key in sorted(traps, key=lambda key: (key[0] == 0, key))}


def _slug(found: Sequence[Attempt]) -> str:
    """The name of a trap that nobody told the title of."""
    named = _NAME.fullmatch(found[0].view.case.model)
    return named[2].replace("_", " ") if named else "without a title"


def _told(attempt: Attempt) -> list[_Told]:
    """Records are read leniently: what is no trap is left out."""
    found = []
    for facts in attempt.view.facts:
        number, default = facts.get("trap"), facts.get("default")
        if isinstance(number, bool) or not isinstance(number, int):
            continue
        title, pinned = (_text(facts.get(name)) for name in ("title", "pinned"))
        told = default if isinstance(default, Mapping) else {}
        found.append(_Told(number, title, pinned, told))
    return found


def _cell(number: int, found: list[Attempt], precisions: list[str]) -> Cell:
    """The verdict as for other exercises, and the default."""
    shown = cell(found, precisions)
    defaults = [
        told.default
        for attempt in found
        for told in _told(attempt)
        if told.number == number and told.default
    ]
    if not defaults:
        return shown
    default = defaults[0]
    told = _text(default.get("told")) or _text(default.get("problem"))
    more = (f"default: {told}",) if told else ()
    return replace(shown, small=(*shown.small, _default(default)), more=(*more, *shown.more))


def _default(default: Mapping[str, Any]) -> str:
    """`default: same`, `default: differs by 1.20e-01`; without a value it is named in words."""
    error = default.get("error")
    error = float("inf") if error == "inf" else error  # as JSON has it
    if isinstance(error, bool) or not isinstance(error, int | float):
        return "default: none"
    if default.get("same") is True:
        return "default: same"
    return f"default: differs by {display.error(float(error))}"


def _subject(attempt: Attempt) -> tuple[str, str]:
    return attempt.view.case.model, attempt.view.case.recipe


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
