"""One session of the suites: what the user asked for, the workers, and the run that is written."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from adapters import releases
from adapters.registry import Registry, UnknownName
from harness import clock, conditions, revision
from harness.arms import HERE, Base
from harness.client import PROJECT, WorkerFailure
from harness.convergence import SEEDS
from harness.environment import describe, physical_cores, usable_memory
from harness.gate import CANARY, UNRELIABLE, over_all
from harness.guard import Guard
from harness.memo import Memo
from harness.pool import SEED, Pool, Settings
from harness.progress import Display
from harness.runner import PROCESSES, Runner
from numerics import deviations
from numerics.exercises import Exercise
from results import announce, atomic, machines, notes, policy, ruling, scorecard
from results import store as stored
from results.announce import Verdict
from results.gate import SUITES as GATES
from results.records import Case, CaseRecord, Decision, Facts, Limit, Outcome
from results.store import Run, RunWriter, StoreError
from suites import limits, options, spread
from suites.selection import Selection, Table
from suites.spread import Answer, Spread

MEMORY_SHARE = 0.8  # of the memory that this process may use, at which a worker is killed
#: Options that a resumed run has to share with the run that it resumes.
SHARED = (
    "preset", "device", "size", "threads", "allocator", "isolation", "isa", "code", "against",
    "base_code", "policy",
)  # fmt: skip
TRACES = "traces"  # in a run's folder
LOGS = "logs"  # in a run's folder: of workers that failed
DEVIATIONS = Path(__file__).parent / "conformance" / "deviations.toml"
REFERENCES = ".references"  # in the folder of runs
LOCK = ".measuring"  # in the folder of runs


class Session:
    """Everything of one session, in which the paths `asked` are collected. The store and the
    workers appear when first needed. Raises UnknownName and StoreError for options that cannot
    be."""

    def __init__(
        self, option: Namespace, command: Sequence[str], asked: Sequence[str], stream: IO[str]
    ) -> None:
        self._option = option
        self._command = list(command)
        self._stream = stream
        self.registry = Registry.load(option.adapter_module)
        pythons = [text.partition("=")[0] for text in option.python]
        self.registry.require_modules(elsewhere=pythons)
        self.selection = Selection(
            self.registry,
            adapters=option.adapters,
            models=option.models,
            precisions=option.precisions,
            device=option.device,
            size=option.size,
            sweeps=option.sweep,
            preset=option.preset,
        )
        self._deviations = deviations.read(DEVIATIONS)
        self._pythons = _interpreters(option.python, self.registry)
        #: Sentences on releases that are installed where a worker may run, and known to be bad.
        self.known_bad = releases.warnings(self._pythons.values())
        for name in ("threads", "case_timeout", "memory_limit"):
            _positive(name, getattr(option, name))
        self.policy = policy.read(option.policy)
        self._base = Base(option.against) if option.against and not option.collectonly else None
        isolation = "adapter" if option.preset == "quick" else "case"
        self._settings: dict[str, Any] = {
            "preset": option.preset,
            "device": option.device,
            "size": option.size or "small",
            "threads": option.threads or (1 if option.against else physical_cores()),
            "allocator": option.allocator,
            "isolation": option.isolation or isolation,
            "isa": option.isa,
            "benchmark": option.benchmark,
            "seed": SEED,
            "code": revision.of(PROJECT, self.registry.sources()),
            **self._gated(),
        }
        self.cases: list[Case] = []
        self.exercises: dict[Case, list[Exercise]] = {}  # of the cases that are made of such
        self.tables: dict[str, Table] = {}  # by suite
        self.quiet: set[str] = set()  # suites whose cases have a line only where they are wrong
        self.report: str = ""
        self.verdict: Verdict | None = None  # what a gate came to
        self.tests: dict[str, list[str]] = {}  # id of a test with a case -> its arguments
        self.spread = self._spread()
        self.of_suites = options.of_suites(asked)
        self.scores: list[str] = []  # a scorecard, for the terminal
        self.ended_early = False  # by a worker that could not start
        self.problem: str = ""  # what could not be done at the end
        self.processes = PROCESSES[option.preset]
        self._runner: Runner | None = None
        self._lock: IO[str] | None = None
        self._corrected: dict[Decision, Decision] = {}  # of a gate on other machines
        try:
            self._before = self._resumed()
        except StoreError:
            if self._base is not None:
                self._base.close()
            raise
        #: What the resumed run has decided; it is not done again.
        self.decided: dict[Case, Outcome] = {
            outcome.case: outcome
            for outcome in (self._before.outcomes if self._before else ())
            if outcome.status != "interrupted" and outcome.case.suite not in CANARY
        }
        self.note = ""  # what a gate says of the machine
        self.failed: dict[str, str] = {}  # name of what is wrong besides a gate's cases -> why
        self.reported: set[str] = set()  # ids of the tests that were reported

    @property
    def runner(self) -> Runner:
        if self._runner is None:
            self._open()
        assert self._runner is not None
        return self._runner

    @property
    def outcomes(self) -> list[Outcome]:
        return self._runner.outcomes if self._runner is not None else []

    @property
    def known(self) -> dict[Case, list[Decision]]:
        """What a gate that is resumed had decided of each case that it had measured."""
        found: dict[Case, list[Decision]] = {case: [] for case in self.decided}
        for record in self._before.records if self._before else ():
            if isinstance(record, Decision) and record.case in found:
                found[record.case].append(record)
        return found

    @property
    def rulings(self) -> list[ruling.Ruling]:
        """What a gate came to, a ruling for every case that was selected for it."""
        gated = [case for case in self.cases if case.suite in GATES]
        base = self._base.arm.told if self._base else ""
        if self._runner is None:
            return ruling.rulings(gated, (), {}, base=base)
        return ruling.rulings(gated, self.store.decisions, self.store.outcomes, base=base)

    def ruling(self, case: Case) -> ruling.Ruling:
        """What a gate came to on one of its cases."""
        return next(found for found in self.rulings if found.case == case)

    def outcome(self, case: Case) -> Outcome | None:
        """How a case ended; None where it was not begun."""
        return self.store.outcomes.get(case) if self._runner is not None else None

    def taken(self, test: str, case: Case, *, reproduce: str) -> list[Outcome]:
        """How a case, or every point of its curve, ended on another machine; its records are this
        run's from now on. All tests are given away when the first is asked for."""
        assert self.spread is not None
        runner = self.runner
        start, found, problem = clock.now(), [], ("", "")
        try:
            answer = self._answer(test)
            found = spread.records(answer)
            self._keep_traces(answer.traces)
            tail = answer.tail.strip().splitlines()[-1:]
            problem = ("failed", f"the machine sent no outcome; it last printed: {''.join(tail)}")
        except spread.Lost as lost:
            problem = ("crashed", str(lost))
        except spread.SpreadError as error:
            problem = ("failed", str(error))
        own = [r for r in found if isinstance(r, Outcome) and _of_one_test(r.case, case)]
        own = own or [Outcome(case, *problem, clock.now() - start, reproduce)]
        found = [self._corrected.get(r, r) if isinstance(r, Decision) else r for r in found]
        for record in found:
            if record not in own and not (isinstance(record, Outcome) and self._known(record)):
                self.store.append(record)
        for outcome in own:
            if found:
                self.store.append(Facts(outcome.case, {"ran_on": dict(answer.machine)}))
            runner.ended_elsewhere(outcome)
        return own

    def _answer(self, test: str) -> Answer:
        """What came of a test elsewhere. A gate's decisions hold once all are there: how many were
        flagged is part of them. Raises Lost and SpreadError."""
        assert self.spread is not None
        if self.tests:
            self.spread.submit(self.tests)
            gated = [name for name in self.tests if name.startswith("suites/gate/")]
            self.tests = {}
            self._corrected = corrected_over_all(self.spread.peek(gated))
        return self.spread.answer(test)

    def _keep_traces(self, traces: Mapping[str, bytes]) -> None:
        for name, content in traces.items():
            (self.store.folder / TRACES).mkdir(exist_ok=True)
            (self.store.folder / TRACES / Path(name).name).write_bytes(content)

    def _known(self, outcome: Outcome) -> bool:
        """Whether this run has an outcome of that case already: several machines have the same
        canaries."""
        return any(known.case == outcome.case for known in self.outcomes)

    def _spread(self) -> Spread | None:
        option = self._option
        if option.launcher == "local" or option.collectonly:
            return None
        return Spread(option.scheduler, gpu=option.device == "cuda")

    @property
    def adapter_by_adapter(self) -> bool:
        """Whether one adapter's cases should be neighbours, so that its workers serve them all."""
        return self._settings["isolation"] == "adapter" and self.processes > 1

    @property
    def traces(self) -> Path | None:
        """Where traces go; None where none are wanted."""
        return self.store.folder / TRACES if self._option.traces and self.runner else None

    def limits(self, limit: str) -> list[Limit]:
        """What the machine can do at most: as the resumed run holds it, as an earlier run on this
        machine measured it, or measured now. Raises WorkerFailure where no adapter can."""
        runner = self.runner
        if self.spread is not None:
            return self._limits_elsewhere(self.spread, limit)
        taken_over = [r for r in (self._before.limits if self._before else ()) if r.limit == limit]
        if taken_over:
            return taken_over
        adapters = self.registry.select(self.selection.adapters)
        device, results = self._option.device, self._option.results
        kept = limits.file(results, self._environment(), limit, device, adapters)
        known = [] if self._pythons else limits.read(kept)
        for one in known:
            self.store.append(one)
        if known:
            return known
        found = runner.limits(limit, device, adapters)
        if not self._pythons:  # what another interpreter runs is not in the file's name
            limits.write(kept, found)
        return found

    def _limits_elsewhere(self, machines_: Spread, limit: str) -> list[Limit]:
        """A limit of every machine, as it measured it: figures are compared with those of the
        machine that they come from. Raises WorkerFailure."""
        test = f"suites/performance/test_limits.py::test_limit[{limit}]"
        adapters = self.registry.select(self.selection.adapters)
        timeout = self._option.case_timeout * (2 + len(adapters))  # a case may still run there
        try:
            answers = machines_.everywhere(test, options.same(self._option, None), timeout=timeout)
        except spread.SpreadError as error:
            raise WorkerFailure("failed", str(error)) from None
        found = [
            replace(record, machine=machines.place(answer.machine))
            for answer in answers
            for record in spread.records(answer)
            if isinstance(record, Limit) and record.limit == limit
        ]
        for one in found:
            self.store.append(one)
        if not found:
            last = " | ".join(answer.tail.strip().splitlines()[-1] for answer in answers)
            raise WorkerFailure("unsupported", f"no machine measured it: {last}")
        return found

    def rate(self, case: Case) -> float | None:
        """The throughput that the resumed run measured, in examples/s."""
        found = [m for m in self._before.measurements if m.case == case] if self._before else []
        rates = [m.values for m in found if m.metric == "throughput"]
        return sorted(rates[-1])[len(rates[-1]) // 2] if rates else None

    # --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        option, settings = self._option, self._settings
        if option.benchmark and self.spread is None:
            self._lock = _alone(option.results)
        share = MEMORY_SHARE * usable_memory()
        limit = int(option.memory_limit * 2**30 if option.memory_limit else share)
        resumed = {"resumed_from": self._before.run_id} if self._before else {}
        environment = {
            **self._environment(),
            **resumed,
            "known_bad": self.known_bad,
            "memory_limit_bytes": limit,
            "load_at_start": conditions.load(),
        }
        run_id = clock.today().strftime("%Y%m%dT%H%M%SZ-") + secrets.token_hex(2)
        self.store = RunWriter(option.results, run_id, {"run_id": run_id, **environment})
        self._scratch = tempfile.TemporaryDirectory(prefix="assay-", ignore_cleanup_errors=True)
        pool = Pool(
            Settings(
                registry=self.registry,
                python=sys.executable,
                scratch=Path(self._scratch.name),
                threads=settings["threads"],
                case_timeout=option.case_timeout,
                memory_limit=limit,
                pythons=self._pythons,
                allocator=option.allocator,
                fresh=settings["isolation"] == "case",
                memo=self._memo(),
                isa=option.isa,
                logs=self.store.folder.resolve() / LOGS,
                base=self._base.arm if self._base else HERE,
            )
        )
        todo = [case for case in self.cases if case not in self.decided]
        self.display = Display(self._stream, len(todo), quiet=self.quiet)
        gpu = Guard(wait=option.wait_for_gpu, share=option.share_gpu)
        self._runner = Runner(pool, self.store, self.display, gpu=gpu)
        self._runner.referee.deviations = self._deviations
        self._runner.referee.strict = option.strict_deviations
        self._runner.referee.asked = self.registry.select(self.selection.adapters)
        in_turn = {table.suite for table in self.tables.values() if table.in_turn}
        together = [
            case
            for case in self.exercises
            if self.selection.together(case, self.tables[case.suite])
        ]
        self._runner.referee.examiner.learn(self.exercises, in_turn=in_turn, together=together)
        self._take_over()
        if self.spread is not None:
            return  # nothing is computed here
        seeds = SEEDS[self._settings["preset"]]
        self._runner.ahead(todo, processes=self.processes, seeds=seeds)

    def _memo(self) -> Memo:
        """What references took long to compute, of earlier runs with the same software."""
        found = self._environment()
        about = {name: found[name] for name in ("versions", "python", "variables")}
        return Memo(
            self._option.results / REFERENCES, {**about, "seed": SEED, "isa": self._option.isa}
        )

    def _environment(self) -> dict[str, Any]:
        return describe(command=["pytest", *self._command], options=self._settings)

    def _resumed(self) -> Run | None:
        """The run that this one resumes. Raises StoreError unless it was made in the same way, by
        the same software and on the same machine."""
        option = self._option
        if not option.resume:
            return None
        run = stored.read(stored.find(option.results, option.resume))
        told = {name: run.environment.get(name) for name in SHARED}
        told["isa"] = told["isa"] or "native"  # of runs before there was a choice
        differences = [
            f"{name} is {self._settings.get(name)}, but was {told[name]}"
            for name in SHARED
            if told[name] != self._settings.get(name)
        ]
        now = self._environment()
        differences += machines.differences(now, run.environment)
        differences += machines.same_software(now, run.environment)
        if differences:
            raise StoreError(
                f"run {run.run_id} cannot be resumed: {'; '.join(differences[:5])}. What it holds "
                "would be mixed with something else; start a new run instead"
            )
        return run

    def _gated(self) -> dict[str, Any]:
        """What a gate compares with and goes by; empty without one."""
        if self._base is None:
            return {}
        return {
            "against": self._option.against,
            "base_code": revision.of_arm(self._base.arm),
            "policy": dataclasses.asdict(self.policy),
        }

    def _take_over(self) -> None:
        """Copies what the resumed run has decided: the new run is complete in itself."""
        assert self._runner is not None
        if self._before is None:
            return
        for record in self._before.records:
            if not isinstance(record, CaseRecord) or record.case in self.decided:
                self.store.append(record)
        self._runner.take_over(self.decided.values())
        for name in (TRACES, LOGS):
            if (self._before.folder / name).is_dir():
                target = self.store.folder / name
                shutil.copytree(self._before.folder / name, target, dirs_exist_ok=True)

    def close(self) -> None:
        """Ends workers and closes the store; then writes the report of a benchmark run."""
        if self.spread is not None:
            self.spread.close()
        if self._runner is not None:
            self.display.close()
            self._runner.close()
        if self._base is not None:
            self._base.close()
        if self._runner is None:
            return
        try:
            self.store.note(
                ended=clock.today().isoformat(timespec="seconds"),
                load_at_end=conditions.load(),
                seconds=self._runner.spent(),
                unreached=len(self._unreached()),
            )
        except StoreError as error:  # the disk is full: what was measured is kept all the same
            self.problem = str(error)
        self._keep_rulings()
        self.store.close()
        self._score()
        if self._option.against:
            self._announce()
        self._scratch.cleanup()
        if self._lock is not None:
            self._lock.close()
        option = self._option
        if option.benchmark and option.report != "none":
            self.report = self._write_report()

    def _unreached(self) -> list[Case]:
        """Selected cases that were not begun, or not brought to an end. A sweep's case stands for
        its points, which are cases of their own."""
        ended = {o.case for o in self.outcomes if o.status != "interrupted"}
        cases = [case for case in self.cases if not case.suite.startswith("sweep_")]
        return [case for case in cases if case not in ended]

    def _score(self) -> None:
        """Writes the adapters' scorecards and badges beside the records."""
        try:
            run = stored.read(self.store.folder)
            records = run.records
            found = scorecard.cards(records)
            self.scores = [*scorecard.table(found), *notes.lines(records)]
            atomic.write(self.store.folder / "scorecard.json", scorecard.to_json(found, run))
            for card in found:
                atomic.write(self.store.folder / f"{card.adapter}.svg", scorecard.badge(card))
        except StoreError as error:
            self.problem = self.problem or str(error)

    def _keep_rulings(self) -> None:
        """Records what follows from how cases ended, so that a report says the same."""
        known = {(found.case, found.metric) for found in self.store.decisions}
        for one in self.rulings:
            for found in one.decisions:
                if (found.case, found.metric) not in known:
                    try:
                        self.store.append(found)
                    except StoreError as error:
                        self.problem = self.problem or str(error)
                        return

    def _announce(self) -> None:
        """Writes what the gate found beside the records, and where GitHub shows it."""
        rulings, unreached = self.rulings, self._unreached()
        decisions = [found for one in rulings for found in one.decisions]
        undecided = [d.reason for d in decisions if d.reason.startswith(UNRELIABLE)][:1]
        if unreached and not undecided:
            number = f"{len(unreached)} of {len(self.cases)} selected cases"
            undecided = [f"the run was stopped before its end: {number} were not measured"]
        ungated = {one.case: one.ungated for one in rulings if not one.decisions}
        notes = [self.note] if self.note else []
        self.verdict = Verdict(
            decisions, ", ".join(self._option.against), "this run", "".join(undecided), notes,
            ungated, self.failed,
        )  # fmt: skip
        try:
            for name, text in announce.files(self.verdict).items():
                atomic.write(self.store.folder / name, text)
            announce.tell_github(self.verdict, self._stream)
        except (StoreError, OSError) as error:
            self.problem = self.problem or str(error)

    def _write_report(self) -> str:
        """The report's path, or why there is none; the records are safe either way."""
        option = self._option
        folder = Path(option.report) if option.report else self.store.folder / "report"
        try:
            from reports import build  # needs plotly, which measuring does not

            return str(build([self.store.folder], folder))
        except (StoreError, ImportError) as error:
            return f"none: {error}; `python -m reports {self.store.folder} -o DIR` makes it later"


def _alone(results: Path) -> IO[str]:
    """Holds the lock of measuring runs until it is closed, or this process ends. Raises StoreError
    while another run holds it."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock = (results / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot create the run's folder in {results}: {error.strerror}. Choose another folder "
            "with --results DIR."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StoreError(
            f"another run, process {holder}, is measuring into {results}: two at once would "
            "disturb each other's timings. Wait until it has ended, or stop it."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _of_one_test(outcome: Case, case: Case) -> bool:
    """Whether a case is that of a test, or a point of its curve."""
    if not case.suite.startswith("sweep_"):
        return outcome == case
    return replace(outcome, batch=case.batch, threads=case.threads, length=case.length) == case


def corrected_over_all(answers: Sequence[Answer]) -> dict[Decision, Decision]:
    """What holds of decisions of the second stage that machines made each on its own: by Holm over
    all of them. What cannot be read is told where its case ends."""
    seconds: dict[str, Decision] = {}
    for answer in answers:
        with contextlib.suppress(spread.SpreadError):
            for record in spread.records(answer):
                if isinstance(record, Decision) and record.stage == 2:
                    seconds[f"{record.case.suite}/{record.case.key}/{record.metric}"] = record
    held = over_all(seconds)
    return {seconds[name]: decision for name, decision in held.items()}


def _positive(name: str, value: float | None) -> None:
    if value is not None and value <= 0:
        raise UnknownName(f"--{name.replace('_', '-')} is {value:g}, but should be above 0")


def _interpreters(options: list[str], registry: Registry) -> dict[str, str]:
    found = {}
    for text in options:
        name, _, path = text.partition("=")
        registry.select([name])
        if not os.access(path, os.X_OK):
            raise UnknownName(
                f"--python {text}: {path or 'nothing'} is not an executable file; it should be "
                "ADAPTER=PATH, the path of a Python interpreter"
            )
        found[name] = path
    return found
