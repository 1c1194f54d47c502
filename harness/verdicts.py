"""Judgements as records and as sentences."""

from __future__ import annotations

import math

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
        row.ulp,
    )


def divergence(bad: list[Judgement], rows: list[Judgement], *, where: str = "") -> str:
    """What is, what should be, and where: a few lines. `where` names the first wrong operation."""
    worst = judge.earliest(bad)
    assert worst is not None
    what = f"{worst.quantity} {worst.tensor}:"
    told = worst.reason
    if worst.ratio is not None and worst.floor and worst.ratio > judge.PRECISION_EQUAL:
        bound = (
            f"{worst.ratio:.3g} times the noise floor of {worst.floor:.2e}, but should be at most "
            f"{judge.PRECISION_EQUAL:g} times"
        )
    elif worst.ratio is not None and worst.error >= judge.CAP:
        bound = f"but should be below {judge.CAP:g}, whatever the noise floor"
    else:
        bound, told = told or f"but should be at most {judge.IDENTITY:.0e}", ""
    headline = f"{what} normwise error {worst.error:.2e}, {bound}"
    if math.isinf(worst.error) and worst.reason:  # there is nothing to take a norm of
        headline, told = f"{what} {worst.reason}", ""
    lines = [
        headline,
        told,
        f"first wrong operation: {where}" * bool(where),
        f"reference: {worst.reference}",
        f"{len(bad)} of {len(rows)} comparisons diverge",
    ]
    unwritten = [row.reason for row in bad if row.quantity == "again" and row is not worst]
    lines[2:2] = unwritten[:1]
    return "\n".join(filter(None, lines))
