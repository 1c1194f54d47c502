"""Whether one adapter's training converges later than that of the others.

Every adapter trains from the same parameters on the same examples in the same order, once per
seed. That makes blocks: within a seed, if no adapter is special, each of the numbers of steps to
the target could as well have been any other adapter's. So the rank of an adapter within a seed is
uniform over the ranks that there are, and the distribution of the sum of its ranks over the seeds
is known exactly (a permutation test within blocks, as in Friedman's test; ties have the mean of
their ranks). Nothing is assumed about how steps are distributed.

With a adapters and s seeds no p-value is below a^-s: two seeds of five adapters cannot show
anything at 1%, and the verdict is then that nothing could be decided.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from numerics.judge import BITS, Judgement, verdict_of

SOURCE = "numpy in float64, from the state before the step"
LEVEL = 0.01  # probability of accusing anybody at all where all are alike


@dataclass(frozen=True)
class Comparison:
    """p-value of "this adapter needs more steps than the others", adjusted for as many comparisons
    as there are; the least that it could have been; and whether that is significant."""

    p: float
    least: float
    later: bool


def first_losses(
    curves: Sequence[Sequence[Mapping[str, float]]], precision: str
) -> list[Judgement]:
    """Judges what the first steps of a training gave: each by NumPy's loss in float64 of the same
    examples from the state before that step, so that no step is blamed for the one before."""
    rows = []
    for seed, curve in enumerate(curves):
        first, number = curve[0], 1
        while f"loss@{number}" in first:
            told, wanted = first[f"loss@{number}"], first[f"numpy@{number}"]
            error = abs(told - wanted) / abs(wanted)
            error = error if math.isfinite(error) else math.inf
            noise = max(first[f"floor@{number}"], 2.0 ** -BITS[precision])
            verdict = verdict_of(error / noise, error)
            name = f"training {seed}"
            rows.append(
                Judgement(f"loss@{number}", name, error, noise, error / noise, verdict, SOURCE)
            )
            number += 1
    return rows


def compare(steps: Mapping[str, Sequence[float]], *, families: int = 1) -> dict[str, Comparison]:
    """Adapter -> its comparison with all others (Holm 1979 over adapters, Bonferroni over
    `families`). `steps` are steps to the target by adapter, in the order of the seeds; infinite
    where it was not reached."""
    names = list(steps)
    if len(names) < 2:
        return {}
    blocks = list(zip(*steps.values(), strict=True))
    ranks = [_ranks(block) for block in blocks]
    sums = [sum(column, Fraction(0)) for column in zip(*ranks, strict=True)]
    raw = {name: _tail(ranks, total) for name, total in zip(names, sums, strict=True)}
    adjusted = _holm(raw, families)
    least = min(1.0, math.prod(Fraction(1, len(names)) for _ in blocks) * len(names) * families)
    return {n: Comparison(p, float(least), p <= LEVEL) for n, p in adjusted.items()}


def _ranks(block: Sequence[float]) -> list[Fraction]:
    """Mean ranks, the smallest value has 1."""
    return [
        Fraction(2 * sum(other < value for other in block) + sum(o == value for o in block) + 1, 2)
        for value in block
    ]


def _tail(ranks: Sequence[Sequence[Fraction]], observed: Fraction) -> float:
    """The probability of a sum of ranks, one drawn from each block, of at least `observed`."""
    sums = Counter({Fraction(0): 1})
    for row in ranks:
        grown: Counter[Fraction] = Counter()
        for (total, ways), rank in itertools.product(sums.items(), row):
            grown[total + rank] += ways
        sums = grown
    reached = sum(ways for total, ways in sums.items() if total >= observed)
    return reached / sums.total()


def _holm(p: Mapping[str, float], families: int) -> dict[str, float]:
    """p-values adjusted step by step from the smallest."""
    adjusted, running = {}, 0.0
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        running = max(running, min(1.0, (len(p) - i) * families * p[name]))
        adjusted[name] = running
    return adjusted
