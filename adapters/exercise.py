"""Small computations over the vocabulary, as plain data: one operation or a few, and its arguments.

A worker gets a `Call` with its input tensors and runs it as its framework runs anything. What the
result should be, the worker does not know.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters import bodies
from adapters.ops import NAMES, Array, Ops

#: How an input may lie in memory where a framework has views. An adapter puts inputs densely; views
#: are made of them in the program, by the vocabulary:
#:     reversed    with its axes in reverse, by `transpose`
#:     broadcast   an axis of one element that is seen many times (stride 0), by `broadcast_to`
#:     offset      one element behind the start of a longer tensor, by `slice` and `reshape`
#:     gapped      every other element of a longer tensor, by `slice` and `reshape`
LAYOUTS = ("reversed", "broadcast", "offset", "gapped")

Body = Callable[[Ops, Mapping[str, Array]], dict[str, Array]]  # (ops, inputs) -> outputs


@dataclass(frozen=True)
class Call:
    """`body` is an operation, a function in `adapters.bodies`, or `FILE:FUNCTION` in
    `adapters/exercises/`.

    arguments   its keyword arguments other than tensors, JSON-ready
    views       inputs that come to the operation as views -> (one of LAYOUTS, their shape there)
    """

    body: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    views: Mapping[str, tuple[str, Sequence[int]]] = field(default_factory=dict)

    def __call__(self, ops: Ops, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The results: `output`; `output0`, `output1`, ... of several; `output:NAME` of those that
        the function gives names.

        An input is the tensor argument of its name; inputs `xs/0`, `xs/1`, ... are together the
        sequence `xs`."""
        return self.bound()(ops, inputs)

    def bound(self) -> Body:
        """The same as a plain function, which a compiler can trace: nothing is looked up in it."""
        function, arguments, views = self._function(), dict(self.arguments), self.views

        def body(ops: Ops, inputs: Mapping[str, Array]) -> dict[str, Array]:
            tensors: dict[str, Any] = {}
            for name, value in inputs.items():
                if name in views:
                    value = _seen(ops, value, *views[name])
                whole, _, part = name.partition("/")
                if part:
                    tensors.setdefault(whole, []).append(value)
                else:
                    tensors[name] = value
            result = function(ops, **tensors, **arguments)
            if isinstance(result, dict):
                return {f"output:{name}": value for name, value in result.items()}
            if isinstance(result, tuple):
                return {f"output{i}": value for i, value in enumerate(result)}
            return {"output": result}

        return body

    def _function(self) -> Callable[..., Any]:
        file, _, name = self.body.rpartition(":")
        if file:
            return getattr(importlib.import_module(f"adapters.exercises.{file}"), name)
        if name in NAMES:
            return lambda ops, **arguments: getattr(ops, name)(**arguments)
        return getattr(bodies, name)


def _seen(ops: Ops, value: Array, layout: str, shape: Sequence[int]) -> Array:
    """What an operation sees of what was handed over."""
    shape = tuple(shape)
    if layout == "reversed":
        return ops.transpose(value, range(len(shape))[::-1])
    if layout == "broadcast":
        return ops.broadcast_to(value, shape)
    if layout == "offset":
        return ops.reshape(ops.slice(value, axis=0, start=1, stop=1 + math.prod(shape)), shape)
    return ops.reshape(ops.slice(value, axis=len(shape), start=0, stop=1), shape)


def together(calls: Mapping[str, Call]) -> Body:
    """One body that runs several calls: its inputs and outputs are those of each call, with the
    call's key and a colon before the name."""

    bound = {key: call.bound() for key, call in calls.items()}

    def body(ops: Ops, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs: dict[str, Array] = {}
        for key, run in bound.items():
            results = run(ops, part(inputs, key))
            outputs |= {f"{key}:{name}": value for name, value in results.items()}
        return outputs

    return body


def part(tensors: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Those of one call."""
    prefix = f"{key}:"
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
