"""Runs of other projects: the JSON that pytest-benchmark writes (`--benchmark-json`, and what
`--benchmark-autosave` keeps), as a run of Assay's. One file is one process."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.records import Case, Measurement, Outcome, Record, RecordError
from results.store import Run, StoreError, holds_run

SUITE = "pytest-benchmark"  # of its cases, whose model is the benchmark's full name


def is_foreign(path: Path) -> bool:
    """Whether this is a file of JSON, or a folder of such and no run."""
    if path.is_dir():
        return not holds_run(path) and any(path.rglob("*.json"))
    return path.is_file() and path.suffix == ".json"


def read(path: Path) -> Run:
    """The benchmarks in a file, or in all files of a folder, each of which is a process. Raises
    StoreError where there is none."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    records: list[Record] = []
    problems: list[str] = []
    environment: dict[str, Any] = {}
    cases: dict[Case, None] = {}
    for process, file in enumerate(files):
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            found = [_measurement(entry, process) for entry in told["benchmarks"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"no {error} in it" if isinstance(error, KeyError) else str(error)
            problems.append(f"{file.name} is no JSON of pytest-benchmark: {what}")
            continue
        records += found
        cases |= dict.fromkeys(one.case for one in found)
        environment = environment or _environment(told)
    if not records:
        told = "; ".join(problems) or "it holds no benchmarks"
        raise StoreError(f"{path} holds nothing to compare: {told}")
    records += [Outcome(case, "ok", "", 0.0, f"pytest {case.model!r}") for case in cases]
    return Run(path.name, path, environment, tuple(records), tuple(problems))


def _measurement(entry: Mapping[str, Any], process: int) -> Measurement:
    """A benchmark's rounds; its median alone, where the rounds were not kept."""
    stats = entry["stats"]
    values = stats.get("data") or [stats["median"]]
    name = entry.get("fullname") or entry["name"]
    case = Case(SUITE, "infer", str(name), "-", "-", "cpu", "-", 1)
    if not all(isinstance(v, int | float) and math.isfinite(v) and v > 0 for v in values):
        raise RecordError(f"{name} has times that are not above 0")
    return Measurement(case, "step_time", "s", tuple(map(float, values)), process=process)


def _environment(told: Mapping[str, Any]) -> dict[str, Any]:
    """What tells machines and software apart, in the words of a run of Assay's."""
    machine = told.get("machine_info")
    if not isinstance(machine, Mapping):
        return {}
    told_cpu = machine.get("cpu")
    cpu = told_cpu if isinstance(told_cpu, Mapping) else {}
    fingerprint = {
        "cpu": {"model": cpu.get("brand_raw"), "count": cpu.get("count")},
        "system": machine.get("system"),
        "machine": machine.get("machine"),
    }
    python = str(machine.get("python_version"))
    return {"fingerprint": fingerprint, "python": python, "versions": {"Python": python}}
