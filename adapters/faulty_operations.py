"""Operations that are right on most of what they are given: wrong are float64, tails, views, sizes
or sequences of some kind. Planted by `adapters.faults` in exercises, for no model shows them.

A change is a function of (the sound vocabulary, the program's dtype, the operation's arguments)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adapters.ops import Array, Ops

Changes = Mapping[str, Callable[..., Any]]
OFF = 1.001  # what a wrong result is multiplied by


def scaled(ops: Ops, x: Array, factor: float) -> Array:
    """`x` times a constant."""
    return ops.multiply(x, ops.constant(np.asarray(factor)))


def in_float32(name: str) -> Changes:
    """Computes in float32 and returns the dtype of the program."""

    def op(ops: Ops, dtype: str, **given: Array) -> Array:
        narrow = {tensor: ops.cast(x, "float32") for tensor, x in given.items()}
        return ops.cast(getattr(ops, name)(**narrow), dtype)

    return {name: op}


def zero_below(name: str, least: float) -> Changes:
    """Gives 0 where the argument is below `least`."""

    def op(ops: Ops, dtype: str, x: Array) -> Array:
        kept = ops.greater(x, ops.constant(np.asarray(least)))
        return ops.where(kept, getattr(ops, name)(x), scaled(ops, x, 0.0))

    return {name: op}


def reads_densely(name: str) -> Changes:
    """Ignores the strides and the offset of a view: reads its memory from the start on, and zeros
    behind its end. Each program has its own, since it keeps what its views are of."""
    seen: list[tuple[Array, Array]] = []  # (view, the tensor in whose memory it lies)

    def memory_of(x: Array) -> Array | None:
        return next((memory for view, memory in seen if view is x), None)

    def remembered(op: str) -> Callable[..., Array]:
        def change(ops: Ops, dtype: str, x: Array, *more: Any, **keywords: Any) -> Array:
            view, memory = getattr(ops, op)(x, *more, **keywords), memory_of(x)
            seen.append((view, x if memory is None else memory))
            return view

        return change

    def read(ops: Ops, dtype: str, x: Array) -> Array:
        memory = memory_of(x)
        if memory is None:
            return getattr(ops, name)(x)
        shape, held = ops.shape(x), math.prod(ops.shape(memory))
        flat = ops.reshape(memory, (held,))
        missing = math.ceil(math.prod(shape) / held) - 1
        long = ops.concat([flat, *[scaled(ops, flat, 0.0)] * missing], axis=0)
        start = ops.slice(long, axis=0, start=0, stop=math.prod(shape))
        return getattr(ops, name)(ops.reshape(start, shape))

    views = ("broadcast_to", "slice", "reshape")
    return {**{op: remembered(op) for op in views}, name: read}


def off_at(name: str, sizes: Callable[[tuple[int, ...]], bool]) -> Changes:
    """Gives OFF times the result where the shape of the result is one of `sizes`."""

    def op(ops: Ops, dtype: str, **given: Any) -> Array:
        result = getattr(ops, name)(**given)
        return scaled(ops, result, OFF) if sizes(tuple(ops.shape(result))) else result

    return {name: op}


def first_for_later(name: str, kept: int) -> Changes:
    """Gives the result of the first example for all that come after `kept` examples."""

    def op(ops: Ops, dtype: str, **given: Any) -> Array:
        result = getattr(ops, name)(**given)
        examples = ops.shape(result)[0]
        if examples <= kept:
            return result
        first = ops.slice(result, axis=0, start=0, stop=1)
        right = ops.slice(result, axis=0, start=0, stop=kept)
        return ops.concat([right, *[first] * (examples - kept)], axis=0)

    return {name: op}


def unmasked_beyond(queries: int) -> Changes:
    """Forgets that attention is causal for all queries but so many."""

    def op(ops: Ops, dtype: str, *, causal: bool = False, **given: Any) -> Array:
        right = ops.attention(**given, causal=causal)
        count = ops.shape(right)[1]
        if count <= queries:
            return right
        right = ops.slice(right, axis=1, start=0, stop=queries)
        rest = ops.slice(ops.attention(**given), axis=1, start=queries, stop=count)
        return ops.concat([right, rest], axis=1)

    return {"attention": op}


def frozen_after(positions: int) -> Changes:
    """Gives the output of an LSTM at a position for all that come after it."""

    def op(ops: Ops, dtype: str, **given: Any) -> tuple[Array, ...]:
        every, *last = ops.lstm(**given)
        count = ops.shape(every)[1]
        if count <= positions:
            return every, *last
        right = ops.slice(every, axis=1, start=0, stop=positions)
        frozen = ops.slice(every, axis=1, start=positions - 1, stop=positions)
        return ops.concat([right, *[frozen] * (count - positions)], axis=1), *last

    return {"lstm": op}
