"""Operations and differentiation: one row per thing that is exercised, one column per adapter."""

from __future__ import annotations

from reports.conformance.attempts import Attempt, adapters_of, attempts, cell, columns, grouped, of
from reports.data import RunData
from reports.exhibits import Row, Table, Topic

_READING = (
    "A cell counts the precisions that agree, or names what does not. Open it for how close each "
    "precision came: the error in fp64, else its ratio to the noise floor, and in which exercise."
)


def operations(data: RunData) -> Topic | None:
    note = f"Every operation over its exercises, the result and its gradient. {_READING}"
    return _topic(data, "operations", "Operations", "Operation", note)


def compositions(data: RunData) -> Topic | None:
    note = f"What compilers rewrite: a few operations, written out. {_READING}"
    return _topic(data, "compositions", "Compositions", "Composition", note)


def threads(data: RunData) -> Topic | None:
    note = f"Operations on tensors that two threads divide between them. {_READING}"
    return _topic(data, "threads", "Threads", "Operation", note)


def sizes(data: RunData) -> Topic | None:
    note = (
        "Every operation at sizes around the thresholds of kernels, and of every remainder by the "
        f"widths of vectors and tiles. {_READING}"
    )
    return _topic(data, "sizes", "Sizes", "Operation", note)


def integers(data: RunData) -> Topic | None:
    note = (
        "Operations on integers and booleans at lengths around the widths of vectors, in every "
        f"layout: exact or wrong. {_READING}"
    )
    return _topic(data, "integers", "Integers", "Operation", note)


def autodiff(data: RunData) -> Topic | None:
    note = f"What differentiation is asked beyond a plain gradient. {_READING}"
    return _topic(data, "autodiff", "Differentiation", "What is asked", note)


def _topic(data: RunData, suite: str, title: str, first: str, note: str) -> Topic | None:
    found = attempts(data, lambda view: view.case.suite == suite)
    if not found:
        return None
    places = grouped(found, lambda view: (view.case.device, view.case.size))
    tables = tuple(
        _table(f"{title}, {size}, {device}", first, mine) for (device, size), mine in places.items()
    )
    example = found[0].view.reproduce
    footnotes = (f"To run one case alone, for example: {example}",) if example else ()
    return Topic(suite, title, note, tables, footnotes)


def _table(caption: str, first: str, found: list[Attempt]) -> Table:
    adapters = adapters_of(found)
    rows = []
    for subject, mine in grouped(found, lambda view: view.case.model).items():
        precisions = list(dict.fromkeys(attempt.precision for attempt in mine))
        cells = tuple(cell(of(adapter, mine), precisions) for adapter in adapters)
        rows.append(Row(subject, "", cells))
    return Table(caption, columns(first, adapters), tuple(rows), matrix=True)
