"""Reductions of more terms than 16 bits count, in 16 bits: float16 ends at 65504, and in bfloat16
256 and 1 are 256. Results are in range of both; what they are made of is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numerics.exercises import Exercise
from suites.conformance.tables.making import Given, case

TERMS = 70_001
PRECISIONS = ("fp16", "bf16")


def exercises() -> Iterator[Exercise]:
    rng = np.random.default_rng(TERMS)
    x = 1 + 0.125 * rng.normal(size=(1, TERMS))
    yield _of("sum", {"x": x / 2}, axis=1)
    for op in ("mean", "variance", "norm"):
        yield _of(op, {"x": x}, axis=1)
    ones = np.ones(TERMS)
    yield _of("rms_norm", {"x": x, "scale": ones}, epsilon=1e-3)
    yield _of("layer_norm", {"x": x, "scale": ones, "offset": 0 * ones}, epsilon=1e-3)
    yield _of("cross_entropy", {"logits": x, "labels": np.array([TERMS // 2])})
    yield _of("mse", {"x": x[0] + 1, "target": x[0, ::-1]})
    yield _of("smooth_l1", {"x": x[0] + 1, "target": x[0, ::-1]}, beta=1.0)
    targets = rng.integers(0, 2, TERMS).astype(np.float64)
    yield _of("bce_with_logits", {"logits": x[0], "targets": targets})


def _of(op: str, tensors: dict[str, Given], **given: Any) -> Exercise:
    return case(op, f"{TERMS} terms", tensors, by=(), precisions=PRECISIONS, **given)
