"""How well a native control agrees with the reference that its adapter is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.registry import Control, Difference
from numerics import judge
from numerics.judge import Judgement

GOOD = ("identical", "rounding-equal", "precision-equal", "bitwise", "null-gradient")


def agreement(
    control: Control, model: str, rows: Sequence[Judgement]
) -> tuple[dict[str, Any], list[Judgement]]:
    """What is published of it, and the divergent rows that no known difference explains.

    `worst` is that of the tensors which should be the same; `differs` has a line for each known
    difference that shows, with the worst of its tensors."""
    explained: dict[Difference, list[Judgement]] = {}
    same, bad = [], []
    for row in rows:
        if row.verdict != "divergent":
            same.append(row)
            continue
        known = control.difference(model, f"{row.quantity}:{row.tensor}")
        if known is not None and row.error <= known.within:
            explained.setdefault(known, []).append(row)
        else:
            bad.append(row)
    worst = judge.worst([row for row in same if row.verdict in GOOD])
    differs = []
    for known, found in explained.items():
        largest = max(found, key=lambda row: row.error)
        differs.append({"reason": known.reason, "tensors": len(found), **_told(largest)})
    told = {"tensors": len(same), "worst": _told(worst) if worst else None, "differs": differs}
    return told, bad


def _told(row: Judgement) -> dict[str, Any]:
    return {
        "tensor": f"{row.quantity} {row.tensor}".strip(),
        "error": row.error,
        "verdict": row.verdict,
    }
