"""The judge's own trial: what it makes of planted faults, honest runs and harmless changes.

A fault is *live* in a case when it moves a judged tensor of the float64 program by more than
rounding could. Every live fault has to come out divergent, in the adapter where it was planted and
in no other; an honest run, or one with the examples in another order or the inputs moved by one
unit in the last place, has to come out divergent nowhere. A fault that moves nothing is *dead*: the
case says nothing about what the fault is in, and is mistrusted for it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from numerics import judge
from numerics.errors import normwise
from numerics.judge import Judgement, Reference, Tensors
from numerics.oracle import consensus

WRONG = ("divergent", "mistrusted")


@dataclass(frozen=True)
class Row:
    """One judged tensor of one run. `kind` is honest, control, fault, weak or dead."""

    kind: str
    name: str  # of the control or fault; of an honest run its seed
    adapter: str
    model: str
    mode: str
    recipe: str
    precision: str
    quantity: str
    tensor: str
    error: float
    floor: float | None
    ratio: float | None
    verdict: str

    @property
    def run(self) -> tuple[str, ...]:
        """What the rows of one run have in common."""
        return (self.kind, self.name, self.adapter, self.model, self.mode, self.recipe,
                self.precision)  # fmt: skip


@dataclass(frozen=True)
class Movement:
    """The judged tensor that a fault moves most, beside what rounding may: `share` of 1 is the
    limit, and above it the fault is live."""

    tensor: str
    error: float
    share: float

    @property
    def is_live(self) -> bool:
        return self.share > 1


@dataclass(frozen=True)
class Planting:
    """A fault in one adapter. `caught` names the precisions in which the judge called it divergent
    and the oracle's members it was taken out of; `accused` the adapters without any fault that came
    out divergent; `problem` says why it could not be planted, or what the oracle made of it."""

    fault: str
    adapter: str
    model: str
    mode: str
    movement: Movement
    caught: tuple[str, ...] = ()
    accused: tuple[str, ...] = ()
    problem: str = ""


def movement(clean: Tensors, faulty: Tensors, floors: Mapping[str, float]) -> Movement:
    """How far a fault moves the tensors of a float64 program."""
    reference = Reference(clean, "", floors)
    found = [Movement("none", 0.0, 0.0)]
    for name, value in clean.items():
        allowed = max(judge.IDENTITY, judge.PRECISION_EQUAL * reference.floor(name, "fp64"))
        error = normwise(faulty[name], value)
        found.append(Movement(name, error, error / allowed))
    return max(found, key=lambda movement: movement.share)


def odd_ones(
    members: Mapping[str, Tensors], floors: Mapping[str, float]
) -> tuple[Reference | None, set[str], str]:
    """The consensus of `members`, those that do not belong to it, and why there is none."""
    found = consensus(members, floors)
    return found.reference, set(found.odd), found.problem


def divergent(judgements: Iterable[Judgement]) -> bool:
    return any(judgement.verdict == "divergent" for judgement in judgements)


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Findings:
    """Everything that came of a trial."""

    rows: Sequence[Row]
    plantings: Sequence[Planting]
    failures: Sequence[str] = ()  # runs that ended in an error

    def runs(self, kind: str) -> dict[tuple[str, ...], bool]:
        """The runs of a kind -> whether the judge called them divergent or could not judge."""
        found: dict[tuple[str, ...], bool] = {}
        for row in self.rows:
            if row.kind == kind:
                found[row.run] = found.get(row.run, False) or row.verdict in WRONG
        return found

    @property
    def live(self) -> list[Planting]:
        return [p for p in self.plantings if p.movement.is_live]

    @property
    def dead(self) -> list[Planting]:
        return [p for p in self.plantings if not p.movement.is_live]

    @property
    def missed(self) -> list[Planting]:
        return [p for p in self.live if not p.caught]

    @property
    def accused(self) -> list[Planting]:
        return [p for p in self.plantings if p.accused]

    def false_alarms(self, kind: str) -> list[tuple[str, ...]]:
        return [run for run, wrong in self.runs(kind).items() if wrong]


def table(found: Findings) -> list[str]:
    """The confusion table with both counts, and what it counts by name, as lines."""
    live, missed = found.live, found.missed
    lines = [
        f"{'':34}{'divergent':>10}{'not':>6}",
        _line("live fault, where it was planted", len(live) - len(missed), len(missed)),
    ]
    for kind in ("honest", "control"):
        runs, alarms = found.runs(kind), found.false_alarms(kind)
        named = "harmless change of data" if kind == "control" else "honest run"
        lines.append(_line(named, len(alarms), len(runs) - len(alarms)))
    accused = len(found.accused)
    lines.append(_line("all others beside a fault", accused, len(found.plantings) - accused))
    for precision in ("fp64", "fp32"):
        caught = sum(precision in p.caught for p in live)
        lines.append(f"{precision} caught {caught} of {len(live)} live faults")
    told = {
        "dead (the case is mistrusted for it)": [f"{p.fault} in {p.model}" for p in found.dead],
        "missed": [f"{p.fault} in {p.adapter} {p.problem}".strip() for p in missed],
        "only fp64 caught": [p.fault for p in live if p.caught == ("fp64",)],
        "only fp32 caught": [f"{p.fault} in {p.adapter}" for p in live if p.caught == ("fp32",)],
        "wrongly accused": [f"{', '.join(p.accused)} by {p.fault}" for p in found.accused],
        "false alarms": [" ".join(r) for k in ("honest", "control") for r in found.false_alarms(k)],
        "ended in an error": list(found.failures),
    }
    lines += [f"{what}: {'; '.join(dict.fromkeys(names))}" for what, names in told.items() if names]
    return lines


def _line(what: str, divergent: int, others: int) -> str:
    return f"{what:34}{divergent:10}{others:6}"


# -- files -----------------------------------------------------------------------------------------


def write(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows as CSV, with the names of their fields on the first line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        for row in rows:
            values = [getattr(row, field.name) for field in fields(Row)]
            writer.writerow(f"{v:.4g}" if isinstance(v, float) else v for v in values)


def read(path: Path) -> list[Row]:
    """Reads what `write` wrote. Raises ValueError for anything else."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = [field.name for field in fields(Row)]
        if reader.fieldnames != names:
            raise ValueError(f"{path} has columns {reader.fieldnames}, but should have {names}")
        return [_row(record) for record in reader]


def _row(record: Mapping[str, str]) -> Row:
    numbers = {name: float(record[name]) if record[name] else None for name in ("floor", "ratio")}
    return Row(**{**record, **numbers, "error": float(record["error"])})  # type: ignore[arg-type]


def worst_of_runs(rows: Iterable[Row], *, precision: str) -> list[Row]:
    """Of every run in a precision, the row with the largest ratio; gradients that are nothing but
    noise are not judged and do not count."""
    worst: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.precision != precision or row.ratio is None or row.verdict == "null-gradient":
            continue
        kept = worst.get(row.run)
        if kept is None or (kept.ratio or 0.0) < row.ratio:
            worst[row.run] = row
    return list(worst.values())
