"""One operation at many sizes, in one program: its tensors are the first elements of flat ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.ops import Array, Ops


def each(
    ops: Ops,
    *,
    operation: str,
    sizes: Mapping[str, Mapping[str, Sequence[int]]],
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    **tensors: Any,
) -> dict[str, Array]:
    """The results of `operation` by the names of `sizes`, and where it gives several by number.
    `tensors` are flat, or sequences of such.

    sizes       name -> the shape of every tensor, which is filled from the front of a flat one
    arguments   name -> arguments of the operation at that size, beside its tensors
    """
    outputs: dict[str, Array] = {}
    for name, shapes in sizes.items():
        given: dict[str, Any] = {}
        for tensor, shape in shapes.items():
            sequence, _, place = tensor.partition("/")
            flat = tensors[sequence][int(place)] if place else tensors[tensor]
            part = ops.slice(flat, axis=0, start=0, stop=math.prod(shape))
            part = ops.reshape(part, shape)
            if place:
                given.setdefault(sequence, []).append(part)
            else:
                given[tensor] = part
        result = getattr(ops, operation)(**given, **dict((arguments or {}).get(name, {})))
        several = result if isinstance(result, tuple) else (result,)
        for i, value in enumerate(several):
            outputs[f"{name}, result {i}" if len(several) > 1 else name] = value
    return outputs
