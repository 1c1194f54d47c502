"""Where the bound on the ratio comes from: honest runs on one side of it, planted faults on the
other.

The bound is the geometric mean of the largest ratio that an honest run came to and the smallest
ratio above that which a fault came to. Faults below the largest honest ratio are those that
rounding in float32 hides; only float64 sees them, and they are named. Weak faults, which by their
making change something by 1e-5 or less, set no bound, whatever their ratio; they are shown. Where
the two ratios are less than MIN_GAP apart there is nothing to put a bound between, and nothing may
be judged by one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from numerics import judge
from numerics.self_test import Row, read, worst_of_runs, write

RATIOS = Path(__file__).with_name("calibration.csv")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "numerics.md"
START, END = "<!-- calibration -->", "<!-- /calibration -->"
MIN_GAP = 2.0
AGREEING = ("bitwise", "rounding-equal", "precision-equal")
RESULT = ("quantity", "tensor", "error", "floor", "ratio", "verdict")
HARMLESS, PLANTED = ("honest", "control"), ("fault", "weak")


class CalibrationError(Exception):
    """There is nothing to calibrate with. The text says what is missing."""


@dataclass(frozen=True)
class Calibration:
    """What the ratios say. `above` and `below` are the faults beyond the largest honest ratio and
    those it hides, `weak` those that set no bound, all by ratio; a fault counts with the run in
    which it shows least."""

    honest: Row
    above: Sequence[Row]
    below: Sequence[Row]
    weak: Sequence[Row]

    @property
    def gap(self) -> float:
        """The smallest fault above the largest honest ratio, relative to it."""
        return _ratio(self.above[0]) / _ratio(self.honest)

    @property
    def gap_with_weak(self) -> float:
        """The gap if weak faults set a bound like any other."""
        above = [_ratio(row) for row in self.weak if _ratio(row) > _ratio(self.honest)]
        return min([*above, _ratio(self.above[0])]) / _ratio(self.honest)

    @property
    def bound(self) -> float:
        return math.sqrt(_ratio(self.above[0]) * _ratio(self.honest))

    @property
    def fine(self) -> bool:
        """Whether the gap is wide enough to judge."""
        return self.gap >= MIN_GAP


def calibrate(rows: Iterable[Row], precision: str = "fp32") -> Calibration:
    """The calibration of a precision. Raises CalibrationError."""
    worst = worst_of_runs(rows, precision=precision)
    honest = [row for row in worst if row.kind in HARMLESS]
    faults: dict[str, Row] = {}
    for row in worst:
        if row.kind in PLANTED and (
            row.name not in faults or _ratio(row) < _ratio(faults[row.name])
        ):
            faults[row.name] = row
    if not honest or not faults:
        raise CalibrationError(f"no {'faults' if honest else 'honest runs'} in {precision}")
    largest = max(honest, key=_ratio)
    every = sorted(faults.values(), key=_ratio)
    ordered = [row for row in every if row.kind == "fault"]
    weak = [row for row in every if row.kind == "weak"]
    above = [row for row in ordered if _ratio(row) > _ratio(largest)]
    if not above:
        raise CalibrationError(f"no fault is above the largest honest ratio, {largest.ratio:.3g}")
    below = ordered[: len(ordered) - len(above)]
    return Calibration(largest, above, below, weak)


def compact(rows: Iterable[Row], precision: str = "fp32") -> list[Row]:
    """The rows that matter: of every adapter and model the largest harmless ratio, and of every
    fault the run in which it shows least."""
    kept: dict[tuple[str, ...], Row] = {}
    for row in worst_of_runs(rows, precision=precision):
        harmless = row.kind in HARMLESS
        if not harmless and row.kind not in PLANTED:
            continue
        place = (row.adapter, row.model, row.mode) if harmless else (row.name,)
        key = (row.kind, *place)
        if key not in kept or (_ratio(row) > _ratio(kept[key])) == harmless:
            kept[key] = row
    return sorted(kept.values(), key=lambda row: (row.kind, _ratio(row)))


def told(found: Calibration) -> list[str]:
    """A Markdown table and what it leaves out, as lines."""
    first = found.above[0]
    hidden, weak = (
        ", ".join(f"{row.name} ({row.ratio:.2g})" for row in rows)
        for rows in (found.below, found.weak)
    )
    inside = [row.name for row in found.above if _ratio(row) <= judge.PRECISION_EQUAL]
    lines = [
        "| float32 | ratio | where |",
        "| --- | --- | --- |",
        f"| largest harmless | {found.honest.ratio:.3g} | {_where(found.honest)} |",
        f"| smallest fault above it | {first.ratio:.3g} | {first.name}, {_where(first)} |",
        f"| gap | {found.gap:.2g} | at least {MIN_GAP:g}, or nothing is judged |",
        f"| geometric mean | {found.bound:.3g} | the bound in use is {judge.PRECISION_EQUAL:g} |",
        "",
        f"{len(found.above)} faults are above the largest harmless ratio, {len(found.below)} are "
        f"not: {_decades(found)}.",
    ]
    if hidden:
        lines += ["", f"Rounding in float32 hides these, which only float64 shows: {hidden}."]
    if weak:
        lines += [
            "",
            f"Changes of 1e-5 or less, made for float64, set no bound: {weak}. "
            f"If they did, the gap would be {found.gap_with_weak:.2g}.",
        ]
    if inside:
        lines += ["", f"Above every harmless run, but below the bound: {', '.join(inside)}."]
    return lines


def rewrite(page: Path, lines: Sequence[str]) -> None:
    """Puts `lines` between the markers of `page`. Raises CalibrationError where there are none."""
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise CalibrationError(f"{page} has no {START} ... {END} to write between")
    page.write_text(
        "\n".join([before + start, "", *lines, "", end + after]), encoding="utf-8"
    )  # fmt: skip


def honest(path: Path, precision: str = "fp32") -> list[Row]:
    """Of a run's records.jsonl the largest ratio of every suite and adapter. What is divergent, for
    a known reason or none, is not honest."""
    largest: dict[tuple[str, str], Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] != "agreement" or record["verdict"] not in AGREEING:
            continue
        case = record["case"]
        if case["precision"] != precision or record["ratio"] is None:
            continue
        place = (case["suite"], case["adapter"])
        row = Row(
            "honest", case["suite"], case["adapter"], case["model"], case["mode"], case["recipe"],
            precision, *(record[name] for name in RESULT),
        )  # fmt: skip
        if place not in largest or _ratio(row) > _ratio(largest[place]):
            largest[place] = row
    return sorted(largest.values(), key=_ratio)


def main(
    source: Path | None,
    *,
    records: Path | None = None,
    ratios: Path = RATIOS,
    page: Path = PAGE,
) -> int:
    """Prints the calibration and writes it into the page: from the ratios of a run (`source`) and
    what its `records` say of honest programs, which then replace those that are kept, or from
    these. Returns 1 where the gap is too narrow to judge."""
    rows = compact(read(source)) if source else read(ratios)
    if records:
        rows += honest(records)
    found = calibrate(rows)
    if source or records:
        write(ratios, rows)
    lines = told(found)
    rewrite(page, lines)
    print("\n".join(lines))
    if not found.fine:
        print(f"\nrefuse to judge: the gap is {found.gap:.2g}, but should be at least {MIN_GAP:g}")
    return 0 if found.fine else 1


def _ratio(row: Row) -> float:
    return row.ratio or 0.0


def _where(row: Row) -> str:
    quantity = row.quantity if row.tensor == row.quantity else f"{row.quantity} {row.tensor}"
    return f"{quantity} of {row.model}, {row.adapter}"


def _decades(found: Calibration) -> str:
    """How many faults there are by the power of ten of their ratio."""
    counts: dict[int, int] = {}
    for row in (*found.below, *found.above):
        decade = math.floor(math.log10(max(_ratio(row), 1e-3)))
        counts[decade] = counts.get(decade, 0) + 1
    return ", ".join(
        f"{n} from {10.0**d:g} to {10.0 ** (d + 1):g}" for d, n in sorted(counts.items())
    )
