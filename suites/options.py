"""What a user can ask of the suites, as pytest options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import isa
from harness.runner import PROCESSES
from results.records import Case
from suites.selection import SWEEPS

SUITES = Path(__file__).resolve().parent
#: Of the options with one value that decide how a case runs.
DEFAULTS: dict[str, Any] = {
    "device": "cpu", "preset": "quick", "size": "", "allocator": "pinned", "isa": "native",
    "isolation": None, "threads": None, "policy": None, "case_timeout": 300.0,
    "memory_limit": None, "wait_for_gpu": 0.0,
}  # fmt: skip


def add(parser: pytest.Parser) -> None:
    """Adds the options to pytest's own."""
    group = parser.getgroup("assay")
    names: dict[str, Any] = {"type": _names, "default": [], "metavar": "A,B"}
    group.addoption("--benchmark", action="store_true", help="measure what conforms")
    group.addoption(
        "--self-test",
        action="store_true",
        help="try the judge itself: planted faults, honest runs, harmless changes",
    )
    group.addoption("--adapters", **names, help="only these adapters")
    group.addoption("--models", **names, help="only these models")
    group.addoption("--precisions", **names, help="only these precisions")
    group.addoption("--device", default="cpu", help="cpu (default) or cuda")
    group.addoption("--preset", default="quick", choices=list(PROCESSES), help="how thoroughly")
    group.addoption("--size", default="", help="size of the models that are measured (small)")
    group.addoption("--threads", type=int, help="threads per worker (default: physical cores)")
    group.addoption(
        "--isa",
        default="native",
        choices=isa.CHOICES,
        help="hold the kernels of libraries down to these instruction sets, as on a lesser "
        "processor (default: what this one has)",
    )
    group.addoption(
        "--strict-deviations",
        action="store_true",
        help="a known deviation that does not show where it should is a failure, not a note",
    )
    group.addoption(
        "--isolation",
        choices=("case", "adapter"),
        help="new timing processes for every case, or for every adapter "
        "(default: adapter for preset quick, else case)",
    )
    group.addoption(
        "--allocator",
        default="pinned",
        choices=("pinned", "default"),
        help="malloc of timed processes: keeping freed pages (pinned), or the system's default",
    )
    group.addoption(
        "--sweep", action="append", default=[], metavar="|".join(SWEEPS), help="measure scaling too"
    )
    group.addoption(
        "--traces",  # --trace is pytest's own: it starts a debugger
        action="store_true",
        help="keep a trace of each case by the framework's profiler",
    )
    group.addoption(
        "--resume", metavar="RUN", help="take over what this run has decided, and do the rest"
    )
    group.addoption(
        "--wait-for-gpu",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for other processes to leave the GPU",
    )
    group.addoption(
        "--share-gpu",
        action="store_true",
        help="measure beside other processes; figures are marked",
    )
    group.addoption(
        "--against",
        action="append",
        default=[],
        metavar="PYTHON|FOLDER|[FOLDER@]REVISION",
        help="gate: compare with another interpreter, checkout, adapter's folder or git revision; "
        "may be repeated",
    )
    group.addoption("--policy", type=Path, metavar="FILE", help="of the gate: thresholds, in TOML")
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
        metavar="MODULE|FILE",
        help="a module with a class Adapter, or its file; may be repeated",
    )
    group.addoption(
        "--case-timeout",
        type=float,
        default=DEFAULTS["case_timeout"],
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
    group.addoption(
        "--launcher",
        default="local",
        choices=("local", "dask"),
        help="run cases here, or on the machines of a Dask scheduler",
    )
    group.addoption("--scheduler", default="", metavar="ADDRESS", help="of Dask: tcp://HOST:8786")
    group.addoption("--report", metavar="DIR", help="where the report goes, or none")


def problem(config: pytest.Config) -> str:
    """What other plugins were asked that cannot be done to the suites; empty where it can."""
    option = config.option
    if not of_suites(config.args, around=True):
        return ""
    if not config.pluginmanager.hasplugin("benchmark"):
        return (
            "pytest-benchmark is switched off (-p no:benchmark or PYTEST_DISABLE_PLUGIN_AUTOLOAD), "
            "but the suites measure through it: leave that out, or add -p pytest_benchmark.plugin"
        )
    if getattr(option, "numprocesses", None):  # of pytest-xdist
        return (
            f"-n is {option.numprocesses}, but the suites run in one pytest process, since cases "
            "that are measured side by side slow each other down: leave -n out"
        )
    if option.against and not option.benchmark:
        return "--against measures in pairs, so it needs --benchmark beside it"
    if (option.launcher == "dask") != bool(option.scheduler):
        return "--launcher dask and --scheduler ADDRESS belong together: give both, or neither"
    if option.policy and not option.against:
        return "--policy is what a gate goes by, so it needs --against beside it"
    if option.benchmark and option.benchmark_disable:
        return "--benchmark measures, and --benchmark-disable keeps it from it: leave one out"
    return ""


def same(option: Any, case: Case | None) -> list[str]:
    """The arguments that run a test elsewhere, or again, as it is run here. What was asked for by
    name selects more than a preset does, so that a case's own names are among them."""
    words = ["--benchmark"] if option.benchmark else []
    for name in ("adapter", "model", "precision"):
        if asked := getattr(option, f"{name}s"):
            words += [f"--{name}s", getattr(case, name) if case else ",".join(asked)]
    for name in ("strict_deviations", "traces", "share_gpu"):
        words += ["--" + name.replace("_", "-")] if getattr(option, name) else []
    for name, default in DEFAULTS.items():
        if getattr(option, name) != default:
            words += ["--" + name.replace("_", "-"), str(getattr(option, name))]
    for name in ("adapter_module", "python", "sweep", "against"):
        for value in getattr(option, name):
            words += ["--" + name.replace("_", "-"), value]
    return words


def place(path: Path) -> str:
    """Where the file of a test lies in the suites, such as `gate/test_memory.py`; empty outside of
    them. Ids of tests do not say: they begin at pytest's root, which may be anybody's."""
    path = path.resolve()
    return path.relative_to(SUITES).as_posix() if SUITES in path.parents else ""


def test_id(item: pytest.Item) -> str:
    """The id of one of the suites' tests in Assay's own folder."""
    return f"{SUITES.name}/{place(item.path)}::{item.nodeid.partition('::')[2]}"


def of_suites(arguments: Sequence[str], *, around: bool = False) -> bool:
    """Whether pytest was asked for anything in the suites, or, where `around`, for a folder that
    they lie in."""
    asked = [Path(argument.split("::")[0]).resolve() for argument in arguments]
    inside = any(path == SUITES or SUITES in path.parents for path in asked)
    return inside or (around and any(path in SUITES.parents for path in asked))


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
