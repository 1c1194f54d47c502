"""Whether a program gives the same result again: bit for bit, or within its rounding noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from numerics import judge
from numerics.errors import normwise
from numerics.judge import Judgement, Reference

Tensors = Mapping[str, np.ndarray]

UNWRITTEN = (
    "reads memory that it did not write: the same call gives something else where only what is in "
    "free memory has changed"
)
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


def memory(again: Tensors, first: Reference, precision: str, *, of: str = "") -> list[Judgement]:
    """The judgement on what a call gave otherwise over other free memory than the call before,
    whose tensors are `first`: of the tensor that differs most, and what it is `of`. Empty where
    nothing differs."""
    judged = judge.identity if precision == "fp64" else partial(judge.precision, name=precision)
    rows = judged(again, first)
    worst = judge.worst(rows)
    if worst is None:
        return []
    bad = worst.verdict in ("divergent", "mistrusted")
    tensor = worst.tensor if worst.tensor == worst.quantity else f"{worst.quantity} {worst.tensor}"
    tensor = f"{of}: {tensor}" if of else tensor
    return [
        replace(
            worst, quantity="again", tensor=tensor, verdict="divergent" if bad else worst.verdict,
            reference="the call before, over other free memory",
            reason=UNWRITTEN * bad or f"{len(rows)} tensors differ",
        )
    ]  # fmt: skip


def is_deterministic(rows: Mapping[str, Judgement]) -> bool:
    """Whether the same seed gives the same bits, in this process and in another."""
    return all(rows[name].verdict == "bitwise" for name in ("again", "process") if name in rows)
