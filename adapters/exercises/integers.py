"""One operation on tensors of several lengths, in one program: tensors are cut on their last axis,
so that their rows lie apart in memory; and what is made of integers by several operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.ops import Array, Ops


def lengths(
    ops: Ops,
    *,
    operation: str,
    arguments: Mapping[str, Mapping[str, Any]],
    cut: Sequence[str],
    **tensors: Any,
) -> dict[str, Array]:
    """The results of `operation`, or of a function in this file, by the lengths that `arguments`
    names, and where it gives several by number.

    arguments   length -> keyword arguments of the operation there, beside its tensors
    cut         names of the tensors, or sequences of tensors, that have this length there
    """
    outputs: dict[str, Array] = {}
    for length, options in arguments.items():
        given = {
            name: _cut(ops, value, int(length)) if name in cut else value
            for name, value in tensors.items()
        }
        if operation == "remainder":
            result: Any = remainder(ops, **given)
        else:
            result = getattr(ops, operation)(**given, **options)
        several = result if isinstance(result, tuple) else (result,)
        for i, value in enumerate(several):
            outputs[f"n={length}, result {i}" if len(several) > 1 else f"n={length}"] = value
    return outputs


def remainder(ops: Ops, a: Array, b: Array) -> Array:
    """What a division of integers that rounds down leaves: it has the sign of `b`."""
    return ops.subtract(a, ops.multiply(ops.floor_divide(a, b), b))


def _cut(ops: Ops, value: Any, length: int) -> Any:
    if isinstance(value, list):
        return [_cut(ops, part, length) for part in value]
    return ops.slice(value, axis=len(value.shape) - 1, start=0, stop=length)
