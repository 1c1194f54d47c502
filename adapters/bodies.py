"""Small computations that are more than one operation, each a function (ops, tensors...)."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapters.ops import Array, Ops


def plus_constant(ops: Ops, x: Array, *, value: Any) -> Array:
    """x + value, whose dtype is the program's."""
    return ops.add(x, ops.constant(np.asarray(value, np.float64)))


def cast_and_back(ops: Ops, x: Array, *, dtype: str) -> Array:
    """x, rounded to `dtype` and cast back."""
    return ops.cast(ops.cast(x, dtype), ops.dtype_of(x))


def batch_norm_output(ops: Ops, **given: Any) -> Array:
    """What `batch_norm` normalises, without the running values: these need no gradient."""
    return ops.batch_norm(**given)[0]
