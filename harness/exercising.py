"""Exercises in a worker: many small computations per request, run together where that works."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adapters import faults
from adapters.base import Adapter, Function, Setting, Unsupported
from adapters.exercise import Call, part, together
from adapters.ops import Ops
from harness import switches, turns

Tensors = Mapping[str, np.ndarray]
Explain = Callable[[Exception], dict[str, str]]


def run(
    adapter: Adapter,
    calls: Mapping[str, Call],
    by: Mapping[str, Sequence[str]],
    setting: Setting,
    tensors: Tensors,
    *,
    explain: Explain,
    fault: str = "",
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, str]]]:
    """Results of the calls, each name after its call's key and a colon, and key -> why a call has
    none.

    by          key -> inputs by which a call is differentiated; without one its outputs are wanted
    tensors     `KEY:NAME` inputs and `cotangent:KEY:NAME` cotangents
    fault       of operations, planted to try the judge (`adapters.faults`)

    Every call is made again over other free memory: what differs comes as `KEY:again:NAME`.

    All calls make one program: a compiler is slow to start. Where that fails, each is run alone, to
    find out which of them it was.
    """
    try:
        return _run(adapter, calls, by, setting, tensors, fault), {}
    except Exception as error:
        if len(calls) == 1:
            return {}, {next(iter(calls)): explain(error)}
    found: dict[str, np.ndarray] = {}
    failed: dict[str, dict[str, str]] = {}
    for key, call in calls.items():
        try:
            found |= _run(adapter, {key: call}, by, setting, tensors, fault)
        except Exception as error:
            failed[key] = explain(error)
    return found, failed


def _run(
    adapter: Adapter,
    calls: Mapping[str, Call],
    by: Mapping[str, Sequence[str]],
    setting: Setting,
    tensors: Tensors,
    fault: str,
) -> dict[str, np.ndarray]:
    body = together(calls)

    def faulty(ops: Ops, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return body(faults.in_ops(ops, fault, setting.dtype, threads=setting.threads), inputs)

    function = adapter.function(faulty if fault else body, setting)
    inputs = {f"{key}:{name}": value for key in calls for name, value in part(tensors, key).items()}
    names = [f"{key}:{name}" for key in calls for name in by.get(key, ())]
    repeat = setting.noise is None
    if not names:
        results = turns.twice(lambda: function(inputs), repeat=repeat)
        _require_compiled(function)
        return _marked(results)
    prefix = "cotangent:"
    seeds = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix) and name.removeprefix(prefix).partition(":")[0] in calls
    }
    if not seeds:
        raise Unsupported("nothing to differentiate: no result is a floating-point number")

    def gradients() -> dict[str, np.ndarray]:
        found = function.pullback(inputs, seeds, names)
        return {_as_gradient(name): value for name, value in found.items()}

    results = turns.twice(gradients, repeat=repeat)
    _require_compiled(function)
    return _marked(results)


def _marked(tensors: Tensors) -> dict[str, np.ndarray]:
    """With the mark of a repeated call behind the key instead of before it."""
    first, again = turns.split(tensors)
    for name, value in again.items():
        key, _, tensor = name.partition(":")
        first[f"{key}:{turns.AGAIN}{tensor}"] = value
    return first


def _as_gradient(name: str) -> str:
    key, _, tensor = name.rpartition(":")
    return f"{key}:gradient:{tensor}"


def run_in_turn(
    adapter: Adapter, calls: Mapping[str, Call], setting: Setting, tensors: Tensors
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, int | None]]]:
    """Results of calls that are the same but for their inputs, by one function in turn; and, by
    key, how often it had been traced, compiled and given up when a call was done."""
    function = adapter.function(next(iter(calls.values())).bound(), setting)
    found: dict[str, np.ndarray] = {}
    counts = {}
    for key in calls:
        found |= {f"{key}:{name}": v for name, v in function(part(tensors, key)).items()}
        counts[key] = dict(function.counts())
    _require_compiled(function)
    return found, counts


class SilentFallback(Exception):
    """A function ran otherwise than its adapter says that functions run."""


def _require_compiled(function: Function) -> None:
    """Raises SilentFallback where results are not those of a compiled function, and should be."""
    if problems := switches.uncompiled(function.compiled_share()):
        raise SilentFallback(problems[0])
