"""Finds the operation that makes a model diverge, by running the model once more with every
intermediate value returned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adapters.exercise import Call
from adapters.exercises import capture
from adapters.numpy_reference import NumpyOps
from harness.client import Client, WorkerFailure
from harness.pool import Pool
from harness.protocol import load_tensors, part, save_tensors
from numerics import floor, judge
from numerics.errors import normwise
from numerics.localisation import Step, first_wrong
from results.records import Case

Tensors = Mapping[str, np.ndarray]
KEY = "model"


@dataclasses.dataclass(frozen=True)
class _Question:
    """A captured model: its call, its inputs as the worker gets them, and by which it is
    differentiated."""

    call: Call
    tensors: Tensors
    by: list[str]
    parameters: list[str]
    names: list[str]
    origins: list[list[int | str]]


def localise(pool: Pool, case: Case, client: Client, member: Callable[[], Client]) -> str:
    """Which operation is the first wrong one in `client`, against `member`, another framework in
    float64. Raises WorkerFailure where an adapter runs no single operations."""
    question = _question(case, load_tensors(pool.inputs(case)))
    (found,) = _ask(pool, question, client, case.device, case.precision, [None])
    bits = "fp32" if case.precision == "fp64" else case.precision
    noises = [dataclasses.asdict(noise) for noise in floor.noises(bits)]
    clean, *noisy = _ask(pool, question, member(), "cpu", "fp64", [None, *noises])
    scale = 2.0 ** (floor.BITS - 53) if case.precision == "fp64" else 1.0

    def outside(name: str) -> float:
        floors = [normwise(run[name], clean[name]) ** 2 for run in noisy]
        noise = max(float(np.sqrt(np.mean(floors))) * scale, 2.0 ** -judge.BITS[case.precision])
        allowed = judge.PRECISION_EQUAL * noise
        if case.precision == "fp64":
            allowed = max(allowed, judge.IDENTITY)
        return normwise(found[name], clean[name]) / allowed

    steps = [
        Step(
            name,
            origins,
            outside(f"output{i}"),
            outside(f"gradient:tap{i}") if f"gradient:tap{i}" in found else None,
        )
        for i, (name, origins) in enumerate(zip(question.names, question.origins, strict=True))
    ]
    by = {n: outside(f"gradient:{_escaped(n)}") for n in question.parameters if question.by}
    wrong = first_wrong(steps, by)
    return wrong or (
        "none: forward and backward pass are right operation by operation; what is left are the "
        "optimizer, buffers, layouts, and how the whole is compiled"
    )


def _question(case: Case, inputs: Tensors) -> _Question:
    parts = {name: part(inputs, name) for name in ("parameter", "buffer", "batch")}
    train = case.mode == "train"
    tensors: dict[str, Any] = {
        _escaped(n): v for n, v in {**parts["parameter"], **parts["buffer"]}.items()
    }
    tensors |= {_escaped(n): v for n, v in parts["batch"].items() if train or n[0] == "x"}
    arguments: dict[str, Any] = {
        "model": case.model, "size": case.size, "length": case.length, "mode": case.mode,
    }  # fmt: skip
    known = capture.capture(NumpyOps(), **tensors, **arguments)
    by: list[str] = []
    if train:
        shapes = {f"tap{i}": np.shape(value) for i, value in enumerate(known.results)}
        taps = {
            name: np.zeros(shape)
            for (name, shape), value in zip(shapes.items(), known.results, strict=True)
            if np.asarray(value).dtype.kind == "f"
        }
        tensors |= taps
        by = [*taps, *(_escaped(name) for name in parts["parameter"])]
    return _Question(
        Call("capture:captured", arguments), tensors, by, list(parts["parameter"]), known.names,
        known.origins,
    )  # fmt: skip


def _ask(
    pool: Pool,
    question: _Question,
    client: Client,
    device: str,
    precision: str,
    noises: list[dict[str, Any] | None],
) -> list[dict[str, np.ndarray]]:
    """The values, and in training the gradients of the loss, of one run per noise."""
    inputs, out = pool.scratch_file("captured-inputs.npz"), pool.scratch_file("captured.npz")
    tensors = {f"{KEY}:{name}": value for name, value in question.tensors.items()}
    last = len(question.names) - 1
    save_tensors(inputs, {**tensors, f"cotangent:{KEY}:output{last}": np.asarray(1.0)})
    runs: list[dict[str, np.ndarray]] = [{} for _ in noises]
    for by in ([], question.by) if question.by else ([],):
        told = client.request(
            "exercise",
            timeout=pool.settings.case_timeout,
            setting={"device": device, "precision": precision, "threads": 1},
            calls={KEY: dataclasses.asdict(question.call)},
            by={KEY: by},
            noises=noises,
            inputs=str(inputs),
            out=str(out),
        )
        if told["failed"]:
            raise _failed(told["failed"][KEY])
        for name, value in load_tensors(out).items():
            number, _, rest = name.partition(":")
            runs[int(number)][rest.removeprefix(f"{KEY}:")] = value
    return runs


def _failed(failure: Mapping[str, str]) -> WorkerFailure:
    return WorkerFailure(failure["status"], failure["reason"])


def _escaped(name: str) -> str:
    return name.replace("/", capture.SLASH)
