"""Trains a model to its goal in one adapter, once per seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from adapters import model as models
from harness import clock
from harness.client import Client
from harness.pool import Pool, Role
from harness.protocol import save_tensors
from results.records import Case

Curve = list[dict[str, float]]  # an entry per evaluation: step, loss, score, seconds
SEEDS = {"quick": 2, "standard": 5, "full": 10}  # by preset


def curves(pool: Pool, case: Case, role: Role, *, seeds: int) -> list[Curve]:
    """The curves of seeds 0, 1, ... with one program. Raises WorkerFailure."""
    data = write(pool, case)
    deadline = clock.now() + pool.settings.case_timeout
    client, _ = pool.build(case, role, timeout=deadline - clock.now())
    found = []
    for seed in range(seeds):
        left = max(0.001, deadline - clock.now())
        found.append(curve(pool, client, case, data, seed=seed, timeout=left))
    data.unlink()
    return found


def curve(
    pool: Pool, client: Client, case: Case, data: Path, *, seed: int, timeout: float
) -> Curve:
    """One training by a program that a worker has built."""
    inputs = str(pool.inputs(case, seed=seed))
    answer = client.request(
        "converge", timeout=timeout, data=str(data), inputs=inputs, seed=seed, to_the_end=False
    )
    return answer["curve"]


def write(pool: Pool, case: Case) -> Path:
    """A file with the examples of a model's goal."""
    model = models.get(case.model)
    assert model.goal is not None
    training, held = model.goal.data(model.config(case.size))
    held = {name: value[: model.goal.held or None] for name, value in held.items()}
    path = pool.scratch_file("examples.npz")
    save_tensors(path, {**_prefixed("training:", training), **_prefixed("held:", held)})
    return path


def steps_to_target(model: str, found: Curve) -> float:
    """After how many steps the goal was reached; infinite where it was not."""
    goal = models.get(model).goal
    assert goal is not None
    last = found[-1]
    return last["step"] if goal.reached(last["score"]) else float("inf")


def _prefixed(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {prefix + name: value for name, value in tensors.items()}
