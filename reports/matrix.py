"""The front page's tables: a model per row, an adapter per column. A cell says first whether the
adapter is right, over everything that was judged there, and then how fast it is.

A speed is there only where nothing that was judged of the same model, mode, device and precision
in that adapter is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reports.badges import MEANINGS, Badge
from reports.conformance import EXERCISES
from reports.data import BASELINE, CaseView, RunData, width
from reports.entries import Figure, Group, all_groups, where
from results import display, foreign
from results.describe import NO_OUTCOME
from results.records import Case

#: The suite whose throughput is a cell's speed.
SPEED = "performance"
METRIC = "throughput"
LEAST = 3  # models that an aggregate takes
#: Suites in which something is compared that is not a model's agreement.
_APART = ("gate", "confirm", "canary", "travel")
_MODES = ("train", "infer", "generate")
#: How bad a case is, from what says nothing to what misleads most.
_GRAVITY = (
    *("unsupported", "null-gradient", "unreferenced", "identical", "bitwise", "rounding-equal"),
    *("precision-equal", NO_OUTCOME, "interrupted"),
    *("deviation", "mistrusted", "timeout", "out_of_memory", "failed", "crashed", "divergent"),
)


@dataclass(frozen=True)
class Speed:
    """A cell's throughput, in examples per second, and the case that it is of. `relative` is over
    the baseline's and `apart` says whether the two intervals are; both are None where the baseline
    has no speed, or is this one."""

    figure: Figure
    anchor: str
    relative: float | None = None
    apart: bool | None = None

    @property
    def text(self) -> str:
        return display.quantity(self.figure.value, "1/s")

    @property
    def interval(self) -> str:
        return display.interval(self.figure.low, self.figure.high, "1/s")


@dataclass(frozen=True)
class Spot:
    """What is known of one adapter. badge and anchor are those of its worst case, of `cases` in
    all; `meaning` is what the badge says, and `why` that case's reason."""

    adapter: str
    badge: Badge
    anchor: str
    cases: int
    meaning: str = ""
    why: str = ""
    speed: Speed | None = None


@dataclass(frozen=True)
class Row:
    """A model; `detail` says which configuration the speeds are of."""

    model: str
    detail: str
    spots: tuple[Spot | None, ...]


@dataclass(frozen=True)
class Mean:
    """Geometric means of throughputs over the baseline's, by adapter, over the `models` that all
    adapters with a speed share, out of `of` with any speed. No means where there are too few."""

    ratios: tuple[float | None, ...]
    models: int
    of: int


@dataclass(frozen=True)
class Table:
    """One mode, precision and device. `baseline` is whom speeds are compared with."""

    mode: str
    precision: str
    device: str
    adapters: tuple[str, ...]
    baseline: str
    rows: tuple[Row, ...]
    mean: Mean | None

    @property
    def title(self) -> str:
        return f"{self.mode}, {display.shorten(self.precision, 30)}, {self.device}"


def tables(data: RunData, baseline: str = BASELINE) -> list[Table]:
    """What readers look for first leads: tables with speeds, training, the widest precision."""
    views: dict[tuple[str, str, str], list[CaseView]] = {}
    for view in data.cases:
        if about_a_model(view.case):
            views.setdefault(_place(view.case), []).append(view)
    speeds: dict[tuple[str, str, str], dict[str, Group]] = {}
    for group in all_groups(data):
        if group.case.suite == SPEED and group.having([METRIC]):
            found = speeds.setdefault(_place(group.case), {})
            if _standard(group) >= _standard(found.get(group.case.model)):
                found[group.case.model] = group
    made = [_table(place, views[place], speeds.get(place, {}), baseline) for place in views]
    return sorted(made, key=_order)


def about_a_model(case: Case) -> bool:
    """Whether a case is about a model of the zoo, and not about an exercise or a comparison."""
    apart = foreign.measured(case) or case.suite.startswith(_APART)
    return case.suite not in EXERCISES and not apart


def _place(case: Case) -> tuple[str, str, str]:
    return case.mode, case.precision, case.device


def _standard(group: Group | None) -> tuple[int, int, int]:
    """Sorts configurations of a model: most adapters with a speed first, then the largest."""
    if group is None:
        return (0, 0, 0)
    sizes = {"tiny": 0, "small": 1, "full": 2}
    having = len(group.having([METRIC]))
    plain = not (group.case.length or group.case.threads or group.case.recipe)
    return having, sizes.get(group.case.size, 3) * 2 + plain, group.case.batch


def _order(table: Table) -> tuple[object, ...]:
    mode = _MODES.index(table.mode) if table.mode in _MODES else len(_MODES)
    return table.device, table.mean is None, width(table.precision), mode


def _table(
    place: tuple[str, str, str],
    views: Sequence[CaseView],
    speeds: dict[str, Group],
    baseline: str,
) -> Table:
    adapters = display.table_order([view.case.adapter for view in views], baseline)
    spots: dict[str, dict[str, list[CaseView]]] = {}
    for view in views:
        spots.setdefault(view.case.model, {}).setdefault(view.case.adapter, []).append(view)
    chosen = _baseline(adapters, speeds.values(), baseline)
    rows = []
    for model in sorted(spots):
        group = speeds.get(model)
        cells = [_spot(adapter, spots[model].get(adapter, []), group) for adapter in adapters]
        base = next((s.speed for s in cells if s and s.adapter == chosen), None)
        detail = _detail(group.case) if group else ", ".join(_sizes(spots[model].values()))
        rows.append(Row(model, detail, tuple(_versus(spot, base, chosen) for spot in cells)))
    return Table(*place, tuple(adapters), chosen, tuple(rows), _mean(rows, adapters, chosen))


def _detail(case: Case) -> str:
    """What the title of the table does not say."""
    return ", ".join(part for part in where(case).split(", ") if part != case.device)


def _sizes(views: Iterable[Sequence[CaseView]]) -> list[str]:
    return sorted({view.case.size for found in views for view in found})


def _baseline(adapters: Sequence[str], groups: Iterable[Group], wanted: str) -> str:
    """Whom the speeds of a table are compared with: `wanted`, else the first that has one."""
    having = {entry.adapter for group in groups for entry in group.having([METRIC])}
    return next((a for a in adapters if a == wanted and a in having),
                next((a for a in adapters if a in having), ""))  # fmt: skip


def _spot(adapter: str, views: Sequence[CaseView], group: Group | None) -> Spot | None:
    if not views:
        return None
    worst = max(views, key=lambda view: (_gravity(view), view.ratio if view.published else 0.0))
    entry = next((e for e in group.entries if e.adapter == adapter), None) if group else None
    figure = entry.get(METRIC) if entry else None
    speed = Speed(figure, entry.view.anchor) if entry and figure else None
    right = _gravity(worst) < _GRAVITY.index("deviation")
    return Spot(
        adapter, worst.badge, worst.anchor, len(views), _meaning(worst),
        "" if right else worst.reason, speed if right else None,
    )  # fmt: skip


def _meaning(view: CaseView) -> str:
    return MEANINGS.get(view.verdict if view.status == "ok" else view.status, "")


def _gravity(view: CaseView) -> int:
    """Where a case stands in _GRAVITY. A status or a verdict that is not known there is grave."""
    if view.status != "ok":
        name = view.status
    elif view.verdict:
        name = view.verdict
    else:
        return 0 if view.badge.tone in ("good", "mute") else len(_GRAVITY)
    return _GRAVITY.index(name) if name in _GRAVITY else len(_GRAVITY)


def _versus(spot: Spot | None, base: Speed | None, baseline: str) -> Spot | None:
    if spot is None or spot.speed is None or base is None or spot.adapter == baseline:
        return spot
    mine, theirs = spot.speed.figure, base.figure
    if theirs.value <= 0:
        return spot
    bounds = (mine.low, mine.high, theirs.low, theirs.high)
    apart = None if any(map(math.isnan, bounds)) else not (
        mine.low <= theirs.high and theirs.low <= mine.high)  # fmt: skip
    speed = Speed(mine, spot.speed.anchor, mine.value / theirs.value, apart)
    return replace(spot, speed=speed)


def _mean(rows: Sequence[Row], adapters: Sequence[str], baseline: str) -> Mean | None:
    """None where no adapter has a speed."""
    speeds = [
        [s.speed.figure.value if s and s.speed else math.nan for s in row.spots] for row in rows
    ]
    having = [
        place for place in range(len(adapters)) if any(not math.isnan(s[place]) for s in speeds)
    ]
    if not having:
        return None
    some = [s for s in speeds if not all(map(math.isnan, s))]
    common = [s for s in some if not any(math.isnan(s[place]) or s[place] <= 0 for place in having)]
    ratios: list[float | None] = [None] * len(adapters)
    if len(common) >= LEAST:
        base = adapters.index(baseline)
        for place in having:
            logs = [math.log(s[place] / s[base]) for s in common]
            ratios[place] = math.exp(math.fsum(logs) / len(logs))
    return Mean(tuple(ratios), len(common), len(some))
