"""The pieces that sections are made of: tables as data, and charts with the table that says the
same in words. Templates turn them into HTML and escape every text."""

from __future__ import annotations

from dataclasses import dataclass

from reports.badges import Badge


@dataclass(frozen=True)
class Column:
    """A column heading; `number` aligns it to the right, `hint` explains it. A column with a
    `facet` has so few values that a site filters rows by them, under that name in its URL."""

    name: str
    number: bool = False
    hint: str = ""
    facet: str = ""


@dataclass(frozen=True)
class Cell:
    """A figure as text; `flags` are what makes this very figure less trustworthy, `badge` stands
    instead of a figure and `anchor` links to the case it is about. `small` are short lines below
    it, and `more` lines that a reader opens. `value` is the number that a column is sorted by and
    that a download holds, in SI units."""

    text: str = ""
    hint: str = ""
    flags: tuple[str, ...] = ()
    badge: Badge | None = None
    anchor: str = ""
    small: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table.

    name    what the row is about, a link to `anchor` where there is one
    cells   one per further column; empty for a row without figures
    flags   what makes the row's figures less trustworthy
    badge   why there are no figures
    detail  what else there is to say about what the row is about
    why     what to say beside the badge of a row without figures
    heading whether it is the title of the rows that follow, and has no cells
    """

    name: str
    anchor: str
    cells: tuple[Cell, ...] = ()
    flags: tuple[str, ...] = ()
    badge: Badge | None = None
    detail: str = ""
    heading: bool = False
    why: str = ""


@dataclass(frozen=True)
class Table:
    """`matrix`: a column per adapter; the names of the rows stay in sight. `search`: on a site
    there is a field to search it, beside its facets; a page has one such table."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    matrix: bool = False
    search: bool = False


@dataclass(frozen=True)
class Chart:
    """A plotly figure: its id on the page, its JSON (escaped for a script element), the height
    to reserve in pixels, and what it shows."""

    id: str
    json: str
    height: int
    label: str


@dataclass(frozen=True)
class Exhibit:
    """A table and, where there is something to draw, its chart: beside it, unless the table has
    many columns or is `wide`."""

    table: Table
    chart: Chart | None = None
    wide: bool = False


@dataclass(frozen=True)
class Panel:
    """Exhibits about one model and mode."""

    title: str
    detail: str
    anchor: str
    exhibits: tuple[Exhibit, ...]


@dataclass(frozen=True)
class Topic:
    """Tables about one kind of conformance, and how to read them. `footnotes` come after them."""

    name: str
    title: str
    note: str
    tables: tuple[Table, ...]
    footnotes: tuple[str, ...] = ()
