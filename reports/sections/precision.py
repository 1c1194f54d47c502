"""The section on precision: what each one brings in speed and memory, and what it costs in
accuracy. A table per model, a block per adapter, a row per precision; each is compared with float32
in the same adapter."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from reports.charts.panels import table
from reports.data import QUANTIZED, CaseView, RunData
from reports.entries import EMPTY, Figure, cell, relative, where
from reports.exhibits import Cell, Column, Exhibit, Panel, Row
from reports.sections.convergence import count, learning
from reports.sections.performance import PARTS
from reports.sections.tradeoff import ERROR, LEAST, Mark, tradeoff
from reports.sections.variants import BASE, Place, Variant, variants
from results import display
from results.records import Case

_SPEED, _PAIRED = "throughput", "speedup"
#: The first that was measured stands for the memory of a step.
_PEAKS = (
    ("device_peak_bytes", Column("Peak on the device", True, "over steady steps")),
    ("step_peak_bytes", Column("Peak of a step", True, "above what is held between steps")),
    ("host_peak_bytes", Column("Peak", True, "over steady steps, above that before the build")),
)

#: Makes a cell of a variant and, where there is one, of the same adapter in BASE.
Maker = Callable[[Variant, Variant | None], Cell]


def precision(data: RunData) -> list[Panel]:
    """One panel per model, mode, size and device of which something was published and that some
    adapter was asked for in several precisions."""
    return [
        _panel(data, case, found)
        for case, found in variants(data).items()
        if any(v.entry.figures for v in found) and len({v.case.adapter for v in found}) < len(found)
    ]


def _panel(data: RunData, case: Case, variants: Sequence[Variant]) -> Panel:
    title = f"{display.shorten(case.model, 60)}, {case.mode}"
    columns = _columns(variants)
    rows: list[Row] = []
    marks: list[Mark] = []
    for adapter in dict.fromkeys(v.case.adapter for v in variants):
        mine = [v for v in variants if v.case.adapter == adapter]
        base = next((v for v in mine if v.case.precision == BASE), None)
        rows.append(Row(adapter, "", heading=True))
        rows += [_row(variant, base, columns) for variant in mine]
        marks += [mark for v in mine if (mark := _mark(v, base)) is not None]
    named = ("precision", case.key)
    caption = f"Speed, memory and accuracy by precision, {title}"
    shown = table(caption, [Column("Precision"), *(column for column, _ in columns)], rows)
    order = [name for name in data.precisions if name not in QUANTIZED]
    chart_id = data.anchors.take("chart", *named) if marks else ""
    drawn = tradeoff(data, marks, order, ERROR, chart_id, caption) if marks else None
    return Panel(title, where(case), data.anchors.take(*named), (Exhibit(shown, drawn, wide=True),))


def _row(variant: Variant, base: Variant | None, columns: Sequence[tuple[Column, Maker]]) -> Row:
    cells = tuple(make(variant, base) for _, make in columns)
    flags = tuple(sorted({flag for each in cells for flag in each.flags}))
    return Row(variant.case.precision, variant.views[0].anchor, cells, flags)


def _columns(variants: Sequence[Variant]) -> list[tuple[Column, Maker]]:
    """Those for which any of the variants has something."""
    there = {metric for variant in variants for metric in variant.entry.figures}
    columns: list[tuple[Column, Maker]] = [(Column("Verdict"), _verdict)]
    if _SPEED in there:
        columns.append((Column("Examples/s", True, "throughput, median and interval"), _speed))
    if there & {_SPEED, _PAIRED}:
        hint = f"how many times faster than the same adapter in {BASE}: above 1 is faster"
        columns.append((Column(f"vs {BASE}", True, hint), _faster))
    columns += [(column, _peak(metric)) for metric, column in _PEAKS if metric in there][:1]
    columns += [(Column(name.capitalize(), True), _of(m)) for m, name in PARTS if m in there]
    hint = "normwise and relative, against the float64 reference"
    columns.append((Column("Output error", True, hint), _output))
    columns.append((Column("Largest error", True, f"{hint}, of all tensors"), _worst))
    places = sorted({place for variant in variants for place in variant.trained})
    return [*columns, *(_steps(place) for place in places)]


def _verdict(variant: Variant, base: Variant | None) -> Cell:
    """How the first of its cases ended and, where figures of one are withheld, the others; with the
    reasons."""
    first, *others = variant.views
    told = [view for view in others if not (first.published and view.published)]
    lines = [f"{v.case.suite}: {v.badge.text}" for v in told if v.badge != first.badge]
    why = [view for view in variant.views if view.reason]
    return Cell(
        badge=first.badge,
        small=(*lines, *(view.reason.splitlines()[0] for view in why[:1])),
        more=tuple(f"{view.case.suite}: {view.reason}" for view in why),
        anchor=why[0].anchor if why else "",
    )


def _speed(variant: Variant, base: Variant | None) -> Cell:
    found = variant.entry.get(_SPEED)
    if found is None:
        return EMPTY
    return replace(found.cell, small=() if math.isnan(found.low) else (found.range.text,))


def _faster(variant: Variant, base: Variant | None) -> Cell:
    """From paired rounds, which have an interval, where there are such."""
    paired = _paired(variant, base)
    if paired is None:
        return _versus(_SPEED, variant, base)
    hint = f"paired rounds with {BASE}; {paired.hint}"
    small = () if math.isnan(paired.low) else (paired.range.text,)
    return replace(paired.cell, hint=hint, small=small)


def _paired(variant: Variant, base: Variant | None) -> Figure | None:
    return None if base is not None and base.diverges else variant.entry.get(_PAIRED)


def _peak(metric: str) -> Maker:
    """A peak of memory, and below it how that compares."""

    def made(variant: Variant, base: Variant | None) -> Cell:
        shown, ratio = cell(variant.entry, metric), _versus(metric, variant, base)
        if ratio.text == display.NONE:
            return shown
        flags = tuple(sorted({*shown.flags, *ratio.flags}))
        return replace(shown, small=(f"{ratio.text} {BASE}",), hint=ratio.hint, flags=flags)

    return made


def _of(metric: str) -> Maker:
    return lambda variant, base: cell(variant.entry, metric)


def _versus(metric: str, variant: Variant, base: Variant | None) -> Cell:
    """The ratio; on hovering, what it is made of, since it has no interval of its own."""
    mine, theirs = variant.entry.get(metric), base.entry.get(metric) if base else None
    if mine is None:
        return EMPTY
    if base is None or theirs is None:
        return replace(EMPTY, hint=f"there is no figure in {BASE} to compare with")
    made_of = f"{_in_full(mine)} over {_in_full(theirs)}"
    return replace(relative(variant.entry, base.entry, metric), hint=made_of)


def _in_full(figure: Figure) -> str:
    """`1,000 (995 to 1,004)`"""
    return f"{figure.cell.text} ({figure.range.text})".removesuffix(f" ({display.NONE})")


def _output(variant: Variant, base: Variant | None) -> Cell:
    found = variant.output
    return Cell(display.error(found.error)) if found else EMPTY


def _worst(variant: Variant, base: Variant | None) -> Cell:
    found = variant.worst
    if found is None:
        return EMPTY
    return Cell(display.error(found.error), small=(display.tensor(found.quantity, found.tensor),))


def _steps(place: Place) -> tuple[Column, Maker]:
    """Steps to the target in the convergence suite, at one size, batch and recipe."""
    size, batch, recipe = place
    hint = ", ".join(part for part in ("median over seeds", recipe) if part)
    column = Column(f"Steps to target ({size}, b{batch})", True, hint)

    def made(variant: Variant, base: Variant | None) -> Cell:
        view = variant.trained.get(place)
        if view is None:
            return EMPTY
        mine, theirs = _median(view), _median(base.trained.get(place)) if base else ""
        beside = (f"{BASE}: {theirs}",) if theirs and variant is not base else ()
        if not mine:
            return Cell(badge=view.badge, small=beside, anchor=view.anchor)
        ended = (view.badge.text,) if view.status != "ok" else ()
        return Cell(mine, small=(*ended, *beside), anchor=view.anchor)

    return column, made


def _median(view: CaseView | None) -> str:
    """`230`, or `never`; empty where nobody learnt."""
    told = learning(view) if view else None
    if told is None:
        return ""
    return count(statistics.median(told.steps()))


def _mark(variant: Variant, base: Variant | None) -> Mark | None:
    """Where it lies in the chart; None without an error or without a speed to compare."""
    output = variant.output
    if output is None or not math.isfinite(output.error):
        return None
    paired = _paired(variant, base)
    mine, theirs = (v.entry.get(_SPEED) if v else None for v in (variant, base))
    if paired is not None:
        speed, flags = paired.value, paired.flags
    elif mine is None or theirs is None or not theirs.value:
        return None
    else:
        speed, flags = mine.value / theirs.value, tuple(sorted({*mine.flags, *theirs.flags}))
    case = variant.case
    told = f"{display.ratio(speed)}, error {display.error(output.error)}"
    return Mark(case.adapter, case.precision, max(output.error, LEAST), speed, told, flags)
