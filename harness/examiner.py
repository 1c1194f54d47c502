"""Has adapters do exercises, and brings together what judging them needs."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness import clock, turns
from harness.client import EXPLAINED, Client, WorkerFailure
from harness.memo import Memo
from harness.pool import Pool
from harness.protocol import load_tensors, save_tensors
from numerics import determinism, examination, exercises, floor, judge
from numerics.errors import normwise
from numerics.exercises import Exercise
from numerics.judge import Judgement
from results.records import Case

Tensors = Mapping[str, np.ndarray]
TOGETHER = 15  # cases that make one program: more would hide less of what one failure costs


@dataclass(frozen=True)
class Answers:
    """`results` by key of the exercise and name; `failed` says why an exercise has none; `counts`
    how often the function had been traced and compiled, where one function did them in turn."""

    results: Mapping[str, Tensors]
    failed: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)


class Examiner:
    """Knows the tables of exercises, what their results should be, and how exact they can be."""

    def __init__(self, pool: Pool, memo: Memo) -> None:
        self._pool = pool
        self._memo = memo
        self._asked: Mapping[Case, Sequence[Exercise]] = {}
        self._in_turn: Collection[str] = ()
        #: What any adapter is asked, by what `_subject` and what `_numbers` say of a case.
        self._subjects: dict[tuple[str, ...], dict[str, Exercise]] = {}
        self._together: dict[Case, list[Case]] = {}
        self._done: dict[Case, Answers] = {}  # of cases that were asked with another one
        self._lock = threading.RLock()
        self._expected: dict[tuple[str, int], Tensors] = {}
        self._inputs: dict[tuple[str, ...], Path] = {}

    def learn(
        self,
        asked: Mapping[Case, Sequence[Exercise]],
        *,
        in_turn: Collection[str] = (),
        together: Iterable[Case] = (),
    ) -> None:
        """Makes cases that are made of exercises known.

        in_turn     suites in which the exercises of a case are one function that is called with one
                    input after the other
        together    cases of which TOGETHER make one program, where a compiler takes long to start
        """
        self._together = defaultdict(list)
        for case in together:
            if case.suite not in in_turn:
                self._together[_program(case)].append(case)
        self._asked = {
            case: [exercise.at(case.precision) for exercise in own] for case, own in asked.items()
        }
        self._in_turn = in_turn
        self._subjects = defaultdict(dict)
        for case, own in self._asked.items():
            for about in (_subject(case), _numbers(case)):
                self._subjects[about] |= {exercise.key: exercise for exercise in own}

    def knows(self, case: Case) -> bool:
        """Whether the case is made of exercises."""
        return case in self._asked

    def exercises(self, case: Case) -> Sequence[Exercise]:
        """The exercises of a case."""
        return self._asked[case]

    def expected(self, exercise: Exercise) -> Tensors:
        """What NumPy says that the results should be."""
        with self._lock:
            known = exercise.key, exercise.bits
            if known not in self._expected:
                question = {"exercise": exercise.digest}
                made = self._memo.get(question, lambda: exercises.expected(exercise))
                self._expected[known] = made
            return self._expected[known]

    def answers(self, case: Case, client: Callable[[], Client]) -> Answers:
        """The results of a case's exercises in a worker. Raises WorkerFailure."""
        if case.suite in self._in_turn:
            return self._ask_in_turn(case, client())
        if case in self._together.get(_program(case), []):
            self._ask_together(case, client())
        if case in self._done:
            return self._done.pop(case)
        try:
            found, failed = self._ask(case, client(), [None])
        except WorkerFailure as failure:
            if failure.status != "crashed" or len(self.exercises(case)) == 1:
                raise
            return self._one_by_one(case, client)
        return Answers(found[0], failed)

    def _one_by_one(self, case: Case, client: Callable[[], Client]) -> Answers:
        """The results of a case whose exercises end the worker when they are asked together: each
        is asked alone, so that one that crashes costs itself alone."""
        results: dict[str, Tensors] = {}
        failed: dict[str, Mapping[str, str]] = {}
        deadline = clock.now() + self._pool.settings.case_timeout
        for exercise in self.exercises(case):
            try:
                found, told = self._ask(case, client(), [None], asked=[exercise], until=deadline)
            except WorkerFailure as failure:
                if failure.status != "crashed":
                    raise
                failed[exercise.key] = {"status": failure.status, "reason": failure.reason}
                continue
            results |= found[0]
            failed |= told
        return Answers(results, failed)

    def elsewhere(self, case: Case, client: Client) -> Mapping[str, Tensors]:
        """The results of the same exercises in another adapter's worker. Raises WorkerFailure."""
        found, _ = self._ask(case, client, [None])
        return found[0]

    def _ask_together(self, case: Case, client: Client) -> None:
        """Asks for a case and for those that make one program with it. If that ends the worker,
        each will be asked alone."""
        waiting = self._together[_program(case)]
        chunk = [case, *(other for other in waiting if other != case)][:TOGETHER]
        for one in chunk:
            waiting.remove(one)
        asked = {e.key: e for one in chunk for e in self.exercises(one)}
        inputs = self._pool.scratch_file("together.npz")
        save_tensors(inputs, self._handed(asked.values()))
        try:
            found, failed = self._ask(
                case, client, [None], asked=list(asked.values()), inputs=inputs
            )
        except WorkerFailure:
            return
        finally:
            inputs.unlink()
        for one in chunk:
            keys = {exercise.key for exercise in self.exercises(one)}
            self._done[one] = Answers(
                {key: results for key, results in found[0].items() if key in keys},
                {key: failure for key, failure in failed.items() if key in keys},
            )

    def once(
        self, exercises_: Sequence[Exercise], case: Case, client: Client, *, fault: str = ""
    ) -> list[Judgement]:
        """Judgements on exercises that are not in a table, in float64: results and, where the
        adapter differentiates, gradients; with a planted `fault`. Raises WorkerFailure."""
        asked = list({exercise.key: exercise for exercise in exercises_}.values())
        inputs = self._pool.scratch_file("drawn.npz")
        save_tensors(inputs, self._handed(asked))
        rows = []
        for mode in ("infer", "train"):
            now = dataclasses.replace(case, mode=mode)
            runs, failed = self._ask(now, client, [None], asked=asked, inputs=inputs, fault=fault)
            rows += self._judged(asked, Answers(runs[0], failed), {}, case.precision)
        inputs.unlink()
        return rows

    def _ask_in_turn(self, case: Case, client: Client) -> Answers:
        out = self._pool.scratch_file("results.npz")
        told = client.request(
            "in_turn",
            timeout=self._pool.settings.case_timeout,
            setting=_setting(case),
            calls={e.key: dataclasses.asdict(e.call) for e in self.exercises(case)},
            inputs=str(self._inputs_file(case)),
            out=str(out),
        )
        results: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for name, value in load_tensors(out).items():
            key, _, tensor = name.partition(":")
            results[key][tensor] = value
        out.unlink()
        return Answers(results, {}, told["counts"])

    def floors(self, case: Case, client: Callable[[], Client]) -> dict[str, float]:
        """Noise floors of what any adapter is asked in a case like this one, measured by disturbing
        a float64 program of this case's adapter: `KEY:NAME` -> relative floor. Raises
        WorkerFailure."""
        precision = "fp32" if case.precision == "fp64" else case.precision
        digests = [exercise.digest for exercise in self._subjects[_subject(case)].values()]
        question = {"floors": digests, "mode": case.mode, "precision": precision}
        kept = self._memo.get(
            {**question, "adapter": case.adapter},
            lambda: self._measured(case, precision, client()),
        )
        scale = 2.0 ** (floor.BITS - 53) if case.precision == "fp64" else 1.0
        return {name: float(value) * scale for name, value in kept.items()}

    def _measured(self, case: Case, precision: str, client: Client) -> Tensors:
        exact = dataclasses.replace(case, precision="fp64")
        noises = [dataclasses.asdict(noise) for noise in floor.noises(precision)]
        asked = [e for e in self._subjects[_subject(case)].values() if not e.exact]
        if not asked:
            return {}
        # against the same program without noise: what is wrong with it is no rounding
        inputs = self._inputs_file(case)  # the numbers that the precision sees
        (clean, *runs), _ = self._ask(exact, client, [None, *noises], asked=asked, inputs=inputs)
        found = {}
        for exercise in asked:
            for name, value in turns.split(clean.get(exercise.key, {}))[0].items():
                errors = [normwise(run[exercise.key][name], value) for run in runs]
                finite = [error for error in errors if math.isfinite(error)]
                rms = math.sqrt(np.mean(np.square(finite))) if finite else 0.0
                found[f"{exercise.key}:{name}"] = np.asarray(rms)
        return found

    def judge(self, case: Case, answers: Answers, floors: Mapping[str, float]) -> list[Judgement]:
        """A judgement for every result, and one for every exercise that has none."""
        return self._judged(self.exercises(case), answers, floors, case.precision)

    def _judged(
        self,
        asked: Sequence[Exercise],
        answers: Answers,
        floors: Mapping[str, float],
        precision: str,
    ) -> list[Judgement]:
        rows = []
        for exercise in asked:
            if exercise.key in answers.failed:
                rows.append(_without(exercise, answers.failed[exercise.key]))
                continue
            own, again = turns.split(answers.results[exercise.key])
            prefix = f"{exercise.key}:"
            about = {n.removeprefix(prefix): f for n, f in floors.items() if n.startswith(prefix)}
            reference = self.expected(exercise)
            rows += examination.results(exercise, own, reference, about, precision)
            first = judge.Reference(own, "", about, judge.BITS[precision])
            rows += determinism.memory(again, first, precision, of=exercise.name)
        return rows

    def _ask(
        self,
        case: Case,
        client: Client,
        noises: Sequence[Any],
        *,
        asked: Sequence[Exercise] | None = None,
        inputs: Path | None = None,
        until: float | None = None,
        fault: str = "",
    ) -> tuple[list[dict[str, dict[str, np.ndarray]]], Mapping[str, Mapping[str, str]]]:
        asked = self.exercises(case) if asked is None else asked
        deadline = until or clock.now() + self._pool.settings.case_timeout
        out = self._pool.scratch_file("results.npz")
        told = client.request(
            "exercise",
            timeout=max(0.001, deadline - clock.now()),
            setting=_setting(case),
            calls={e.key: dataclasses.asdict(e.call) for e in asked},
            by={e.key: list(e.by) for e in asked if case.mode == "train"},
            noises=list(noises),
            fault=fault,
            inputs=str(inputs or self._inputs_file(case)),
            out=str(out),
        )
        runs: list[dict[str, dict[str, np.ndarray]]] = [defaultdict(dict) for _ in noises]
        for name, value in load_tensors(out).items():
            number, _, rest = name.partition(":")
            key, _, tensor = rest.partition(":")
            runs[int(number)][key][tensor] = value
        out.unlink()
        return runs, _with_log(told["failed"], client)

    def _inputs_file(self, case: Case) -> Path:
        """A file with inputs and cotangents of all exercises of a subject in a precision."""
        with self._lock:
            about = _numbers(case)
            if about not in self._inputs:
                path = self._pool.scratch_file(f"exercises-{'-'.join(about)}.npz")
                save_tensors(path, self._handed(self._subjects[about].values()))
                self._inputs[about] = path
            return self._inputs[about]

    def _handed(self, asked: Iterable[Exercise]) -> dict[str, np.ndarray]:
        """What a worker needs to do exercises: inputs, and cotangents of their outputs."""
        tensors: dict[str, np.ndarray] = {}
        for exercise in asked:
            key = exercise.key
            tensors |= {f"{key}:{name}": value for name, value in exercise.handed.items()}
            if exercise.by:
                seeds = exercises.cotangents(exercise, _outputs(self.expected(exercise)))
                tensors |= {f"cotangent:{key}:{name}": seed for name, seed in seeds.items()}
        return tensors


def _with_log(
    failed: Mapping[str, Mapping[str, str]], client: Client
) -> Mapping[str, Mapping[str, str]]:
    """Why exercises have no result; of what is no lack of support, the worker's log says more."""
    return {
        key: dict(why)
        if why["status"] in EXPLAINED
        else {**why, "reason": client.with_log(why["reason"])}
        for key, why in failed.items()
    }


def _program(case: Case) -> Case:
    """The same for all cases that can make one program."""
    return dataclasses.replace(case, model="any")


def _subject(case: Case) -> tuple[str, ...]:
    return case.suite, case.model, case.mode, case.precision


def _numbers(case: Case) -> tuple[str, ...]:
    """What is the same of cases that get the same numbers."""
    return case.suite, case.model, case.precision


def _setting(case: Case) -> dict[str, Any]:
    return {"device": case.device, "precision": case.precision, "threads": case.threads or 1}


def _outputs(tensors: Tensors) -> Tensors:
    return {name: t for name, t in tensors.items() if not name.startswith("gradient:")}


def _without(exercise: Exercise, failure: Mapping[str, str]) -> Judgement:
    """The row of an exercise that has no result."""
    verdict = "unsupported" if failure["status"] == "unsupported" else "divergent"
    told = f"{failure['status']}: {failure['reason']}"
    return Judgement("output", exercise.name, math.inf, None, None, verdict, "none", told)
