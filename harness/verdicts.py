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


def divergence(bad: list[Judgement], rows: list[Judgement]) -> str:
    """What is, what should be, and where."""
    worst = judge.worst(bad)
    assert worst is not None
    if worst.ratio is None:
        bound = f"but should be at most {judge.IDENTITY:.0e}"
    else:
        allowed = f"{judge.PRECISION_EQUAL:g} times"
        bound = f"{worst.ratio:.1f} times the noise floor, but should be at most {allowed}"
    return (
        f"{worst.quantity} {worst.tensor}: normwise error {worst.error:.2e}, {bound}; reference: "
        f"{worst.reference}; {len(bad)} of {len(rows)} comparisons diverge"
    )
