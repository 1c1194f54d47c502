"""Brings together what `numerics` needs to judge a case: float64 runs of the oracle's members,
disturbed runs for the noise floor, and NumPy's own reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np

from adapters import model as models
from adapters.base import Noise
from adapters.noise import NoisyOps
from adapters.numpy_reference import NumpyOps
from adapters.registry import ORACLE
from harness.client import WorkerFailure
from harness.lanes import Lanes, Task, Tensors
from harness.pool import Pool, usual_batch
from harness.protocol import load_tensors
from numerics import floor, judge, reference
from numerics.judge import Judgement
from numerics.oracle import Consensus, consensus
from results.records import Case

NUMPY = "numpy"  # the oracle's member that needs no framework


class Referee:
    """Judges tensors of cases. Every reference is computed once and kept."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.lanes = Lanes(pool)
        self._oracles: dict[tuple[str, ...], Oracle] = {}
        self.announce: Callable[[str], None] = lambda phase: None

    def oracle(self, case: Case) -> Oracle:
        """The oracle of `case`: the same for all adapters, devices and precisions."""
        case = self.judged_as(case)
        key = (case.mode, case.model, case.size, str(case.batch), case.recipe, str(case.length))
        if key not in self._oracles:
            self._oracles[key] = Oracle(self._pool, case, self)
        return self._oracles[key]

    def ahead(self, cases: Iterable[Case]) -> None:
        """Starts to run, in the background, what judging `cases` will need."""
        programs = []
        for case in cases:
            if case.suite == "conformance":
                programs.append(case)
            usual = self.judged_as(case)
            programs += [member_case(usual, adapter) for adapter in self.members()]
        self.lanes.ahead(Task("judge", case) for case in programs)

    def judged_as(self, case: Case) -> Case:
        """The case whose reference `case` has: see `harness.pool.usual_batch`."""
        return dataclasses.replace(case, batch=usual_batch(case))

    def members(self) -> list[str]:
        """The adapters of the oracle that this run knows."""
        return [name for name in ORACLE if name in self._pool.settings.registry.modules]

    def judge(self, case: Case, tensors: Tensors) -> tuple[list[Judgement], str]:
        """Judgements, and the reason why there is no reference or the empty string."""
        oracle = self.oracle(case)
        tensors = as_usual(tensors, case.batch, self.judged_as(case).batch)
        if case.precision != "fp64":
            found = oracle.consensus()
            if found.reference is None:
                return [], found.problem
            return judge.precision(tensors, found.reference, case.precision), ""
        rows = judge.against_numpy(
            tensors, oracle.numpy, oracle.params, oracle.recipe, oracle.floors
        )
        if set(oracle.members) <= {case.adapter}:
            return rows + judge.unreferenced(tensors, rows), ""
        found = oracle.consensus(without=case.adapter)
        if found.reference is None:
            return rows, found.problem
        return judge.identity(tensors, found.reference) + rows, ""


def member_case(case: Case, adapter: str) -> Case:
    """What a member of the oracle runs to judge `case`."""
    return dataclasses.replace(
        case, suite="conformance", adapter=adapter, device="cpu", precision="fp64", threads=0
    )


def as_usual(tensors: Tensors, batch: int, usual: int) -> Tensors:
    """The tensors of a batch that repeats the usual examples as the reference has them: of the
    repetitions of the output, the one that is farthest from their median. Running variances are
    left out: they are unbiased, and n / (n - 1) differs."""
    if batch == usual:
        return tensors
    repetitions = tensors["output"].reshape(batch // usual, usual, *tensors["output"].shape[1:])
    away = np.abs(repetitions - np.median(repetitions, axis=0))
    distances = np.nan_to_num(away, nan=np.inf).reshape(len(repetitions), -1).max(axis=1)
    kept = {n: t for n, t in tensors.items() if not n.startswith("buffer@")}
    return {**kept, "output": repetitions[int(np.argmax(distances))]}


class Oracle:
    """Everything a case is judged against, computed when first asked for."""

    def __init__(self, pool: Pool, case: Case, referee: Referee) -> None:
        self._referee = referee
        self._case = case
        inputs = load_tensors(pool.inputs(case))
        parts: dict[str, dict[str, np.ndarray]] = {"parameter": {}, "buffer": {}, "batch": {}}
        for name, value in inputs.items():
            part, _, tensor = name.partition(":")
            parts[part][tensor] = value
        self.params, self._buffers, self._batch = parts.values()
        self.recipe = case.recipe or models.get(case.model).recipe
        self.absent: dict[str, str] = {}  # member -> how it failed

    @cached_property
    def members(self) -> dict[str, Tensors]:
        """Member -> its float64 tensors: every adapter of ORACLE that is installed and answers,
        and NumPy where it can compute all of them."""
        found: dict[str, Tensors] = {}
        if self._case.mode == "infer":
            found[NUMPY] = self.numpy.tensors
        for adapter in self._referee.members():
            self._referee.announce(f"reference: {adapter}")
            try:
                found[adapter] = self._referee.lanes.tensors(member_case(self._case, adapter))
            except WorkerFailure as failure:
                if failure.status != "unsupported":  # not installed: nobody expects it
                    self.absent[adapter] = str(failure)
        return found

    @cached_property
    def floors(self) -> dict[str, float]:
        """Relative noise floors at 24 bits, measured with the first member that there is."""
        for adapter, clean in self.members.items():
            self._referee.announce(f"noise floor: {adapter}")
            noisy = [self._disturbed(adapter, seed) for seed in range(floor.RUNS)]
            return floor.measure(clean, noisy, self.params)
        return {}

    def _disturbed(self, member: str, seed: int) -> Tensors:
        case, noise = self._case, Noise(floor.BITS, seed)
        if member == NUMPY:
            ops = NoisyOps(NumpyOps(), noise)
            x = self._batch["x"]
            return reference.forward_pass(
                case.model, case.size, self.params, self._buffers, x, ops=ops, length=case.length
            )
        return self._referee.lanes.disturbed(member_case(case, member), noise)

    @cached_property
    def numpy(self) -> reference.NumpyReference:
        case = self._case
        return reference.compute(
            case.model,
            case.size,
            case.mode,
            self.params,
            self._buffers,
            self._batch,
            length=case.length,
        )

    @cached_property
    def _rejected(self) -> dict[str, str]:
        """Members that NumPy contradicts."""
        rejected = {}
        for adapter, tensors in self.members.items():
            rows = judge.against_numpy(tensors, self.numpy, self.params, self.recipe, self.floors)
            bad = judge.worst(row for row in rows if row.verdict == "divergent")
            if bad:
                rejected[adapter] = (
                    f"{bad.quantity} {bad.tensor} differs from {bad.reference} by {bad.error:.1e}"
                )
        return rejected

    def consensus(self, *, without: str = "") -> Consensus:
        """What the members, but for `without`, agree on."""
        others = {name: t for name, t in self.members.items() if name != without}
        # a member that was asked and gave nothing is told like one that was wrong
        rejected = {n: why for n, why in {**self.absent, **self._rejected}.items() if n != without}
        return consensus(others, self.floors, rejected)
