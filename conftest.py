"""pytest and the harness meet here, and nowhere else: options, case selection, fixtures."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.registry import Registry, UnknownName
from harness import clock
from harness.attempt import Attempt
from harness.environment import describe, physical_cores
from harness.pool import Pool, Settings
from harness.progress import Display
from harness.runner import PROCESSES, Ended, Runner
from results.records import Case, Outcome
from results.store import RunWriter, StoreError
from suites.selection import Selection

#: pytest-benchmark's timer for everything that is measured in a worker.
CLOCK = clock.WorkerClock()

MEMORY_SHARE = 0.8  # of this machine's memory, at which a worker is killed


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("assay")
    names: dict[str, Any] = {"type": _names, "default": [], "metavar": "A,B"}
    group.addoption("--benchmark", action="store_true", help="measure what conforms")
    group.addoption("--adapters", **names, help="only these adapters")
    group.addoption("--models", **names, help="only these models")
    group.addoption("--precisions", **names, help="only these precisions")
    group.addoption("--device", default="cpu", help="cpu (default) or cuda")
    group.addoption("--preset", default="quick", choices=list(PROCESSES), help="how thoroughly")
    group.addoption("--size", default="small", help="size of the models that are measured")
    group.addoption("--threads", type=int, help="threads per worker (default: physical cores)")
    group.addoption(
        "--python",
        action="append",
        default=[],
        metavar="ADAPTER=PATH",
        help="run an adapter under another interpreter; may be repeated",
    )
    group.addoption(
        "--adapter-module",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module with a class Adapter; may be repeated",
    )
    group.addoption(
        "--case-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="time limit of one case",
    )
    group.addoption(
        "--memory-limit",
        type=float,
        metavar="GIB",
        help="resident memory at which a worker is killed (default: 80%% of all)",
    )
    group.addoption(
        "--results",
        type=Path,
        default=Path("results/runs"),
        metavar="DIR",
        help="where runs are kept",
    )
    group.addoption("--report", metavar="DIR", help="where the report goes, or none")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SESSION] = Session(config)


class Session:
    """Everything of one pytest session. The store and the workers appear when first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        option = config.option
        try:
            self.registry = Registry.load(option.adapter_module)
            self.selection = Selection(
                self.registry,
                adapters=option.adapters,
                models=option.models,
                precisions=option.precisions,
                device=option.device,
                sizes={"performance": option.size, "controls": option.size},
            )
            self._pythons = _interpreters(option.python, self.registry)
            for name in ("threads", "case_timeout", "memory_limit"):
                _positive(name, getattr(option, name))
        except UnknownName as error:
            raise pytest.UsageError(str(error)) from None
        # the terminal as it is now, before pytest captures what tests print
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self.cases: list[Case] = []
        self.report: str = ""
        self._runner: Runner | None = None

    @property
    def runner(self) -> Runner:
        if self._runner is None:
            self._open()
        assert self._runner is not None
        return self._runner

    @property
    def outcomes(self) -> list[Outcome]:
        return self._runner.outcomes if self._runner is not None else []

    def _open(self) -> None:
        option = self._config.option
        threads = option.threads or physical_cores()
        total = psutil.virtual_memory().total
        limit = int(option.memory_limit * 2**30 if option.memory_limit else MEMORY_SHARE * total)
        self._scratch = tempfile.TemporaryDirectory(prefix="assay-", ignore_cleanup_errors=True)
        self.pool = Pool(
            Settings(
                registry=self.registry,
                python=sys.executable,
                scratch=Path(self._scratch.name),
                threads=threads,
                case_timeout=option.case_timeout,
                memory_limit=limit,
                pythons=self._pythons,
            )
        )
        environment = describe(
            command=["pytest", *self._config.invocation_params.args],
            options={"preset": option.preset, "device": option.device, "threads": threads},
        )
        run_id = clock.today().strftime("%Y%m%dT%H%M%SZ-") + secrets.token_hex(2)
        self.store = RunWriter(option.results, run_id, {"run_id": run_id, **environment})
        self.display = Display(self._stream, len(self.cases))
        self._runner = Runner(self.pool, self.store, self.display)
        self._runner.ahead(self.cases)

    def close(self) -> None:
        """Ends workers and closes the store; then writes the report of a benchmark run."""
        if self._runner is None:
            return
        self.display.close()
        self._runner.close()
        self.store.close()
        self._scratch.cleanup()
        option = self._config.option
        if option.benchmark and option.report != "none":
            self.report = self._write_report()

    def _write_report(self) -> str:
        """The report's path, or why there is none; the records are safe either way."""
        option = self._config.option
        folder = Path(option.report) if option.report else self.store.folder / "report"
        try:
            from reports import build  # needs plotly, which measuring does not

            return str(build([self.store.folder], folder))
        except (StoreError, ImportError) as error:
            return f"none: {error}; `python -m reports {self.store.folder} -o DIR` makes it later"


SESSION = pytest.StashKey[Session]()


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


# -- collection ------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not metafunc.definition.nodeid.startswith("suites/"):
        return
    session = metafunc.config.stash[SESSION]
    if "case" in metafunc.fixturenames:
        cases = session.selection.cases(metafunc.module.PLAN)
        metafunc.parametrize("case", cases, ids=[case.key for case in cases])
    if "adapter" in metafunc.fixturenames:
        metafunc.parametrize("adapter", session.registry.select(session.selection.adapters))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [
        item
        for item in items
        if (item.nodeid.startswith("suites/performance/") and not config.option.benchmark)
        or "NOTSET" in item.name  # a test for which the selection holds no case
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    parameters = [getattr(item, "callspec", None) for item in items]
    config.stash[SESSION].cases = [p.params["case"] for p in parameters if p and "case" in p.params]


def pytest_report_header(config: pytest.Config) -> list[str]:
    option = config.option
    what = "conformance, then measurement" if option.benchmark else "conformance only"
    return [f"assay: {what}; preset {option.preset}, device {option.device}"]


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture
def runner(request: pytest.FixtureRequest) -> Runner:
    """The session's runner, for what is not a case."""
    return request.config.stash[SESSION].runner


@pytest.fixture
def processes(request: pytest.FixtureRequest) -> int:
    """How many processes the preset measures a case in."""
    return PROCESSES[request.config.option.preset]


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
        except StoreError as error:  # nothing more can be kept
            pytest.exit(str(error), returncode=pytest.ExitCode.INTERNAL_ERROR)

    return running


def _end_test(outcome: Outcome) -> None:
    __tracebackhide__ = True
    if outcome.status == "unsupported":
        raise pytest.skip.Exception(outcome.reason) from None
    told = f"{outcome.status}: {outcome.case.key}\n{outcome.reason}"
    reproduce = f"reproduce: {outcome.reproduce}"
    raise pytest.fail.Exception(f"{told}\n{reproduce}", pytrace=False) from None


def _reproduce(item: pytest.Item) -> str:
    """One line for a shell that runs this item alone, under the same options."""
    option = item.config.option
    words = ["pytest", item.nodeid]
    if option.benchmark:
        words.append("--benchmark")
    for name, default in (("device", "cpu"), ("preset", "quick"), ("size", "small")):
        if getattr(option, name) != default:
            words += [f"--{name}", getattr(option, name)]
    if option.threads:
        words += ["--threads", str(option.threads)]
    for name in ("adapter_module", "python"):
        for value in getattr(option, name):
            words += ["--" + name.replace("_", "-"), value]
    return shlex.join(words)


# -- what people see -------------------------------------------------------------------------------


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.config.option.verbose <= 0:
        reporter.showfspath = False  # the display has a line per case


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    if not report.nodeid.startswith("suites/") or config.option.verbose > 0:
        return None
    if report.when == "call" or report.skipped or report.failed:
        return (
            report.outcome,
            "",
            report.outcome.upper(),
        )
    return None


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[SESSION].close()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = config.stash[SESSION]
    if not session.outcomes:
        return
    counts: dict[str, int] = {}
    for outcome in session.outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    terminalreporter.section("assay")
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    terminalreporter.write_line(f"{len(session.outcomes)} cases: {told}")
    terminalreporter.write_line(f"records: {session.store.folder}")
    if session.report:
        terminalreporter.write_line(f"report:  {session.report}")
