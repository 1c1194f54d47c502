"""pytest and the harness meet here, and nowhere else: options, case selection, fixtures."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

from adapters import model as models
from adapters.registry import UnknownName
from harness import clock, isa, machine, switches
from harness.arms import ArmError
from harness.attempt import Attempt
from harness.client import NotStarted, WorkerFailure
from harness.gate import Gate
from harness.runner import Ended, Runner
from harness.self_test import Plan, SelfTest
from harness.suites_trial import SuitesTrial
from numerics import self_test
from numerics.deviations import DeviationError
from numerics.self_test import Findings
from results.announce import discoveries, exit_code, headline
from results.command_line import FINE, NOTHING, USAGE
from results.gate import INCONCLUSIVE, REGRESSED, sentence
from results.gate import SUITES as GATES
from results.policy import PolicyError
from results.records import Case, Outcome
from results.ruling import Ruling
from results.store import StoreError
from suites import options
from suites.conformance import operations, sizes, threads
from suites.performance.sweeps import Points
from suites.session import Session
from suites.spread import SpreadError

#: pytest-benchmark's timer for everything that is measured in a worker.
CLOCK = clock.WorkerClock()
SESSION = pytest.StashKey[Session]()
SELF_TEST = "conformance/test_self_test.py"
OURS = pytest.StashKey[set[str]]()  # ids of the suites' tests, as pytest's root makes them
ROOT = Path(__file__).resolve().parent
UNUSED = "ignore:Benchmark fixture was not used at all"  # where a case ended before it was measured
TRIAL = pytest.StashKey[SelfTest]()  # kept as long as the workers that it started
CONFUSION = pytest.StashKey[list[str]]()  # what the judge's own trial found, as lines


def pytest_addoption(parser: pytest.Parser) -> None:
    try:
        options.add(parser)
    except ValueError as error:  # "option names {'--benchmark'} already added"
        raise pytest.UsageError(
            f"{ROOT}: {error} by another checkout of Assay, or by another conftest.py that this "
            "pytest has loaded. Ask for the suites of one checkout alone: "
            f"cd {ROOT}; pytest suites --confcutdir=."
        ) from None


def pytest_configure(config: pytest.Config) -> None:
    if options.of_suites(config.args, around=True):
        _configure_pytest(config)
    if problem := options.problem(config):
        _refuse(problem)
    # the terminal as it is now, before pytest captures what tests print
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    try:
        config.stash[SESSION] = Session(
            config.option, config.invocation_params.args, config.args, stream
        )
    except (UnknownName, StoreError, DeviationError, ArmError, PolicyError, SpreadError) as error:
        _refuse(str(error))
    config.pluginmanager.register(Unreached(), "assay-unreached")


def _configure_pytest(config: pytest.Config) -> None:
    """Sets what the suites need of pytest's configuration, which may be somebody else's."""
    config.addinivalue_line("filterwarnings", UNUSED)
    for name, pattern in (("python_files", "test_*.py"), ("python_functions", "test")):
        if pattern not in config.getini(name):
            config.addinivalue_line(name, pattern)


class UsageError(pytest.exit.Exception):  # type: ignore[name-defined]  # made at run time
    """A wrong option; pytest's own errors of that name have another exit code."""


def _refuse(problem: str) -> NoReturn:
    raise UsageError(problem, returncode=USAGE)


# -- collection ------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not options.place(metafunc.definition.path):
        return
    session = metafunc.config.stash[SESSION]
    if "case" in metafunc.fixturenames and hasattr(metafunc.module, "TABLE"):
        table = metafunc.module.TABLE
        session.tables[table.suite] = table
        session.quiet.add(table.suite)
        found = session.selection.exercises(table)
        session.exercises |= found
        metafunc.parametrize("case", list(found), ids=[case.key for case in found])
    elif "case" in metafunc.fixturenames and hasattr(metafunc.module, "SUBJECTS"):
        cases = session.selection.subjects(metafunc.module.SUBJECTS)
        session.quiet.add(metafunc.module.SUBJECTS.suite)
        metafunc.parametrize("case", cases, ids=[case.key for case in cases])
    elif "case" in metafunc.fixturenames:
        plans = getattr(metafunc.module, "PLANS", None) or [metafunc.module.PLAN]
        # plans of sizes tiny and small are one where --size says tiny
        cases = list(dict.fromkeys(c for plan in plans for c in session.selection.cases(plan)))
        ids = [f"{case.suite.removeprefix('sweep_')}/{case.key}" if len(plans) > 1 else case.key
               for case in cases]  # fmt: skip
        metafunc.parametrize("case", cases, ids=ids)
    if "adapter" in metafunc.fixturenames:
        metafunc.parametrize("adapter", session.registry.select(session.selection.adapters))


@pytest.hookimpl(trylast=True)  # after -k and -m: what they leave out is not prepared
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    alone = config.option.benchmark and not config.option.against  # nothing to compare with
    left_out = [
        item
        for item in items
        if (options.place(item.path).startswith("performance/") and not alone)
        or (options.place(item.path).startswith("gate/") and not config.option.against)
        or (options.place(item.path) == SELF_TEST and not config.option.self_test)
        or "NOTSET" in item.name  # a test for which the selection holds no case
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    session = config.stash[SESSION]
    config.stash[OURS] = {item.nodeid for item in items if options.place(item.path)}
    if session.adapter_by_adapter:
        items.sort(key=_adapter_by_adapter)
    session.cases = [case for item in items if (case := _case(item)) is not None]
    session.tests = {
        options.test_id(item): options.same(config.option, case)
        for item in items
        if (case := _case(item)) is not None
    }


def _adapter_by_adapter(item: pytest.Item) -> tuple[int, str]:
    """Leaves conformance in front and gathers what is timed by adapter."""
    case = _case(item)
    timed = options.place(item.path).startswith("performance/")
    return (1, case.adapter) if timed and case else (0, "")


def _case(item: pytest.Item) -> Case | None:
    parameters = getattr(item, "callspec", None)
    return parameters.params.get("case") if parameters else None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A case that the resumed run has decided ends as it ended there."""
    session, case = pyfuncitem.config.stash[SESSION], _case(pyfuncitem)
    if case is None:
        return None
    if case.suite in GATES and not session.spread:
        return None  # `gated` ends it, resumed or not
    if case in session.decided:
        assert session.runner  # opens the run, which takes the records over
        _end(session, session.decided[case])
    elif session.spread:
        test = options.test_id(pyfuncitem)
        try:
            told = session.taken(test, case, reproduce=_reproduce(pyfuncitem))
        except StoreError as error:
            _stop(error)
        if case.suite.startswith("sweep_"):
            _end_curve(told)
        else:
            _end(session, told[0])
    else:
        return None
    return True


def _end(session: Session, outcome: Outcome) -> None:
    """Ends a test as its case ended."""
    if outcome.case.suite in GATES:
        _end_gated(session.ruling(outcome.case), outcome)
    elif outcome.status != "ok":
        _end_test(outcome)


def _stop(error: StoreError) -> NoReturn:
    """Ends the run: nothing more can be kept, so that nothing more can be decided."""
    pytest.exit(str(error), returncode=pytest.ExitCode.INTERNAL_ERROR)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes what fails besides a gate's own cases. A worker that cannot start ends the run with
    one line: every other case would fail alike."""
    if call.excinfo is not None and isinstance(call.excinfo.value, NotStarted):
        item.config.stash[SESSION].ended_early = True
        pytest.exit(str(call.excinfo.value), returncode=USAGE)
    report = yield
    session, case = item.config.stash[SESSION], _case(item)
    session.reported.add(item.nodeid)
    if report.failed and not (case is not None and case.suite in GATES):
        name = f"{case.suite}/{case.key}" if case is not None else item.nodeid
        lines = report.longreprtext.strip().splitlines()
        session.failed.setdefault(name, " ".join(lines[:2] if case is not None else lines[-1:]))
    return report


class Unreached:
    """Reports the tests of a gate's cases that pytest did not reach, as the gate's list has them:
    the results of tests, the JUnit file among them, hold every selected case."""

    @pytest.hookimpl(tryfirst=True)  # before the JUnit file is written
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        own = session.config.stash[SESSION]
        if not session.config.option.against or session.config.option.collectonly:
            return
        for item in getattr(session, "items", ()):
            case = _case(item)
            if case is None or case.suite not in GATES or item.nodeid in own.reported:
                continue
            for report in _reports(item, own.ruling(case), own.outcome(case)):
                session.config.hook.pytest_runtest_logreport(report=report)


def _reports(item: pytest.Item, ruling: Ruling, ended: Outcome | None) -> Iterator[Any]:
    """What pytest would have reported of a gate's test."""
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    why: Any = None
    try:
        _end_gated(ruling, ended)
    except pytest.fail.Exception as error:
        outcome, why = "failed", str(error.msg)
    except pytest.skip.Exception as error:
        outcome, why = "skipped", (str(item.path), 0, f"Skipped: {error.msg}")
    told = [(found.metric, sentence(found)) for found in ruling.decisions]
    name, at = item.nodeid, item.location
    yield pytest.TestReport(name, at, {}, outcome, why, "call", user_properties=told)
    yield pytest.TestReport(name, at, {}, "passed", None, "teardown", user_properties=told)


def pytest_report_header(config: pytest.Config) -> list[str]:
    option = config.option
    what = "conformance, then measurement" if option.benchmark else "conformance only"
    lines = [
        f"assay: {what}; preset {option.preset}, device {option.device}",
        f"processor: {machine.named(machine.cpu())}",
    ]
    lines += [f"warning: {told}" for told in config.stash[SESSION].known_bad]
    lines += [f"warning: {thrown}" for thrown in switches.switched(os.environ)]
    if option.isa != "native":
        lines.append(f"kernels held down to {option.isa}: {isa.told(option.isa)}")
    return lines


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture
def runner(request: pytest.FixtureRequest) -> Runner:
    """The session's runner, for what is not a case."""
    return request.config.stash[SESSION].runner


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> Findings:
    """What the judge made of faults, honest runs and harmless changes; kept in the run's folder."""
    config, session = request.config, request.config.stash[SESSION]
    wanted = session.selection.models or models.names()
    plan = Plan.of(
        session.registry.select(session.selection.adapters),
        wanted,
        thorough=config.option.preset != "quick",
    )
    runner = session.runner
    config.stash[TRIAL] = trial = SelfTest(runner.pool, runner.referee.lanes, plan)
    try:
        found = trial.run()
        members = [name for name in plan.members if name in plan.adapters]
        tables = {
            "operations": (operations.exercises(), 0),
            "sizes": (sizes.exercises(), 0),
            "threads": (threads.exercises(), threads.THREADS),
        }
        suites = SuitesTrial(runner.pool, runner.referee, members, tables, models=wanted)
        more = suites.run()
        found = Findings(
            [*found.rows, *more.rows],
            [*found.plantings, *more.plantings],
            [*found.failures, *more.failures],
        )
    except WorkerFailure as failure:
        ended = pytest.skip if failure.status == "unsupported" else pytest.fail
        raise ended.Exception(str(failure)) from None
    self_test.write(session.store.folder / "self_test.csv", found.rows)
    config.stash[CONFUSION] = self_test.table(found)
    return found


@pytest.fixture
def processes(request: pytest.FixtureRequest) -> int:
    """How many processes the preset measures a case in."""
    return request.config.stash[SESSION].processes


@pytest.fixture
def programs(request: pytest.FixtureRequest) -> Callable[[str], int]:
    """How many programs are drawn for a property of an adapter."""
    return request.config.stash[SESSION].selection.programs


@pytest.fixture
def tracing(request: pytest.FixtureRequest) -> Path | None:
    """Where traces go; None where none are wanted."""
    return request.config.stash[SESSION].traces


@pytest.fixture
def measure_limit(request: pytest.FixtureRequest) -> Callable[[str], float]:
    """Measures a limit of the machine; the test is skipped where no adapter can."""

    def measure(limit: str) -> float:
        try:
            found = request.config.stash[SESSION].limits(limit)
        except WorkerFailure as failure:
            raise pytest.skip.Exception(failure.reason) from None
        return max(one.value for one in found)

    return measure


@pytest.fixture
def curve(
    request: pytest.FixtureRequest,
) -> Callable[[Points, Callable[[Attempt], float]], None]:
    """Measures the points of a curve, each a case with an outcome of its own. Out of memory and
    unsupported are points as well; the test fails for any other end, or where no point is ok."""

    def draw(points: Points, measure: Callable[[Attempt], float]) -> None:
        __tracebackhide__ = True
        session, outcomes = request.config.stash[SESSION], []
        rate: float | None = None
        point = next(points, None)
        while point is not None:
            outcome, rate = _point(session, point, measure, _reproduce(request.node))
            outcomes.append(outcome)
            try:
                point = points.send(rate)
            except StopIteration:
                break
        _end_curve(outcomes)

    return draw


def _end_curve(outcomes: Sequence[Outcome]) -> None:
    """Ends a test as the points of its curve did."""
    __tracebackhide__ = True
    for outcome in outcomes:
        if outcome.status not in ("ok", "out_of_memory", "unsupported"):
            _end_test(outcome)
    if not any(outcome.status == "ok" for outcome in outcomes):
        _end_test(outcomes[0])


def _point(
    session: Session, case: Case, measure: Callable[[Attempt], float], reproduce: str
) -> tuple[Outcome, float | None]:
    if case in session.decided:
        return session.decided[case], session.rate(case)
    rate = None
    try:
        with session.runner.case(case, reproduce=reproduce) as attempt:
            rate = measure(attempt)
    except Ended as ended:
        return ended.outcome, None
    except StoreError as error:
        _stop(error)
    return session.outcomes[-1], rate


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
) -> Callable[[Case], AbstractContextManager[Attempt]]:
    """`with run(case) as attempt:` makes whatever happens inside the case's outcome, and the
    outcome the test's: ok passes, unsupported skips, everything else fails."""

    @contextmanager
    def running(case: Case) -> Iterator[Attempt]:
        __tracebackhide__ = True
        session = request.config.stash[SESSION]
        try:
            with session.runner.case(case, reproduce=_reproduce(request.node)) as attempt:
                yield attempt
        except Ended as ended:
            _end_test(ended.outcome)
        except StoreError as error:
            _stop(error)

    return running


@pytest.fixture(scope="session")
def gate(request: pytest.FixtureRequest) -> None:
    """Has the gate decide on all of its cases: those that it flags are measured once more when all
    have been measured."""
    session = request.config.stash[SESSION]
    cases = {
        case: _reproduce(item)
        for item in request.session.items
        if (case := _case(item)) is not None and case.suite in GATES
    }
    if session.spread:
        return  # other machines decide
    try:
        found = Gate(session.runner, session.policy).decide(cases, known=session.known)
    except StoreError as error:
        _stop(error)
    session.note = found.note


@pytest.fixture
def gated(
    request: pytest.FixtureRequest, gate: None, record_property: Callable[[str, object], None]
) -> Callable[[Case], None]:
    """Ends a test as the gate decided on its case."""

    def end(case: Case) -> None:
        __tracebackhide__ = True
        session = request.config.stash[SESSION]
        ruling = session.ruling(case)
        for found in ruling.decisions:
            record_property(found.metric, sentence(found))
        _end_gated(ruling, session.outcome(case))

    return end


def _end_gated(ruling: Ruling, outcome: Outcome | None) -> None:
    """Regressed fails; inconclusive, and what is not gated, is skipped. The run's exit code says
    that something was not decided."""
    __tracebackhide__ = True
    if worse := ruling.of(REGRESSED):
        told = [ruling.case.key, *map(sentence, worse)]
        told += [f"reproduce: {outcome.reproduce}"] if outcome is not None else []
        raise pytest.fail.Exception("\n".join(told), pytrace=False)
    if open_ := ruling.of(INCONCLUSIVE):
        raise pytest.skip.Exception("; ".join(map(sentence, open_)))
    if ruling.ungated:
        raise pytest.skip.Exception(ruling.ungated)


def _end_test(outcome: Outcome) -> None:
    __tracebackhide__ = True
    if outcome.status == "unsupported":
        raise pytest.skip.Exception(outcome.reason) from None
    told = f"{outcome.status}: {outcome.case.key}\n{outcome.reason}"
    reproduce = f"reproduce: {outcome.reproduce}"
    raise pytest.fail.Exception(f"{told}\n{reproduce}", pytrace=False) from None


def _reproduce(item: pytest.Item) -> str:
    """One line for a shell in Assay's folder that runs this item alone, under the same options."""
    return shlex.join(
        ["pytest", options.test_id(item), *options.same(item.config.option, _case(item))]
    )


# -- what people see -------------------------------------------------------------------------------


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.config.option.verbose <= 0:
        reporter.showfspath = False  # the display has a line per case


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    if report.nodeid not in config.stash.get(OURS, ()) or config.option.verbose > 0:
        return None
    if report.when == "call" or report.skipped or report.failed:
        return (
            report.outcome,
            "",
            report.outcome.upper(),
        )
    return None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    own = session.config.stash[SESSION]
    own.close()
    if own.of_suites and not session.config.option.collectonly:
        session.exitstatus = _exit_code(own, exitstatus)


def _exit_code(session: Session, exitstatus: int) -> int:
    """pytest's exit code as one of Assay's: 0 fine, 1 regressed or divergent, 3 nothing could be
    decided. That of a gate is what its verdict says. Whoever presses Ctrl-C gets what a shell says
    of it."""
    if session.ended_early:
        return USAGE
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        return 128 + signal.SIGINT
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        return NOTHING
    if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return exitstatus
    if session.verdict is not None:
        return exit_code(session.verdict)
    if exitstatus != pytest.ExitCode.OK:
        return exitstatus
    return FINE if any(outcome.status == "ok" for outcome in session.outcomes) else NOTHING


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = config.stash[SESSION]
    if CONFUSION in config.stash:
        terminalreporter.section("the judge's own trial")
        for line in config.stash[CONFUSION]:
            terminalreporter.write_line(line)
    if not session.outcomes:
        return
    counts: dict[str, int] = {}
    for outcome in session.outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    terminalreporter.section("assay")
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    terminalreporter.write_line(f"{len(session.outcomes)} cases: {told}")
    if config.option.benchmark:
        spent = session.runner.spent()
        parts = [f"{seconds / sum(spent.values()):.0%} {name}" for name, seconds in spent.items()]
        terminalreporter.write_line(f"{sum(spent.values()):.0f} s: {', '.join(parts)}")
    for line in session.scores:
        terminalreporter.write_line(line)
    if session.verdict is not None:
        terminalreporter.write_line(f"gate: {headline(session.verdict)}")
        terminalreporter.write_line(f"      {discoveries(session.verdict)}".rstrip())
        if session.verdict.undecided:
            terminalreporter.write_line(session.verdict.undecided)
    if session.problem:
        terminalreporter.write_line(session.problem)
    terminalreporter.write_line(f"records: {session.store.folder}")
    if session.report:
        terminalreporter.write_line(f"report:  {session.report}")
