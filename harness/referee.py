"""Brings together what `numerics` needs to judge a case: float64 runs of the oracle's members,
disturbed runs for the noise floor, and NumPy's own reference."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from adapters import model as models
from adapters.base import Noise
from adapters.noise import NoisyOps
from adapters.numpy_reference import NumpyOps
from adapters.precisions import PRECISIONS
from adapters.registry import ORACLE
from harness import convergence, isa, localiser, machine, quality, turns
from harness.client import WorkerFailure
from harness.examiner import Answers, Examiner
from harness.lanes import Lanes, Task, Tensors
from harness.memo import Memo, digest
from harness.pool import Pool, Role, usual_batch
from harness.protocol import load_tensors, part
from harness.travel import Travel
from numerics import (
    determinism,
    deviations,
    examination,
    floor,
    judge,
    quantization,
    reference,
)
from numerics.deviations import Deviation, Explanation, Ran
from numerics.judge import Judgement, Reference
from numerics.oracle import Consensus, consensus
from results.records import Case

#: Suites whose cases run a program that is judged -> the task that does it. Those of other suites
#: are judged in the process in which they are measured.
JUDGED = {"conformance": "judge", "precision": "judge", "traps": "judge", "determinism": "repeat"}
ALONE = ("travel", "convergence", "quantization")  # suites that need no reference
DRAWN = ("properties",)  # suites of which nothing is known before they run
NUMPY = "numpy"  # the oracle's member that needs no framework


class Referee:
    """Judges tensors of cases. Every reference is computed once and kept."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.examiner = Examiner(pool, pool.settings.memo)
        self.lanes = Lanes(pool, self.examiner)
        self.travel = Travel(pool, self.lanes)
        self._oracles: dict[tuple[str, ...], Oracle] = {}
        self.deviations: Sequence[Deviation] = ()
        self.strict = False  # whether a stale one fails
        self.asked: Sequence[str] = ()  # adapters; empty: all
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
        tasks = []
        for case in cases:
            if case.size == "full":
                continue  # several at once do not fit into memory
            if self.examiner.knows(case):
                tasks.append(Task("exercise", case))
                tasks += [Task("floors", floors_case(case, a)) for a in self.members()[:1]]
            elif case.suite not in DRAWN:
                if case.suite in JUDGED:
                    tasks.append(Task(JUDGED[case.suite], case))
                if case.suite in ALONE or _quantized(case):
                    continue
                usual = self.judged_as(case)
                tasks += [Task("reference", member_case(usual, a)) for a in self.members()]
        self.lanes.ahead(tasks)

    def examine(self, case: Case) -> tuple[list[Judgement], Answers]:
        """Judgements of a case's exercises, and what they are about. Raises WorkerFailure."""
        answers = self.lanes.answers(case)
        rows = self.examiner.judge(case, answers, self._exercise_floors(case))
        if case.precision == "fp64" and any(row.verdict == "divergent" for row in rows):
            asked = self.examiner.exercises(case)
            others = self._elsewhere(case)
            rows = examination.second_opinion(asked, answers.results, others, rows)
        return rows, answers

    def _elsewhere(self, case: Case) -> dict[str, Mapping[str, Tensors]]:
        """What the oracle's other members give for the exercises of a case."""
        found = {}
        for adapter in self.members():
            if adapter == case.adapter:
                continue
            with contextlib.suppress(WorkerFailure), self.lanes.worker(adapter) as client:
                found[adapter] = self.examiner.elsewhere(case, client)
        return found

    def repeat(self, case: Case) -> dict[str, Judgement]:
        """Judgements by variant on running `case` again. Raises WorkerFailure."""
        first, found = self.lanes.repetitions(case)
        floors = self.oracle(case).floors
        return {name: determinism.row(name, again, first, floors) for name, again in found.items()}

    def curves(self, case: Case, seeds: int) -> dict[str, list[convergence.Curve]]:
        """How `case` converges in every other adapter that is asked for and can; in a lower
        precision, how it does in fp32, in its own adapter as well."""
        found = {}
        for adapter in self.asked or self._pool.settings.registry.modules:
            other = dataclasses.replace(case, adapter=adapter, precision="fp32")
            if other != case:
                name = adapter if case.precision == "fp32" else f"{adapter} fp32"
                with contextlib.suppress(WorkerFailure):  # which is that adapter's own outcome
                    found[name] = self.lanes.curves(other, seeds)
        return found

    def explained(self, case: Case, rows: list[Judgement]) -> Explanation:
        """The rows of a case with known deviations named, and which of those did not show."""
        known = self._known(case)
        return deviations.explain(rows, known) if known else Explanation(rows)

    def known_end(self, case: Case, status: str) -> str:
        """Why a case is known to end as it did, by an entry with the row `outcome STATUS`; empty
        where it is not."""
        if not any(f"outcome {status}" in each.rows for each in self.deviations):
            return ""
        row = Judgement("outcome", status, math.inf, None, None, "divergent", "none")
        with contextlib.suppress(WorkerFailure):  # it ends as soon as it is started
            (explained,) = self.explained(case, [row]).rows
            return explained.reason
        return ""

    def _known(self, case: Case) -> list[Deviation]:
        """The entries that are about a case and what runs it."""
        about = [each for each in self.deviations if each.suite == case.suite]
        if not about:
            return []
        # never through a worker that may be busy for minutes: this is asked of every case
        hello = self.lanes.hello(case.adapter)
        asked = any(each.where.builds for each in about)
        builds = self.lanes.libraries(case.adapter) if asked else {}
        processor = machine.cpu()
        sets = processor["instruction_sets"] or ()
        variables = {**os.environ, **isa.environment(self._pool.settings.isa, os.environ)}
        ran = Ran(
            framework=hello["framework"],
            execution=hello["execution"],
            versions=hello["versions"],
            builds=builds,
            vendor=processor["vendor"] or "",
            instruction_sets={
                "": sets,
                **{name: isa.usable(sets, name, variables) for name in isa.SWITCHES},
            },
            threads=self._pool.threads(Role(case.adapter, "judge", threads=case.threads)),
        )
        return [each for each in about if each.affects(case, ran)]

    def localise(self, case: Case) -> str:
        """Which operation of a divergent model is the first wrong one, or why that is not known."""
        if case.size == "full":
            return "not known: the results of all operations do not fit into memory at size full"
        if _quantized(case):
            return "see the layer that is named: each is judged by what really came in"
        if PRECISIONS[case.precision].low:
            return "not known: operations are not judged one by one in mixed precision"
        members = [name for name in self.members() if name != case.adapter]
        usual = self.judged_as(case)
        for adapter in members:
            try:
                with self.lanes.worker(case.adapter) as client, self.lanes.worker(adapter) as other:
                    return localiser.localise(self._pool, usual, client, lambda: other)
            except WorkerFailure as failure:
                reason = failure.reason
        return f"not known: {reason}" if members else "not known: there is no other framework"

    def _exercise_floors(self, case: Case) -> Mapping[str, float]:
        """By the first member of the oracle that is installed; nothing but unit roundoffs without
        any."""
        for adapter in self.members():
            try:
                return self.lanes.floors(floors_case(case, adapter))
            except WorkerFailure as failure:
                if failure.status != "unsupported":
                    raise
        return {}

    def judged_as(self, case: Case) -> Case:
        """The case whose reference `case` has: see `harness.pool.usual_batch`."""
        return dataclasses.replace(case, batch=usual_batch(case))

    def members(self) -> list[str]:
        """The adapters of the oracle that this run knows."""
        return [name for name in ORACLE if name in self._pool.settings.registry.modules]

    def judge(self, case: Case, tensors: Tensors) -> tuple[list[Judgement], str]:
        """Judgements, and the reason why there is no reference or the empty string."""
        again: Tensors
        tensors, again = turns.split(tensors)
        if _quantized(case):
            inputs = load_tensors(self._pool.inputs(case))
            rows = quantization.judge(quality.subject(case, inputs, tensors))
            return rows + determinism.memory(again, Reference(tensors, "", {}), "fp32"), ""
        usual = self.judged_as(case).batch
        tensors = as_usual(tensors, case.batch, usual)
        again = as_usual(again, case.batch, usual)
        rows, problem = self._against_oracle(case, tensors)
        noise = Reference(tensors, "", {})
        if again:
            precision = "fp32" if case.precision == "fp64" else case.precision
            floors, bits = self.oracle(case).floors_of(precision), judge.BITS[precision]
            noise = dataclasses.replace(noise, floors=floors, bits=bits)
        return rows + determinism.memory(again, noise, case.precision), problem

    def _against_oracle(self, case: Case, tensors: Tensors) -> tuple[list[Judgement], str]:
        oracle = self.oracle(case)
        if case.precision != "fp64":
            found = oracle.consensus()
            if found.reference is None:
                return [], found.problem
            if case.precision != "fp32":  # so much noise need not be proportional to its size
                floors, bits = oracle.floors_of(case.precision), judge.BITS[case.precision]
                measured = dataclasses.replace(found.reference, floors=floors, bits=bits)
                return judge.precision(tensors, measured, case.precision), ""
            rows = judge.precision(tensors, found.reference, case.precision)
            return self._coarser(oracle, found.reference, tensors, rows), ""
        rows = judge.against_numpy(
            tensors, oracle.numpy, oracle.params, oracle.recipe, oracle.floors
        )
        if set(oracle.members) <= {case.adapter}:
            return rows + judge.unreferenced(tensors, rows), ""
        found = oracle.consensus(without=case.adapter)
        if found.reference is None:
            return rows, found.problem
        return judge.identity(tensors, found.reference) + rows, ""

    @staticmethod
    def _coarser(
        oracle: Oracle, found: Reference, tensors: Tensors, rows: list[Judgement]
    ) -> list[Judgement]:
        """`rows`, where divergent ones say so if they are as exact as a coarser precision is."""
        if not any(row.verdict == "divergent" for row in rows):
            return rows
        floors = {name: oracle.floors_of(name) for name in judge.COARSER}
        return judge.silent_precision(tensors, found, floors, rows)


def _quantized(case: Case) -> bool:
    return PRECISIONS[case.precision].scheme is not None


def member_case(case: Case, adapter: str) -> Case:
    """What a member of the oracle runs to judge `case`."""
    return dataclasses.replace(
        case, suite="conformance", adapter=adapter, device="cpu", precision="fp64", threads=0
    )


def floors_case(case: Case, adapter: str) -> Case:
    """The case whose disturbed runs give the floors of an exercise's case, the same for every
    adapter and for fp64 and fp32."""
    return dataclasses.replace(case, adapter=adapter, device="cpu", threads=0)


def as_usual(tensors: Tensors, batch: int, usual: int) -> Tensors:
    """The tensors of a batch that repeats the usual examples as the reference has them: of the
    repetitions of the output, the one that is farthest from their median. Running variances are
    left out: they are unbiased, and n / (n - 1) differs."""
    if batch == usual:
        return tensors
    kept = {n: t for n, t in tensors.items() if not n.startswith("buffer@")}
    outputs = {n: t for n, t in tensors.items() if reference.is_output(n)}
    return {**kept, **{n: _farthest(t, batch // usual) for n, t in outputs.items()}}


def _farthest(output: np.ndarray, times: int) -> np.ndarray:
    """(times * n, ...) -> (n, ...): the repetition that is farthest from the median of all."""
    repetitions = output.reshape(times, len(output) // times, *output.shape[1:])
    away = np.abs(repetitions - np.median(repetitions, axis=0))
    distances = np.nan_to_num(away, nan=np.inf).reshape(times, -1).max(axis=1)
    return repetitions[int(np.argmax(distances))]


class Oracle:
    """Everything a case is judged against, computed when first asked for."""

    def __init__(self, pool: Pool, case: Case, referee: Referee) -> None:
        self._referee = referee
        self._pool = pool
        self._case = case
        self._inputs = pool.inputs(case)
        inputs = load_tensors(self._inputs)
        self.params, self._buffers = part(inputs, "parameter"), part(inputs, "buffer")
        self._batches = reference.batches(inputs)
        self.recipe = case.recipe or models.get(case.model).recipe
        self.absent: dict[str, str] = {}  # member -> how it failed

    @cached_property
    def members(self) -> dict[str, Tensors]:
        """Member -> its float64 tensors: every adapter of ORACLE that is installed and answers,
        and NumPy where it can compute all of them."""
        found: dict[str, Tensors] = {}
        if self._case.mode != "train":
            found[NUMPY] = self.numpy.tensors
        for adapter in self._referee.members():
            self._referee.announce(f"reference: {adapter}")
            try:
                tensors = self._referee.lanes.reference(member_case(self._case, adapter))
                found[adapter] = turns.split(tensors)[0]
            except WorkerFailure as failure:
                if failure.status != "unsupported":  # not installed: nobody expects it
                    self.absent[adapter] = str(failure)
        return found

    @cached_property
    def floors(self) -> dict[str, float]:
        """Relative noise floors of float32."""
        return self.floors_of("fp32")

    def floors_of(self, precision: str) -> dict[str, float]:
        """Relative noise floors of a precision, measured with the first member that there is."""
        members = [name for name in self.members if name != NUMPY] or list(self.members)
        if not members:
            return {}
        adapter = members[0]
        self._referee.announce(f"noise floor of {precision}: {adapter}")
        question = {
            "floors": dataclasses.asdict(member_case(self._case, adapter)),
            "precision": precision,
            "inputs": digest(self._inputs),
        }
        made = self._memo(adapter).get(question, lambda: self._floors(adapter, precision))
        return {name: float(value) for name, value in made.items()}

    def _memo(self, adapter: str) -> Memo:
        settings = self._pool.settings
        return Memo(None, {}) if adapter in settings.pythons else settings.memo

    def _floors(self, adapter: str, precision: str) -> Tensors:
        noisy = self._disturbed(adapter, floor.noises(precision))
        stored = adapter != NUMPY and self._referee.lanes.disturbs_storage(adapter)
        params = None if stored else self.params
        found = floor.measure(self.members[adapter], noisy, params)
        return {name: np.asarray(value) for name, value in found.items()}

    def _disturbed(self, member: str, noises: Sequence[Noise]) -> Iterable[Tensors]:
        case = self._case
        if member != NUMPY:
            return self._referee.lanes.disturbed(member_case(case, member), noises)
        return (
            reference.outputs(
                case.model, case.size, self.params, self._buffers, self._batches,
                ops=NoisyOps(NumpyOps(), noise), length=case.length, mode=case.mode,
            )
            for noise in noises
        )  # fmt: skip

    @cached_property
    def numpy(self) -> reference.NumpyReference:
        case = self._case
        return reference.compute(
            case.model,
            case.size,
            case.mode,
            self.params,
            self._buffers,
            self._batches,
            length=case.length,
            recipe=self.recipe,
            slopes=case.size != "full",
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
