"""Runs what the judge is tried with: faults planted in adapters, honest runs, harmless changes.

Adapters run side by side, each in its judging worker. A program is built once and then given other
parameters and other data, so a seed costs no compilation; a fault of operations or of the recipe
needs a program of its own. Everything is judged when all has run, as `harness.referee` judges it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from adapters import faults
from adapters import model as models
from adapters.base import Noise
from adapters.faults import CONTROLS, FAULTS, Fault
from adapters.numpy_reference import NumpyOps
from adapters.registry import ORACLE
from harness import clock, turns
from harness.client import Client, WorkerFailure
from harness.environment import physical_cores
from harness.lanes import Lanes
from harness.pool import Pool, Role
from harness.protocol import load_tensors, part
from numerics import determinism, floor, judge, reference, self_test
from numerics.judge import Judgement, Reference, Tensors
from numerics.self_test import Findings, Movement, Planting, Row
from results.records import Case

STEPS = (1, 10)
SMALLEST = "mlp"
MEMBERS = 3  # of the oracle, of which one may have a fault
LARGE = ("convnet", "vit")  # models that compilers take long over
PRECISIONS = ("fp64", "fp32")


@dataclass(frozen=True)
class Subject:
    """What is run: a model of size tiny."""

    model: str
    mode: str = "train"
    recipe: str = ""

    def case(self, adapter: str, precision: str) -> Case:
        batch = models.get(self.model).batch["tiny"]
        return Case("conformance", self.mode, self.model, "tiny", adapter, "cpu", precision,
                    batch=batch, recipe=self.recipe)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run of a subject in an adapter; with `noise`, the how-manieth with it."""

    subject: Subject
    adapter: str
    precision: str
    seed: int = 0
    fault: str = ""
    noise: Noise | None = None
    draw: int = 0

    @property
    def program(self) -> tuple[object, ...]:
        """Runs that agree in this share a program."""
        rebuilt = self.fault if self.fault and _rebuilds(faults.find(self.fault)) else ""
        return self.subject, self.precision, rebuilt, self.noise


@dataclass(frozen=True)
class Plan:
    """What is run. `thorough`: every fault in every adapter, instead of in one of them in turn, and
    adapters that train run inference as well."""

    adapters: Sequence[str]
    members: Sequence[str]  # of the oracle
    models: Sequence[str]
    faults: Sequence[str]
    seeds: int
    thorough: bool

    @classmethod
    def of(cls, adapters: Sequence[str], wanted: Sequence[str], *, thorough: bool) -> Plan:
        """The usual plan for those of the models in `wanted` that faults are planted in: honest
        runs of any other model are judged by the conformance suite itself."""
        members = [name for name in ORACLE if name in adapters]
        planted = [n for n, f in FAULTS.items() if f.model in wanted and not f.suite]
        homes = [name for name in wanted if any(FAULTS[f].model == name for f in planted)]
        return cls(adapters, members, homes, planted, 8 if thorough else 4, thorough)


def home(fault: Fault) -> Subject:
    """Where a fault is planted."""
    return Subject(fault.model, fault.mode, fault.recipe)


def _rebuilds(fault: Fault | None) -> bool:
    """Whether a fault needs a program of its own."""
    return fault is not None and fault.where in ("op", "recipe", "program")


class SelfTest:
    """One trial of the judge. Workers that it started live no longer than it does."""

    def __init__(self, pool: Pool, lanes: Lanes, plan: Plan) -> None:
        self._pool, self._lanes, self._plan = pool, lanes, plan
        self._results: dict[Run, Tensors] = {}
        self._failures: dict[Run, WorkerFailure] = {}
        self._floors: dict[tuple[Subject, int], dict[str, float]] = {}
        # kept, because a worker ends with the thread that started it
        self._executor = ThreadPoolExecutor(physical_cores(), thread_name_prefix="self-test")
        self.seconds: dict[str, float] = defaultdict(float)  # of each adapter

    def run(self) -> Findings:
        """Runs and judges everything. Raises WorkerFailure `unsupported` where the oracle has too
        few members to tell which of them is wrong, or where no fault is planted in its models."""
        if not self._plan.faults:
            homes = ", ".join(dict.fromkeys(fault.model for fault in FAULTS.values()))
            reason = f"faults are planted in {homes}, and none of these is selected"
            raise WorkerFailure("unsupported", reason)
        self._trains = self._able_to("train", self._plan.adapters)
        others = [name for name in self._plan.adapters if name not in self._trains]
        self._infers = self._able_to("infer", others)
        members = [name for name in self._plan.members if name in self._trains]
        if len(members) < MEMBERS:
            there = ", ".join(members) or "none"
            reason = f"it takes {MEMBERS} members of the oracle to tell who is wrong: {there}"
            raise WorkerFailure("unsupported", reason)
        self._plan = replace(self._plan, adapters=[*self._trains, *self._infers], members=members)
        self._plantings = self._assigned()
        self._run_all(self._runs())
        return self._judged()

    def _able_to(self, mode: str, adapters: Sequence[str]) -> list[str]:
        """Those that run the smallest model. Where one fails otherwise than by being unsupported,
        the failure is kept."""
        runs = [Run(Subject(SMALLEST, mode), name, "fp64") for name in adapters]
        self._run_all(runs)
        return [run.adapter for run in runs if run in self._results]

    # -- what is run -------------------------------------------------------------------------

    def _runs(self) -> Iterator[Run]:
        plan = self._plan
        for subject in self._subjects():
            seeds = range(plan.seeds if subject in self._honest_subjects() else 1)
            for seed, adapter, precision in itertools.product(
                seeds, self._who(subject), PRECISIONS
            ):
                yield Run(subject, adapter, precision, seed)
            for seed, draw in itertools.product(seeds, range(floor.RUNS)):
                noise = floor.noises("fp32")[0]
                yield Run(subject, plan.members[0], "fp64", seed, noise=noise, draw=draw)
        for control, subject in itertools.product(CONTROLS, self._honest_subjects()):
            for adapter, precision in itertools.product(self._who(subject), PRECISIONS):
                yield Run(subject, adapter, precision, fault=control)
        for name, adapter in self._plantings:
            subject = self._where(name, adapter)
            yield Run(subject, plan.members[0], "fp64", fault=name)  # is it live?
            yield from (Run(subject, adapter, precision, fault=name) for precision in PRECISIONS)

    def _honest_subjects(self) -> list[Subject]:
        modes = ("train", "infer")
        return [Subject(name, mode) for mode in modes for name in self._plan.models]

    def _subjects(self) -> list[Subject]:
        planted = [self._where(name, adapter) for name, adapter in self._plantings]
        return list(dict.fromkeys([*self._honest_subjects(), *planted]))

    def _who(self, subject: Subject) -> list[str]:
        """The adapters that run a subject without a fault."""
        plan = self._plan
        if subject.mode == "train":
            return self._trains if plan.thorough or not subject.recipe else list(plan.members)
        if plan.thorough or any(home(FAULTS[name]) == subject for name in plan.faults):
            return [*(self._trains if plan.thorough else plan.members), *self._infers]
        return [plan.members[0], *self._infers]

    def _where(self, name: str, adapter: str) -> Subject:
        subject = home(FAULTS[name])
        return subject if adapter in self._trains else replace(subject, mode="infer")

    def _assigned(self) -> list[tuple[str, str]]:
        """(fault, adapter) of what is planted."""
        found, taken = [], Counter[str]()
        for name in self._plan.faults:
            able = self._able(FAULTS[name])
            for adapter in able if self._plan.thorough else [min(able, key=taken.__getitem__)]:
                taken[adapter] += 1
                found.append((name, adapter))
        return found

    def _able(self, fault: Fault) -> list[str]:
        """Adapters in which a fault may be planted. Compiling takes long: in a quick trial, a fault
        of a program is left to the oracle's members, and in a large model to the first of them."""
        trains, infers = self._trains, self._infers if fault.infer else []
        if not self._plan.thorough and _rebuilds(fault):
            trains = list(self._plan.members[: 1 if fault.model in LARGE else None])
        return [*trains, *infers]

    def _run_all(self, runs: Iterable[Run]) -> None:
        """Runs what has not been run; adapters side by side."""
        lanes: dict[str, list[Run]] = defaultdict(list)
        for run in dict.fromkeys(runs):
            if run not in self._results:
                lanes[run.adapter].append(run)
        longest_first = sorted(lanes.values(), key=len, reverse=True)
        list(self._executor.map(self._run_lane, longest_first))

    def _run_lane(self, runs: Sequence[Run]) -> None:
        """The runs of one adapter, program by program."""
        start, adapter = clock.now(), runs[0].adapter
        programs: dict[object, list[Run]] = defaultdict(list)
        for run in runs:
            programs[run.program].append(run)
        for group in programs.values():
            try:
                with self._lanes.worker(adapter) as client:
                    self._build_and_run(client, group)
            except WorkerFailure as failure:
                self._failures |= {run: failure for run in group if run not in self._results}
        self.seconds[adapter] += clock.now() - start

    def _build_and_run(self, client: Client, runs: Sequence[Run]) -> None:
        timeout = self._pool.settings.case_timeout
        before: Run | None = None
        for run in runs:
            case = run.subject.case(run.adapter, run.precision)
            inputs = str(self._pool.inputs(case, seed=run.seed))
            if before is None:
                role = Role(run.adapter, "judge")
                spec = self._pool.spec(case, role, run.noise, fault=run.fault)
                client.request("build", timeout=timeout, spec=spec, inputs=inputs)
            elif (before.seed, before.fault) != (run.seed, run.fault):
                client.request("reload", timeout=timeout, fault=run.fault, inputs=inputs)
            before = run
            out = self._pool.scratch_file("tensors.npz")
            client.request("agree", timeout=timeout, steps=list(STEPS), out=str(out))
            self._results[run] = load_tensors(out)
            out.unlink()

    # -- what comes of it --------------------------------------------------------------------

    def _judged(self) -> Findings:
        rows: list[Row] = []
        for subject in self._honest_subjects():
            for seed in range(self._plan.seeds):
                rows += self._honest(subject, seed)
            rows += self._controls(subject)
        plantings = []
        for name, adapter in self._plantings:
            found = self._planted(name, adapter, rows)
            plantings += [found] if found is not None else []
        return Findings(rows, plantings, self._problems({found.fault for found in plantings}))

    def _problems(self, planted: set[str]) -> list[str]:
        """Runs that ended in an error, and faults that were planted nowhere."""
        failed = [
            f"{run.fault or 'no fault'} in {run.subject.model}, {run.adapter}: {failure}"
            for run, failure in self._failures.items()
            if failure.status != "unsupported" and not self._told(run)
        ]
        nowhere = [
            f"{name} could be planted nowhere: no adapter supports it"
            for name in self._plan.faults
            if name not in planted
        ]
        return list(dict.fromkeys([*failed, *nowhere]))

    def _honest(self, subject: Subject, seed: int) -> Iterable[Row]:
        for adapter, precision in itertools.product(self._plan.adapters, PRECISIONS):
            run = Run(subject, adapter, precision, seed)
            yield from self._rows("honest", str(seed), run, self._reference(run))

    def _controls(self, subject: Subject) -> Iterable[Row]:
        runs = itertools.product(CONTROLS, self._plan.adapters, PRECISIONS)
        for control, adapter, precision in runs:
            run = Run(subject, adapter, precision, fault=control)
            yield from self._rows("control", control, run, self._reference(replace(run, fault="")))

    def _planted(self, name: str, adapter: str, rows: list[Row]) -> Planting | None:
        """A fault takes part in the consensus like everybody else."""
        subject = self._where(name, adapter)
        exact = Run(subject, adapter, "fp64", fault=name)
        said = [p for p in PRECISIONS if self._told(replace(exact, precision=p))]
        if said:
            moved = Movement(self._failures[exact].reason, math.inf, math.inf)
            return Planting(name, adapter, subject.model, subject.mode, moved, caught=tuple(said))
        if exact not in self._results:
            return None
        floors = self._floors_of(subject, 0)
        oracle = Run(subject, self._plan.members[0], "fp64")
        clean, live = self._results[oracle], self._results.get(replace(oracle, fault=name))
        moved = Movement("", 0.0, 0.0)
        if live:
            own, again = turns.split(live)
            moved = self_test.movement(clean, {**own, **again}, floors)
        found = Planting(name, adapter, subject.model, subject.mode, moved)
        own = turns.split(self._results[exact])[0]
        members = {**self._members(subject, 0), adapter: own}
        consensus, odd, problem = self_test.odd_ones(members, floors)
        if consensus is None:
            return replace(found, problem=problem)
        caught, kind = [], "weak" if FAULTS[name].weak else "fault"
        kind = kind if moved.is_live else "dead"
        for precision in PRECISIONS:
            run = replace(exact, precision=precision)
            if run not in self._results:
                continue
            made = list(self._rows(kind, name, run, consensus))
            rows += made
            bad = {row.quantity for row in made if row.verdict == "divergent"}
            if bad and (precision != "fp64" or odd == {adapter} or "again" in bad):
                caught.append(precision)
        accused = [other for other in self._plan.adapters if other != adapter
                   and (other in odd or self._wrong(subject, other, consensus))]  # fmt: skip
        told = f"the oracle leaves out {', '.join(sorted(odd))}" if odd - {adapter} else ""
        return replace(found, caught=tuple(caught), accused=tuple(accused), problem=told)

    def _told(self, run: Run) -> bool:
        """Whether a run with a fault ended with the judge's word that it is wrong."""
        return bool(run.fault) and getattr(self._failures.get(run), "status", "") == "divergent"

    def _wrong(self, subject: Subject, adapter: str, against: Reference) -> bool:
        """Whether an adapter without a fault comes out divergent."""
        runs = [Run(subject, adapter, precision) for precision in PRECISIONS]
        return any(
            self_test.divergent(_judgements(run, self._results[run], against))
            for run in runs
            if run in self._results
        )

    def _rows(self, kind: str, name: str, run: Run, against: Reference | None) -> Iterable[Row]:
        if run not in self._results or against is None:
            return
        subject = run.subject
        for j in _judgements(run, self._results[run], against):
            yield Row(kind, name, run.adapter, subject.model, subject.mode, subject.recipe,
                      run.precision, j.quantity, j.tensor, j.error, j.floor, j.ratio,
                      j.verdict)  # fmt: skip

    def _reference(self, run: Run) -> Reference | None:
        """What the members agree on at a seed; a float64 run is judged by the others."""
        members = self._members(run.subject, run.seed)
        others = {n: t for n, t in members.items() if n != run.adapter or run.precision != "fp64"}
        floors = self._floors_of(run.subject, run.seed)
        return self_test.odd_ones(others, floors)[0]

    def _members(self, subject: Subject, seed: int) -> dict[str, Tensors]:
        runs = {name: Run(subject, name, "fp64", seed) for name in self._plan.members}
        found: dict[str, Tensors] = {
            name: turns.split(self._results[run])[0]
            for name, run in runs.items()
            if run in self._results
        }
        if subject.mode == "infer":
            inputs = self._inputs(subject, seed)
            found["numpy"] = reference.outputs(
                subject.model, "tiny", part(inputs, "parameter"), part(inputs, "buffer"),
                reference.batches(inputs), ops=NumpyOps(),
            )  # fmt: skip
        return found

    def _inputs(self, subject: Subject, seed: int) -> dict[str, np.ndarray]:
        case = subject.case(self._plan.members[0], "fp64")
        return load_tensors(self._pool.inputs(case, seed=seed))

    def _floors_of(self, subject: Subject, seed: int) -> dict[str, float]:
        if (subject, seed) not in self._floors:
            run = Run(subject, self._plan.members[0], "fp64", seed)
            noise = floor.noises("fp32")[0]
            runs = [replace(run, noise=noise, draw=draw) for draw in range(floor.RUNS)]
            noisy = [self._results[r] for r in runs if r in self._results]
            params = part(self._inputs(subject, seed), "parameter")
            made = floor.measure(self._results[run], noisy, params) if noisy else {}
            self._floors[subject, seed] = made
        return self._floors[subject, seed]


def _judgements(run: Run, tensors: Tensors, against: Reference) -> list[Judgement]:
    if run.fault == "batch_permuted":
        back = np.argsort(faults.permutation(len(tensors["output"])))
        outputs = {n: t[back] for n, t in tensors.items() if reference.is_output(n)}
        tensors = {**tensors, **outputs}
    tensors, again = turns.split(tensors)
    exact = run.precision == "fp64"
    rows = (
        judge.identity(tensors, against)
        if exact
        else judge.precision(tensors, against, run.precision)
    )
    return rows + determinism.memory(again, replace(against, tensors=tensors), run.precision)
