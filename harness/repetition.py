"""Runs a program again: in the same process, in another, with other threads, with its examples in
another order and beside others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from harness import clock, turns
from harness.client import Client
from harness.lanes import agree
from harness.pool import Pool, Role
from harness.protocol import load_tensors, save_tensors
from numerics import reference
from results.records import Case

Tensors = Mapping[str, np.ndarray]
THREADS = 2  # against the one that judging workers have


def variants(pool: Pool, case: Case, client: Client) -> tuple[Tensors, dict[str, Tensors]]:
    """The tensors of a first run in `client`, a judging worker, and those of each variant (names
    of `numerics.determinism.VARIANTS`) with examples put back where they were. Raises
    WorkerFailure."""
    deadline = clock.now() + pool.settings.case_timeout
    inputs = pool.inputs(case)

    def run(worker: Client, role: Role, file: Path, *, build: bool = True) -> Tensors:
        if build:
            left = max(0.001, deadline - clock.now())
            worker.request("build", timeout=left, spec=pool.spec(case, role), inputs=str(file))
        return turns.split(agree(pool, worker, case, deadline=deadline))[0]

    judging = Role(case.adapter, "judge")
    first = run(client, judging, inputs)
    found = {"again": run(client, judging, inputs, build=False)}
    for variant, threads in (("process", 1), ("threads", THREADS)):
        role = Role(case.adapter, "repeat", threads=threads)
        found[variant] = run(pool.client(role), role, inputs)
    if case.mode == "infer":
        for variant, (change, undo) in _moves(case.batch).items():
            file = _changed(pool, inputs, change)
            moved = run(client, judging, file)  # outputs only
            found[variant] = {name: undo(value, first[name]) for name, value in moved.items()}
            file.unlink()
    return first, found


Change = Callable[[np.ndarray], np.ndarray]
Undo = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _moves(batch: int) -> dict[str, tuple[Change, Undo]]:
    """How the examples change, and how an output is made comparable with the first run's. Beside
    others: all examples but the first are replaced, and their outputs are not looked at."""
    order = np.roll(np.arange(batch)[::-1], 1)

    def alone(x: np.ndarray) -> np.ndarray:
        others = x[:0:-1]
        return np.concatenate([x[:1], -others if x.dtype.kind == "f" else others])

    def only_first(output: np.ndarray, first: np.ndarray) -> np.ndarray:
        return np.concatenate([output[:1], first[1:]])

    return {
        "position": (lambda x: x[order], lambda output, _: output[np.argsort(order)]),
        "neighbours": (alone, only_first),
    }


def _changed(pool: Pool, inputs: Path, change: Change) -> Path:
    tensors = load_tensors(inputs)
    path = pool.scratch_file("moved.npz")
    names = [
        f"{batch}:{name}"
        for batch, parts in reference.batches(tensors).items()
        for name in parts
        if name.split("/")[0] == "x"
    ]
    save_tensors(path, {**tensors, **{name: change(tensors[name]) for name in names}})
    return path
