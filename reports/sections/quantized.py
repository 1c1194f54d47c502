"""What a run knows of each quantized program: its cases, the worst of their verdicts, what it told
of itself, and how it compares with float32 in the same adapter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports import badges, conformance, quality
from reports.data import QUALITY, CaseView, RunData, quantized
from reports.entries import Entry, Figure
from reports.quality import Quality
from reports.sections.variants import BASE, Variant, variants
from results import display, frame
from results.records import Case

#: Seconds of a step, and how those of BASE compare in paired rounds: the better of two ratios.
STEP, PAIRED = "step_time", "speedup"
#: What the suite QUALITY measures.
_ASSESSED = ("sqnr", "top1_agreement", "kl_divergence", "score", "score_lost", "artifact_bytes")


@dataclass(frozen=True)
class Versus:
    """How many times less a program takes than BASE: above 1 is better. The bounds follow from
    those of both figures, nan where one has none."""

    ratio: float
    low: float
    high: float
    flags: tuple[str, ...]
    hint: str

    @property
    def bounded(self) -> bool:
        return not (math.isnan(self.low) or math.isnan(self.high))

    def word(self, better: str, worse: str) -> str:
        """Which of the two it is; `undecided` where the bounds do not tell."""
        low, high = (self.low, self.high) if self.bounded else (self.ratio, self.ratio)
        return better if low > 1 else worse if high < 1 else "undecided"


@dataclass(frozen=True)
class Program:
    """An adapter in one precision, and the same adapter in BASE where it has that.

    entry     its published figures; where any of its cases diverges, those of speed and memory are
              withheld, although the program that was timed may have agreed; and so is the ratio to
              a program in BASE of which that is true
    """

    variant: Variant
    entry: Entry
    base: Entry | None
    quality: Quality | None
    kernels: tuple[str, ...]

    @property
    def case(self) -> Case:
        return self.variant.case

    @property
    def views(self) -> tuple[CaseView, ...]:
        return self.variant.views

    @property
    def is_base(self) -> bool:
        return self.case.precision == BASE

    @property
    def unsupported(self) -> bool:
        return all(view.status == "unsupported" for view in self.views)

    @property
    def gravest(self) -> CaseView:
        """The case that ended worst; of those that ended ok, the one with the worst verdict."""
        return max(self.views, key=_gravity)

    @property
    def anchor(self) -> str:
        """Of the first case that has a row of its own."""
        return next((found for view in self.views if (found := link(view))), "")

    def get(self, metric: str) -> Figure | None:
        return self.entry.get(metric)

    @property
    def speed(self) -> Versus | None:
        """How many times faster than BASE: from paired rounds where there are such."""
        paired = self.get(PAIRED)
        if paired is None or self.is_base:
            return self.versus(STEP)
        hint = f"paired rounds with {BASE}; {paired.hint}"
        return Versus(paired.value, paired.low, paired.high, paired.flags, hint)

    def versus(self, metric: str) -> Versus | None:
        """None without both figures, and for BASE itself."""
        mine, theirs = self.get(metric), self.base.get(metric) if self.base else None
        if self.is_base or mine is None or theirs is None or not (mine.value and theirs.value):
            return None
        return Versus(
            ratio=theirs.value / mine.value,
            low=theirs.low / mine.high,
            high=theirs.high / mine.low if mine.low else math.inf,
            flags=tuple(sorted({*mine.flags, *theirs.flags})),
            hint=f"{_in_full(theirs)} over {_in_full(mine)}",
        )


def programs(data: RunData) -> dict[Case, list[Program]]:
    """By what is the same in all of them: those that are quantized, and BASE. What was asked for in
    BASE alone is left out."""
    found = {}
    for case, several in variants(data, integers=True).items():
        if any(quantized(view.case) for variant in several for view in variant.views):
            bases = {v.case.adapter: v for v in several if v.case.precision == BASE}
            found[case] = [_program(v, bases.get(v.case.adapter)) for v in several]
    return found


def link(view: CaseView) -> str:
    """The anchor of a case, empty where it has no row among all cases."""
    return view.anchor if conformance.listed(view) else ""


def _program(variant: Variant, base: Variant | None) -> Program:
    views = variant.views
    assessed = [view for view in views if view.case.suite == QUALITY and view.published]
    return Program(
        variant=variant,
        entry=_honest(variant, base),
        base=_honest(base, None) if base else None,
        quality=quality.of(facts for view in assessed for facts in view.facts),
        kernels=quality.kernels(facts for view in views for facts in view.facts),
    )


def _honest(variant: Variant, base: Variant | None) -> Entry:
    figures = dict(variant.entry.figures)
    if variant.diverges:
        figures = {name: figure for name, figure in figures.items() if name in _ASSESSED}
    if base and base.diverges:
        figures.pop(PAIRED, None)
    return replace(variant.entry, figures=figures)


def _gravity(view: CaseView) -> tuple[int, tuple[int, ...]]:
    if view.status == "ok":
        worst = view.tensors_shown[0].verdict if view.tensors_shown else "mistrusted"
        return 1, (frame.BADNESS[worst],)
    unsupported, place = badges.gravity(view.status)
    return (0, (0,)) if unsupported else (2, (-place,))


def _in_full(figure: Figure) -> str:
    """`1.00 ms (995 to 1,004 µs)`"""
    return f"{figure.cell.text} ({figure.range.text})".removesuffix(f" ({display.NONE})")


def adapters(data: RunData, found: Sequence[Program]) -> list[str]:
    """The adapters of programs, in the order of the page."""
    there = {program.case.adapter for program in found}
    return [name for name in data.adapters if name in there]
