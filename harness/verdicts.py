"""Judgements as records and as sentences."""

from __future__ import annotations

from numerics import judge
from numerics.judge import Judgement
from results.records import Agreement, Case


def record(case: Case, row: Judgement) -> Agreement:
    """A judgement as it is kept."""
    return Agreement(
        case,
        row.quantity,
        row.tensor,
        row.error,
        row.floor,
        row.ratio,
        row.verdict,
        row.reference,
        row.reason,
    )


def divergence(bad: list[Judgement], rows: list[Judgement], *, where: str = "") -> str:
    """What is, what should be, and where: a few lines. `where` names the first wrong operation."""
    worst = judge.worst(bad)
    assert worst is not None
    if worst.ratio is None or worst.floor is None:
        bound = worst.reason or f"but should be at most {judge.IDENTITY:.0e}"
    elif worst.ratio <= judge.PRECISION_EQUAL and worst.error >= judge.CAP:
        bound = f"but should be below {judge.CAP:g}, whatever the noise floor"
    else:
        allowed = f"{judge.PRECISION_EQUAL:g} times"
        bound = (
            f"{worst.ratio:.3g} times the noise floor of {worst.floor:.2e}, but should be at most "
            f"{allowed}"
        )
    lines = [
        f"{worst.quantity} {worst.tensor}: normwise error {worst.error:.2e}, {bound}",
        f"first wrong operation: {where}" * bool(where),
        f"reference: {worst.reference}",
        f"{len(bad)} of {len(rows)} comparisons diverge",
    ]
    unwritten = [row.reason for row in bad if row.quantity == "again" and row is not worst]
    lines[1:1] = unwritten[:1]
    if worst.ratio is not None and worst.reason:
        lines.insert(1, worst.reason)
    return "\n".join(filter(None, lines))
