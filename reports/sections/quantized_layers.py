"""The table about the layers of quantized programs: how well each does, which one costs most, and
what calibration found."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts.panels import table
from reports.entries import EMPTY
from reports.exhibits import Cell, Column, Row, Table
from reports.quality import Quality
from reports.sections.quantized import Program
from results import display

_SHOWN = 60  # layers of a program that a reader can open: ResNet-50 has 54
_COLUMNS = (
    Column("Precision"),
    Column("Least accurate layer", hint="SQNR of what it gives, against the float64 program"),
    Column(
        "Costs most",
        hint="what the output's SQNR gains where this layer alone is left in float64, by the "
        "integer oracle",
    ),
    Column(
        "Calibration or tuning",
        hint="how ranges of activations were found beforehand, on which data",
    ),
)


def layers(programs: Sequence[Program], title: str) -> Table | None:
    """A row per program that told of its layers; None where none did."""
    told = [(p, p.quality) for p in programs if p.quality and _tells(p.quality)]
    rows: list[Row] = []
    for adapter in dict.fromkeys(program.case.adapter for program, _ in told):
        rows.append(Row(adapter, "", heading=True))
        rows += [_row(program, q) for program, q in told if program.case.adapter == adapter]
    return table(f"{title}, layer by layer", _COLUMNS, rows) if rows else None


def _tells(found: Quality) -> bool:
    return bool(found.layers or found.gains or found.calibration)


def _row(program: Program, found: Quality) -> Row:
    cells = (_weakest(found), _costliest(found), _ranges(found))
    return Row(program.case.precision, program.anchor, cells)


def _weakest(found: Quality) -> Cell:
    rows = sorted(found.layers.items(), key=lambda pair: (pair[1], pair[0]))
    if not rows:
        return EMPTY
    more = _opened([f"{name}: {decibels(value)}" for name, value in rows])
    return Cell(rows[0][0], small=(decibels(rows[0][1]),), more=more)


def _costliest(found: Quality) -> Cell:
    """Gains of single layers do not add up: noise of one adds to that of the others."""
    rows = list(found.gains.items())
    if not rows:
        hint = "not known: what lies between layers is computed in integers as well"
        return Cell(display.NONE, hint)
    told = [f"{_gain(gain)}, to {decibels(found.alone[name])}" for name, gain in rows]
    more = _opened([f"{name}: {line}" for (name, _), line in zip(rows, told, strict=True)])
    return Cell(rows[0][0], small=(told[0],), more=more)


def _ranges(found: Quality) -> Cell:
    told = found.calibration
    if told is None:
        tuned = f"{found.tuned} steps of training with rounding" if found.tuned else display.NONE
        return Cell(tuned)
    counts = ((told.batches, "batches"), (told.examples, told.source))
    data = ", ".join(f"{count} {what}" for count, what in counts if count)
    more = _opened([
        f"{name}: {display.quantity(low, '')} to {display.quantity(high, '')}, "
        f"scale {display.quantity(scale, '')}"
        for name, (low, high, scale) in told.ranges.items()
    ])  # fmt: skip
    return Cell(told.method, small=(data,) if data else (), more=more)


def _opened(lines: list[str]) -> tuple[str, ...]:
    rest = len(lines) - _SHOWN
    return (*lines[:_SHOWN], *([f"and {rest} more"] if rest > 0 else []))


def decibels(value: float) -> str:
    return display.quantity(value, "dB")


def _gain(gain: float) -> str:
    """`+1.20 dB`"""
    sign = "+" if gain > 0 else ""
    return f"{sign}{display.significant(gain)} dB"
