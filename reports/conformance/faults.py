"""How the judge did in its own trial: every planted fault, and every run without one."""

from __future__ import annotations

from collections.abc import Sequence

from reports.badges import Badge
from reports.exhibits import Cell, Column, Row, Table
from results import display
from results.trial import KINDS, Tried

_NAMES = {"honest": "honest runs", "control": "harmless changes"}
_RIGHT, _WRONG = Badge("caught", "✓", "good"), Badge("missed", "✗", "bad")
_CALM, _ALARM = Badge("no alarm", "✓", "good"), Badge("false alarm", "✗", "bad")
_DEAD = Badge("moves nothing", "∘", "mute")


def faults(found: Sequence[Tried]) -> Table | None:
    """What should be found leads. None where the judge was not tried in this run."""
    precisions = sorted({p for tried in found for p in tried.runs}, reverse=True)
    columns = (
        Column("Tried"), Column("Kind", facet="kind"), Column("Judge", facet="judge"),
        Column("Model", facet="model"), Column("In"),
        *(Column(f"Divergent in {p}", True) for p in precisions),
    )  # fmt: skip
    order = list(KINDS)
    rows = tuple(
        Row(_NAMES.get(t.kind) or t.name.replace("_", " "), "", (
            Cell(t.kind), Cell(badge=_judged(t)), Cell(t.model or display.NONE),
            Cell(", ".join(t.adapters)),
            *(Cell(f"{t.divergent[p]} of {t.runs[p]}" if t.runs.get(p) else display.NONE)
              for p in precisions),
        ))
        for t in sorted(found, key=lambda t: (order.index(t.kind), t.name))
    )  # fmt: skip
    caption = "The judge's own trial: faults that were planted, and runs without any"
    return Table(caption, columns, rows) if rows else None


def _judged(tried: Tried) -> Badge:
    """A fault is caught where any precision shows it."""
    alarms = sum(tried.divergent.values())
    if tried.kind == "dead":
        return _DEAD
    if KINDS[tried.kind]:
        return _RIGHT if alarms else _WRONG
    return _ALARM if alarms else _CALM
