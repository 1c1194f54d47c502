"""The scorecards of a run: adapter by section of the suite."""

from __future__ import annotations

from reports.badges import Badge
from reports.data import BASELINE, RunData
from reports.exhibits import Cell, Column, Row, Table, Topic
from results import display, scorecard
from results.scorecard import Card, Section

_NOTE = (
    "Passed items of all that were run. An item is an operation, a model, a recipe or a trap, in "
    "all of its precisions; it is unsupported only where nothing about it runs. A deviation is a "
    "comparison that differs for a known reason."
)


def scorecards(data: RunData) -> Topic | None:
    """None where nothing is to be counted."""
    by_adapter = {card.adapter: card for card in scorecard.cards(data.run.records)}
    if not by_adapter:
        return None
    cards = [by_adapter[name] for name in display.table_order(list(by_adapter), BASELINE)]
    sections = [n for n in scorecard.SECTIONS if any(n in card.sections for card in cards)]
    columns = (
        Column("Adapter"),
        Column("Score", True, "the share of passed items among all that were run"),
        *(Column(name.capitalize()) for name in sections),
        Column("Deviations", True, "comparisons that differ for a known reason"),
    )
    rows = tuple(_row(card, sections) for card in cards)
    table = Table("Items passed, by adapter and section of the suite", columns, rows, matrix=True)
    return Topic("scorecard", "Scorecard", _NOTE, (table,), tuple(_footnotes(cards)))


def _row(card: Card, sections: list[str]) -> Row:
    part = "" if card.complete else "of a part"
    cells = [_cell(card.sections.get(name)) for name in sections]
    score = Cell(f"{card.score:.1%}", f"{card.passed} of {card.total} items")
    return Row(card.adapter, "", (score, *cells, Cell(str(card.deviations))), detail=part)


def _cell(section: Section | None) -> Cell:
    if section is None:
        return Cell("not run")
    counts = {name: getattr(section, name) for name in ("wrong", "undecided", "unsupported")}
    text = f"{section.passed}/{section.total}"
    if section.wrong:
        badge = Badge(text, "✗", "bad")
    elif section.undecided:
        badge = Badge(text, "?", "warn")
    else:
        badge = Badge(text, "✓", "good") if section.passed else Badge(text, "–", "mute")
    return Cell(badge=badge, small=tuple(f"{n} {name}" for name, n in counts.items() if n))


def _footnotes(cards: list[Card]) -> list[str]:
    """What is wrong by name, and that a run of a part proves a part."""
    notes = [
        f"{display.shorten(card.adapter, 40)}, {name}, wrong: "
        + display.shorten(", ".join(section.wrong_items), 600)
        for card in cards
        for name, section in card.sections.items()
        if section.wrong_items
    ]
    lacking: dict[tuple[str, ...], list[str]] = {}
    for card in cards:
        missing = tuple(name for name in scorecard.SECTIONS if name not in card.sections)
        lacking.setdefault(missing, []).append(display.shorten(card.adapter, 40))
    for missing, adapters in lacking.items():
        if missing:
            who = ", ".join(adapters) if len(lacking) > 1 else "This run"
            notes.append(f"{who}: only a part of the suite was run, without {', '.join(missing)}.")
    return notes
