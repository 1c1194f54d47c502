"""The section on quantization: whether programs of integers compute what their numbers say, what is
left of a model's quality, and what they bring in size and speed. A table per model, a block per
adapter, a row per precision; each is compared with float32 in the same adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from reports.charts.panels import table
from reports.data import RunData, quantized
from reports.entries import EMPTY, cell, where
from reports.exhibits import Cell, Chart, Column, Exhibit, Panel, Row
from reports.sections.quantized import PAIRED, STEP, Program, Versus, link, programs
from reports.sections.quantized_layers import decibels, layers
from reports.sections.quantized_overview import overview
from reports.sections.tradeoff import FASTER, SMALLER, Mark, by_sqnr, tradeoff
from reports.sections.variants import BASE
from results import display
from results.records import Case

_FILE = "artifact_bytes"
#: The first that was measured stands for the memory of a program.
_PEAKS = (
    ("device_peak_bytes", Column("Peak on the device", True, "over steady steps")),
    ("host_peak_bytes", Column("Peak memory", True, "over steady steps, above that before build")),
    ("step_peak_bytes", Column("Peak of a step", True, "above what is held between steps")),
)
_TENSORS = 5  # lines about single tensors that a reader can open

Maker = Callable[[Program], Cell]


def quantization(data: RunData) -> list[Panel]:
    """One panel over all models, then one per model, mode, size and device."""
    found = programs(data)
    together = [program for several in found.values() for program in several]
    return [*overview(data, together), *(_panel(data, case, mine) for case, mine in found.items())]


def _panel(data: RunData, case: Case, found: Sequence[Program]) -> Panel:
    title = f"{display.shorten(case.model, 60)}, {case.mode}"
    named = ("quantization", case.key)
    columns = _columns(found)
    rows: list[Row] = []
    for adapter in dict.fromkeys(program.case.adapter for program in found):
        mine = [program for program in found if program.case.adapter == adapter]
        rows.append(Row(adapter, "", heading=True))
        rows += [_row(program, columns) for program in mine if not program.unsupported]
        rows += _unsupported([program for program in mine if program.unsupported])
    caption = f"Quantization of {title}{_trained(found)}"
    shown = table(caption, [Column("Precision"), *(column for column, _ in columns)], rows)
    exhibits = [Exhibit(shown, _chart(data, found, named, caption), wide=True)]
    told = layers(found, title)
    if told is not None:
        exhibits.append(Exhibit(told))
    return Panel(title, where(case), data.anchors.take(*named), tuple(exhibits))


def _trained(found: Sequence[Program]) -> str:
    """What quality was assessed on, by the first program that tells."""
    told = next((program.quality for program in found if program.quality), None)
    if told is None:
        return ""
    parts = [f"{told.trained} steps of training in float32"] if told.trained else []
    parts += [f"{told.examples} examples that it has not seen"] if told.examples else []
    return f": after {', on '.join(parts)}" if parts else ""


# -- rows ------------------------------------------------------------------------------------------


def _row(program: Program, columns: Sequence[tuple[Column, Maker]]) -> Row:
    cells = tuple(make(program) for _, make in columns)
    flags = tuple(sorted({flag for each in cells for flag in each.flags}))
    return Row(program.case.precision, program.anchor, cells, flags)


def _unsupported(found: Sequence[Program]) -> list[Row]:
    """A row per reason, with all precisions to which it applies."""
    reasons: dict[str, list[Program]] = {}
    for program in found:
        reasons.setdefault(program.views[0].reason, []).append(program)
    rows = []
    for reason, mine in reasons.items():
        first, *others = names = [program.case.precision for program in mine]
        name = f"{len(names)} precisions" if others else first
        listed = ", ".join(display.shorten(each, 40) for each in names)
        why = f"{listed}: {reason}" if others else reason
        rows.append(Row(name, mine[0].anchor, badge=mine[0].views[0].badge, why=why))
    return rows


def _columns(found: Sequence[Program]) -> list[tuple[Column, Maker]]:
    """Those for which any of the programs has something."""
    there = {metric for program in found for metric in program.entry.figures}
    columns: list[tuple[Column, Maker]] = [(Column("Verdict"), _verdict)]
    for metric, column, make in _MAKERS:
        if metric in there or (make is _faster and PAIRED in there):
            columns.append((column, make))
    columns += [(column, _memory(name)) for name, column in _PEAKS if name in there][:1]
    if "parameter_bytes" in there:
        hint = "parameters and buffers as the framework holds them"
        columns.append((Column("Held", True, hint), _memory("parameter_bytes")))
    if any(program.kernels or program.quality for program in found):
        hint = "elements of all weights of layers; what multiplies them, read back"
        columns.append((Column("In integers", hint=hint), _integers))
    return columns


def _verdict(program: Program) -> Cell:
    """The worst of its cases, why it is no good, and to be opened what was found there."""
    worst = program.gravest
    rows = worst.tensors_shown[:_TENSORS]
    tensors = [f"{display.tensor(row.quantity, row.tensor)}: {row.reason or row.verdict}"
               for row in rows]  # fmt: skip
    reasons = [f"{v.case.suite}: {v.reason}" for v in program.views if v.reason]
    told = [] if worst.status == "ok" else worst.reason.splitlines()[:1]
    several = any(view.status != worst.status for view in program.views)
    place = [f"{worst.case.suite} suite"] if several and told else []
    return Cell(
        badge=worst.badge,
        small=(*place, *told),
        more=(*reasons, *tensors),
        anchor=link(worst),
    )


def _top1(program: Program) -> Cell:
    found, apart = program.get("top1_agreement"), program.get("kl_divergence")
    if found is None:
        return EMPTY
    small = (f"KL {apart.value:.1e}" if apart.value else "KL 0",) if apart else ()
    return Cell(_percent(found.value), flags=found.flags, small=small)


def _score(program: Program) -> Cell:
    found, lost = program.get("score"), program.get("score_lost")
    if found is None:
        return EMPTY
    name = program.quality.score if program.quality else ""
    small = (_lost(lost.value),) if lost else ()
    return Cell(display.significant(found.value), name, found.flags, small=small)


def _lost(value: float) -> str:
    if value == 0:
        return "none lost"
    word = "lost" if value > 0 else "gained"
    return f"{display.significant(abs(value), 2)} {word}"


def _file(program: Program) -> Cell:
    found, ratio = program.get(_FILE), program.versus(_FILE)
    shown = cell(program.entry, _FILE)
    if found is None or ratio is None:
        return shown
    text = (
        f"{display.ratio(ratio.ratio)} smaller"
        if ratio.ratio >= 1
        else f"{display.ratio(1 / ratio.ratio)} larger"
    )
    return Cell(shown.text, ratio.hint, ratio.flags, small=(text,))


def _step(program: Program) -> Cell:
    found = program.get(STEP)
    if found is None:
        return EMPTY
    small = () if math.isnan(found.low) else (found.range.text,)
    return Cell(found.cell.text, found.hint, found.flags, small=small)


def _faster(program: Program) -> Cell:
    found = program.speed
    if found is None:
        compared = program.is_base or program.get(STEP) is None
        return EMPTY if compared else Cell(display.NONE, f"nothing in {BASE} to compare with")
    text = f"{found.word('faster', 'slower')} {display.ratio(found.ratio)}"
    bounds = display.interval(found.low, found.high, "1") if found.bounded else "no interval"
    return Cell(text, found.hint, found.flags, small=(bounds,))


def _memory(metric: str) -> Maker:
    """Bytes, and below them how that compares."""

    def made(program: Program) -> Cell:
        shown, ratio = cell(program.entry, metric), program.versus(metric)
        if ratio is None:
            return shown
        small = (display.ratio(1 / ratio.ratio) if ratio.ratio else display.NONE,)
        return Cell(shown.text, f"{shown.hint}; below, over {BASE}", ratio.flags, small=small)

    return made


def _integers(program: Program) -> Cell:
    """The share of weights, one of the kernels, and in full what else was read back."""
    told = program.quality
    known = told is not None and 0 <= told.share <= 1 and not program.is_base
    left = told.left if told else ()
    lines = [f"kernel: {name}" for name in program.kernels]
    lines += [f"left in floating point: {', '.join(left)}"] if left else []
    if not known and not lines:
        return EMPTY
    small = tuple(display.shorten(name, 40) for name in program.kernels[:1])
    text = _percent(told.share) if known and told else display.NONE
    return Cell(text, small=small, more=tuple(lines))


def _percent(share: float) -> str:
    """`98.4%`; 100% is all, and nothing less: 2,047 of 2,048 are 99.9%."""
    return "100%" if share == 1 else f"{math.floor(share * 1000 + 1e-9) / 10:.1f}%"


#: (metric, its column, what makes its cells)
_MAKERS: tuple[tuple[str, Column, Maker], ...] = (
    (
        "sqnr",
        Column("SQNR", True, "of the output, against float64"),
        lambda program: cell(program.entry, "sqnr"),
    ),
    (
        "top1_agreement",
        Column(
            "Top-1",
            True,
            "examples whose largest logit is that of float64; and the mean Kullback-Leibler "
            "divergence from its probabilities, in nat",
        ),
        _top1,
    ),
    (
        "score",
        Column("Score", True, "the model's own, and how much of that in float64 is lost"),
        _score,
    ),
    (_FILE, Column("File", True, "the model for inference, as people ship it"), _file),
    (STEP, Column("Step", True, "median and interval"), _step),
    (
        STEP,
        Column(
            f"vs {BASE}",
            True,
            f"step time of the same adapter in {BASE} over this one: above 1 is faster; from "
            "paired rounds, else with bounds that follow from those of both",
        ),
        _faster,
    ),
)


# -- the chart -------------------------------------------------------------------------------------


def _chart(
    data: RunData, found: Sequence[Program], named: tuple[str, ...], title: str
) -> Chart | None:
    """Speed over SQNR; where nothing was timed, how much smaller files are."""
    axis, marks = FASTER, _marks(found, lambda p: p.speed, f"the speed of {BASE}")
    if not marks:
        axis, marks = SMALLER, _marks(found, lambda p: p.versus(_FILE), "smaller")
    if not marks:
        return None
    there = {view.case.precision for view in data.cases if quantized(view.case)} - {BASE}
    order = [name for name in data.precisions if name in there]
    chart_id = data.anchors.take("chart", *named)
    return tradeoff(data, marks, order, by_sqnr(marks, axis), chart_id, title)


def _marks(
    found: Sequence[Program], compared: Callable[[Program], Versus | None], what: str
) -> list[Mark]:
    """Of programs that are right and have both."""
    marks = []
    for program in found:
        sqnr, ratio = program.get("sqnr"), compared(program)
        if sqnr is None or ratio is None or program.variant.diverges:
            continue
        if not math.isfinite(ratio.ratio):
            continue
        told = f"{display.ratio(ratio.ratio)} {what}, {decibels(sqnr.value)}"
        flags = tuple(sorted({*sqnr.flags, *ratio.flags}))
        case = program.case
        marks.append(Mark(case.adapter, case.precision, sqnr.value, ratio.ratio, told, flags))
    return marks
