"""The consensus of several frameworks in float64, and who does not belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from numerics.judge import IDENTITY, Judgement, Reference, identity, worst

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Consensus:
    """`reference` is None where there is none, and `problem` then says why. `odd` names the
    members that were left out, with the tensor in which they differ."""

    reference: Reference | None
    problem: str = ""
    odd: Mapping[str, str] = ()  # type: ignore[assignment]


def consensus(
    members: Mapping[str, Tensors],
    floors: Mapping[str, float],
    rejected: Mapping[str, str] | None = None,
) -> Consensus:
    """The elementwise median of the largest group of members that agree pairwise to IDENTITY.

    members     adapter -> its float64 tensors
    rejected    members that failed another check (NumPy), with the reason

    One member alone is its own consensus. With several, more than half of them have to agree.
    """
    odd = dict(rejected or {})
    candidates = [name for name in members if name not in odd]
    if not candidates:
        reasons = "; ".join(f"{name}: {why}" for name, why in odd.items())
        return Consensus(
            None, f"no float64 reference: {reasons or 'no adapter could give one'}", odd
        )
    clash = {
        pair: difference
        for pair in combinations(candidates, 2)
        if (difference := _difference(members[pair[0]], members[pair[1]], floors))
    }
    group = _largest_agreeing(candidates, clash)
    if len(group) * 2 <= len(candidates):
        told = "; ".join(f"{a} and {b} differ in {why}" for (a, b), why in clash.items())
        return Consensus(None, f"the float64 references disagree: {told}", odd)
    for name in candidates:
        if name not in group:
            odd[name] = next(why for pair, why in clash.items() if name in pair)
    tensors = {
        name: np.median([members[member][name] for member in group], axis=0)
        for name in members[group[0]]
    }
    named = ("median of " if len(group) > 1 else "") + ", ".join(group)
    told = "".join(f"; without {name} ({why})" for name, why in odd.items())
    return Consensus(Reference(tensors, f"{named} in float64{told}", floors), odd=odd)


def _difference(a: Tensors, b: Tensors, floors: Mapping[str, float]) -> str:
    """Where two members differ by more than IDENTITY, or the empty string."""
    bad: list[Judgement] = [
        j for j in identity(a, Reference(b, "", floors)) if j.verdict in ("divergent", "mistrusted")
    ]
    found = worst(bad)
    if found is None:
        return ""
    return (
        f"{found.quantity} {found.tensor} by {found.error:.1e} (at most {IDENTITY:.0e} is allowed)"
    )


def _largest_agreeing(names: Sequence[str], clash: Mapping[tuple[str, str], str]) -> list[str]:
    for size in range(len(names), 0, -1):
        for group in combinations(names, size):
            if not any(pair in clash for pair in combinations(group, 2)):
                return list(group)
    return []
