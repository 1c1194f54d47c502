"""Judges what has to come back as it was given: bit by bit, under its name, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from adapters import trees
from numerics.errors import normwise
from numerics.examination import DTYPES
from numerics.judge import Judgement

Tensors = Mapping[str, np.ndarray]
SOURCE = "what was given"


def judge(found: Tensors, given: Tensors, precision: str) -> list[Judgement]:
    """A judgement for every name in either; names are `QUANTITY:TENSOR`. What was given in float64
    is rounded to the precision's dtype first."""
    return [_judged(name, found, given, precision) for name in sorted({*found, *given})]


def _judged(name: str, found: Tensors, given: Tensors, precision: str) -> Judgement:
    quantity, _, tensor = name.partition(":")
    problem, error = "", math.inf
    if name not in found:
        problem = "it is missing"
    elif name not in given:
        problem = "nobody gave it"
    else:
        value, wanted = found[name], trees.in_dtype(given[name], DTYPES[precision])
        if (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            problem = (
                f"it is {value.dtype}{value.shape}, but should be {wanted.dtype}{wanted.shape}"
            )
        elif value.tobytes() != wanted.tobytes():
            problem = f"{int(np.sum(value != wanted))} of {value.size} elements differ"
            error = normwise(value, wanted)
        else:
            error = 0.0
    verdict = "divergent" if problem else "bitwise"
    return Judgement(quantity, tensor, error, None, None, verdict, SOURCE, problem)
