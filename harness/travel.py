"""Training that one framework begins and another goes on with: a checkpoint travels as a
safetensors file, with parameters, buffers, averages and all that the optimizer keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adapters.base import State
from adapters.numpy_reference import NumpyOps
from harness.client import Client, WorkerFailure
from harness.pool import Pool, Role
from harness.protocol import load_tensors
from numerics import exact, judge, reference
from numerics.judge import Judgement, Reference
from results.records import Case

if TYPE_CHECKING:
    from harness.lanes import Lanes

Tensors = Mapping[str, np.ndarray]
STEPS = 4  # before the journey, and again after it


@dataclasses.dataclass(frozen=True)
class Departure:
    """What a framework left behind.

    file    its state after STEPS steps
    end     its state after STEPS more, as flat tensors
    own     names of what its own format lost; empty where that brings back every bit
    """

    file: Path
    end: Tensors
    own: Sequence[str]


class Travel:
    """Where trainings start from, each computed once."""

    def __init__(self, pool: Pool, lanes: Lanes) -> None:
        self._pool = pool
        self._lanes = lanes
        self._departures: dict[Case, Departure | WorkerFailure] = {}

    def to(self, case: Case, sources: Sequence[str]) -> Iterator[Judgement]:
        """Judgements on what arrives at a case's adapter from each of `sources`, those that train.
        Raises WorkerFailure where it cannot arrive, or where nothing departs."""
        departures = {name: self._departure(case, name) for name in sources}
        found = {n: d for n, d in departures.items() if isinstance(d, Departure)}
        if not found:
            raise WorkerFailure("unsupported", "no adapter that trains is installed")
        if case.mode == "train" and case.adapter in found:
            yield _own_format(found[case.adapter])
        with self._lanes.worker(case.adapter) as client:
            self._build(case)
            for name, departure in found.items():
                yield from self._arrival(client, case, name, departure)

    def _departure(self, case: Case, source: str) -> Departure | WorkerFailure:
        start = dataclasses.replace(case, adapter=source, mode="train")
        if start not in self._departures:
            try:
                self._departures[start] = self._depart(start)
            except WorkerFailure as failure:
                if failure.status != "unsupported":
                    raise
                self._departures[start] = failure
        return self._departures[start]

    def _depart(self, case: Case) -> Departure:
        file, end = (self._pool.scratch_file(n) for n in ("state.safetensors", "end.npz"))
        folder = self._pool.scratch_file("own-format")
        folder.mkdir()
        with self._lanes.worker(case.adapter) as client:
            self._build(case)
            own = client.request(
                "depart", timeout=self._pool.settings.case_timeout, steps=STEPS, file=str(file),
                end=str(end), folder=str(folder),
            )["lost"]  # fmt: skip
        return Departure(file, load_tensors(end), own)

    def _build(self, case: Case) -> None:
        role = Role(case.adapter, "judge")
        self._pool.build(case, role, timeout=self._pool.settings.case_timeout)

    def _arrival(
        self, client: Client, case: Case, source: str, departure: Departure
    ) -> Iterator[Judgement]:
        found, end = (self._pool.scratch_file(n) for n in ("found.npz", "end.npz"))
        client.request(
            "arrive", timeout=self._pool.settings.case_timeout, steps=STEPS,
            file=str(departure.file), found=str(found), end=str(end),
        )  # fmt: skip
        given = _read(departure.file)
        if case.mode != "train":
            yield self._inference(case, source, State.of(given), load_tensors(found))
            return
        arrived = exact.judge(load_tensors(found), given, case.precision)
        yield _summary(arrived, "state", source, "what was saved there")
        if case.precision == "fp64":
            floors: dict[str, float] = {}
            there = Reference(_changes(departure.end, given), source, floors)
            rows = judge.identity(_changes(load_tensors(end), given), there)
            yield _summary(rows, f"after {STEPS} steps", source, "the training that stayed there")

    def _inference(self, case: Case, source: str, state: State, found: Tensors) -> Judgement:
        batch = {
            name.removeprefix("batch:"): value
            for name, value in load_tensors(self._pool.inputs(case)).items()
            if name.startswith("batch:")
        }
        expected = reference.forward_pass(
            case.model, case.size, state.params, state.buffers, batch, ops=NumpyOps()
        )
        rows = judge.identity(found, Reference(expected, "numpy", {}))
        return _summary(rows, "output", source, "numpy on the saved weights")


def _read(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(file)


def _changes(end: Tensors, start: Tensors) -> dict[str, np.ndarray]:
    """What training changed since the journey began: beside a parameter its update would drown."""
    return {name: value - start[name] for name, value in end.items() if name in start}


def _own_format(departure: Departure) -> Judgement:
    lost = departure.own
    told = f"{len(lost)} tensors differ, first {lost[0]}" if lost else ""
    verdict, error = ("divergent", float("inf")) if lost else ("bitwise", 0.0)
    source = "what was saved in the framework's own format"
    return Judgement("state", "own format", error, None, None, verdict, source, told)


def _summary(rows: Sequence[Judgement], quantity: str, source: str, what: str) -> Judgement:
    """The worst of several rows as one, of what came from `source`."""
    worst = judge.worst(rows)
    assert worst is not None
    bad = [row for row in rows if row.verdict in ("divergent", "mistrusted")]
    told = f"{len(bad)} of {len(rows)} tensors, most {worst.quantity} {worst.tensor}" if bad else ""
    verdict = "divergent" if bad else worst.verdict
    return dataclasses.replace(
        worst, quantity=quantity, tensor=f"from {source}", verdict=verdict, reference=what,
        reason=f"{told}; {worst.reason}".strip("; ") if bad else "",
    )  # fmt: skip
