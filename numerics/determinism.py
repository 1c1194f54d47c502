"""Whether a program gives the same result again: bit for bit, or within its rounding noise."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from numerics import judge
from numerics.errors import normwise
from numerics.judge import Judgement, Reference

Tensors = Mapping[str, np.ndarray]

#: What is done differently -> what that is, for people. The first two have to be bitwise equal for
#: a program to be called deterministic.
VARIANTS = {
    "again": "the same process, a second time",
    "process": "another process",
    "threads": "another number of threads",
    "position": "the examples in another order",
    "neighbours": "one example beside others",
}


def row(variant: str, again: Tensors, first: Tensors, floors: Mapping[str, float]) -> Judgement:
    """The judgement on one variant: of its tensor that is farthest from the first run's. `floors`
    are relative noise floors of float32."""
    noise = Reference(first, "", floors)
    ratios = {
        name: normwise(value, first[name]) / noise.floor(name, "fp32")
        for name, value in again.items()
        if not noise.is_null(name, "fp32")
    }
    differing = [name for name in again if not np.array_equal(again[name], first[name])]
    worst = max(ratios, key=lambda name: ratios[name])
    ratio, floor = ratios[worst], noise.floor(worst, "fp32")
    reason = f"{len(differing)} of {len(again)} tensors differ, most {worst}" if differing else ""
    verdict = (
        "bitwise" if not differing else judge.verdict_of(max(ratio, math.ulp(0.0)), ratio * floor)
    )
    source = f"the first run; now {VARIANTS[variant]}"
    return Judgement("repeat", variant, ratio * floor, floor, ratio, verdict, source, reason)


def is_deterministic(rows: Mapping[str, Judgement]) -> bool:
    """Whether the same seed gives the same bits, in this process and in another."""
    return all(rows[name].verdict == "bitwise" for name in ("again", "process") if name in rows)
