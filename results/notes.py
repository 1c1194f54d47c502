"""Known deviations that did not show, from the facts of cases: sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from results.records import Facts, Record


def not_shown(records: Iterable[Record], state: str) -> dict[str, str]:
    """Case's key -> what is "stale" there (an entry that says something untrue), or "absent" (one
    that shows sometimes, and did not)."""
    sentences = {}
    for record in records:
        told = record.facts.get("deviations") if isinstance(record, Facts) else None
        if isinstance(record, Facts) and isinstance(told, Mapping) and told.get(state):
            sentences[record.case.key] = "; ".join(map(str, told[state]))
    return sentences


def lines(records: Iterable[Record]) -> list[str]:
    """For a terminal: a line per case with a stale entry, and how many were absent."""
    rows = list(records)
    stale, absent = not_shown(rows, "stale"), not_shown(rows, "absent")
    found = [f"note: {key}: {what}" for key, what in stale.items()]
    if absent:
        found.append(f"note: known deviations that show sometimes did not in {', '.join(absent)}")
    return found
