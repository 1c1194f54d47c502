"""Runs of other tools, as runs of Assay's: JSON of pytest-benchmark, pyperf, asv and Google
Benchmark, told apart by what is in it.

Files of a folder are processes of one run as long as they come from one machine, Python and commit.
What they do not say is told, and what does not belong together is refused (`read`) or kept apart
(`runs`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from results import describe, machines, store
from results.foreign import asv, google_benchmark, parts, pyperf, pytest_benchmark
from results.foreign.parts import Malformed, Part
from results.records import Case, Facts, Outcome, Record
from results.store import Run, StoreError


class Tool(Protocol):
    """What a module of this package offers. REPEAT is how the tool measures in more processes."""

    NAME: str
    REPEAT: str

    def recognises(self, document: Mapping[str, Any]) -> bool: ...
    def read(self, document: Mapping[str, Any], file: Path) -> list[Part]: ...


_MODULES: tuple[Tool, ...] = (google_benchmark, asv, pytest_benchmark, pyperf)
#: Suites of cases that were read from other tools; the suite is the tool's name.
TOOLS = {tool.NAME: tool for tool in _MODULES}
SUFFIXES = (".json", ".json.gz")
_LARGEST = 2**30  # bytes of a file, unpacked
_SHOWN = 3  # differences that are named in an error


def is_foreign(path: Path) -> bool:
    """Whether this is a file that is no run's, or a folder that holds JSON and no runs."""
    if path.is_dir():
        own = store.holds_run(path) or store.run_folders(path)
        return not own and bool(_files(path))
    return path.is_file() and not store.is_records(path)


def open_run(root: Path, name: str) -> Run:
    """The run of that name, whoever wrote it: a file or folder of another tool, or a run of Assay's
    (`store.find`). Raises StoreError where there is none."""
    return read(Path(name)) if is_foreign(Path(name)) else store.read(store.find(root, name))


def open_runs(path: Path) -> list[Run]:
    """The run of Assay's in a folder, or what files of another tool hold, each run by itself.
    Raises StoreError where there is none."""
    return runs(path) if is_foreign(path) else [store.read(path)]


def content(path: Path) -> list[Path]:
    """The files that a run, or what another tool wrote, consists of."""
    if not is_foreign(path):
        return [path / name for name in store.FILES]
    return _files(path) if path.is_dir() else [path]


def read(path: Path) -> Run:
    """The run in a file or folder. Raises StoreError where there is none, and where what is there
    does not come from one machine, Python and commit."""
    several = runs(path)
    if len(several) > 1:
        raise StoreError(_mixed(path, several))
    return several[0]


def runs(path: Path) -> list[Run]:
    """The runs in a file or folder, oldest first: one per machine, Python, commit and set of
    libraries. Raises StoreError where there is none."""
    problems: list[str] = []
    groups: dict[str, list[tuple[Path, Part]]] = {}
    digests: dict[bytes, Path] = {}
    for file in _files(path) if path.is_dir() else [path]:
        try:
            data = _content(file)
            first = digests.setdefault(hashlib.sha256(data).digest(), file)
            if first != file:
                problems.append(f"{file.name} was skipped: it is a copy of {first.name}")
                continue
            for part in _parts(data, file):
                groups.setdefault(_identity(part), []).append((file, part))
        except (Malformed, OSError) as error:
            why = (error.strerror or "") if isinstance(error, OSError) else str(error)
            problems.append(f"{file.name} was skipped: {why}")
    made = [_run(path, group, problems) for group in groups.values()]
    made = [run for run in made if run.measurements or run.outcomes]
    if not any(run.measurements or _failed(run) for run in made):
        problems += [problem for run in made for problem in run.problems if problem not in problems]
        told = "; ".join(problems[:_SHOWN]) or "there is no JSON in it"
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise StoreError(f"{path} holds nothing to show or compare: {told}{more}")
    made.sort(key=lambda run: (str(run.environment.get("started", "")), run.run_id))
    return _named(path, made)


def measured(case: Case) -> bool:
    """Whether another tool measured a case, which nobody judged then."""
    return case.suite in TOOLS


def retimed(base: Run, head: Run) -> dict[Case, str]:
    """Cases that two runs timed in different ways (with and without garbage collection, by another
    clock, a benchmark whose own code changed), and how."""
    before, now = (
        {fact.case: parts.mapping(fact.facts["settings"]) for fact in run.facts
         if measured(fact.case) and "settings" in fact.facts}
        for run in (base, head)
    )  # fmt: skip
    return {
        case: _changed(before.get(case, {}), settings)
        for case, settings in now.items()
        if before.get(case, {}) != settings
    }


def lines(run: Run) -> dict[Case, str]:
    """What keeps series of a benchmark apart on one machine: asv's environment, or which Python it
    ran on, and how it was timed. Empty for a run of Assay's."""
    python = re.match(r"\S+ \d+\.\d+", str(run.environment.get("python", "")))
    name = run.environment.get("series") or (python.group() if python else "")
    timed = {fact.case: parts.mapping(fact.facts.get("settings")) for fact in run.facts}
    return {
        outcome.case: ", ".join(
            [*filter(None, [name]), *(f"{k} {v}" for k, v in timed.get(outcome.case, {}).items())]
        )
        for outcome in run.outcomes
        if measured(outcome.case)
    }


def advice(case: Case) -> str:
    """How the tool that measured a case measures in more than one process; empty for Assay's."""
    tool = TOOLS.get(case.suite)
    return tool.REPEAT if tool else ""


# -- from files to parts ---------------------------------------------------------------------------


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())


def _content(file: Path) -> bytes:
    """The bytes of a file, unpacked."""
    with file.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(file) if packed else file.open("rb") as opened:
            data = opened.read(_LARGEST + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Malformed("it is compressed, and damaged or cut off") from None
    if len(data) > _LARGEST:
        raise Malformed(f"it holds more than {_LARGEST:,} bytes")
    return data


def _parts(data: bytes, file: Path) -> list[Part]:
    """What a file holds; nothing of one that only lies beside asv's results."""
    try:
        document = json.loads(data)
        if b"\\ud" in data.lower():  # half a character, which no file could hold
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except ValueError as error:
        raise Malformed(f"it is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise Malformed(f"{_none_of()}: it is {parts.short(document)}, but should be an object")
    for tool in _MODULES:
        if tool.recognises(document):
            return tool.read(document, file)
    if asv.accompanies(document):
        return []
    keys = ", ".join(map(repr, list(document)[:5])) or "nothing"
    raise Malformed(f"{_none_of()}: it is an object with {keys}")


def _none_of() -> str:
    return "it is no JSON of " + ", ".join(TOOLS)


def _identity(part: Part) -> str:
    """What all processes of a run share. The version of the tool that timed them is left out, and
    so is what says when they ran."""
    environment = part.environment
    versions = {
        name: version
        for name, version in parts.mapping(environment.get("versions")).items()
        if name != part.tool
    }
    names = ("fingerprint", "python", "series")
    shared = [part.tool, *(environment.get(name) for name in names), versions]
    return json.dumps(shared, sort_keys=True, default=str)


# -- from parts to runs ----------------------------------------------------------------------------


def _run(path: Path, group: Sequence[tuple[Path, Part]], problems: Sequence[str]) -> Run:
    """One run from parts that belong together, the earliest first."""
    ordered = sorted(group, key=lambda each: str(each[1].environment.get("started", "")))
    records: list[Record] = []
    noted = list(problems)
    settings: dict[Case, Mapping[str, Any]] = {}
    commands: dict[Case, str] = {}
    measured: dict[Case, None] = {}
    missing: dict[tuple[str, str], Outcome] = {}
    offset = 0
    for file, part in ordered:
        kept = []
        for made in part.measurements:
            timed = (part.settings or {}).get(made.case, {})
            if settings.setdefault(made.case, timed) != timed:
                why = _changed(settings[made.case], timed)
                noted.append(f"{file.name}: {made.case.model} was skipped: {why}")
                continue
            kept.append(replace(made, process=made.process + offset))
        offset = max((made.process for made in kept), default=offset - 1) + 1
        records += kept
        measured |= dict.fromkeys(made.case for made in kept)
        commands |= part.commands or {}
        for left in part.left_out:
            noted.append(f"{file.name}: {left.name} was skipped: {left.reason}")
            outcome = Outcome(parts.case(part.tool, left.name), left.status, left.reason, 0.0, "")
            missing.setdefault((part.tool, left.name), outcome)
    records += [Facts(case, {"settings": dict(settings[case])}) for case in measured
                if settings.get(case)]  # fmt: skip
    records += [Outcome(case, "ok", "", 0.0, commands.get(case, "")) for case in measured]
    records += [outcome for outcome in missing.values() if outcome.case not in measured]
    noted += _unknown([part for _, part in ordered])
    files = list(dict.fromkeys(file.name for file, _ in ordered))
    environment = {**ordered[0][1].environment, "tool": ordered[0][1].tool, "files": files}
    environment["ended"] = ""  # a file is written when everything was measured
    return Run(path.name, path, environment, tuple(records), tuple(noted))


def _failed(run: Run) -> bool:
    """Whether a tool says itself of a benchmark that it failed."""
    return any(outcome.status == "failed" for outcome in run.outcomes)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How the settings of a benchmark differ from those in an earlier file."""
    return "; ".join(
        f"{name} is {parts.short(now.get(name))}, but was {parts.short(before.get(name))}"
        for name in sorted({*now, *before})
        if now.get(name) != before.get(name)
    )


def _unknown(group: Sequence[Part]) -> list[str]:
    """A sentence on what the files of a run do not say; none where they say everything."""
    environment = group[0].environment
    known = {
        "model": parts.mapping(environment.get("cpu")).get("model"),
        "python": environment.get("python"),
        "commit": parts.mapping(environment.get("versions")).get("commit"),
    }
    absent = [parts.TOLD_IF_ABSENT[name] for name in group[0].unknown if not known[name]]
    hosts = sorted({str(part.environment.get("host")) for part in group} - {"", "None"})
    told = [f"not recorded, so not compared: {', '.join(absent)}"] if absent else []
    changed = str(parts.mapping(environment.get("versions")).get("commit", "")).endswith(
        parts.DIRTY
    )
    if changed and len(group) > 1:
        told.append("the commit had uncommitted changes, which may differ from file to file")
    if len(hosts) > 1:
        told.append(f"measured on several hosts that look alike: {', '.join(hosts[:5])}")
    return told


def _named(path: Path, made: Sequence[Run]) -> list[Run]:
    """Runs with names of their own: a folder's name, and its commit where it holds several."""
    if len(made) == 1:
        return list(made)
    named = []
    for place, run in enumerate(made, start=1):
        commit = str(parts.mapping(run.environment.get("versions")).get("commit", ""))[:8]
        name = "-".join(part for part in (path.name, f"{place:03}", commit) if part)
        named.append(replace(run, run_id=name, folder=path / name))
    return named


def _mixed(path: Path, several: Sequence[Run]) -> str:
    """Why runs cannot be taken for one."""
    first, second = several[0].environment, several[1].environment
    tools = {str(run.environment.get("tool")) for run in several}
    differences = [f"tools {' and '.join(sorted(tools))}"] if len(tools) > 1 else []
    differences += machines.differences(second, first) + machines.same_software(second, first)
    if not differences:
        differences = _only_one_knows(first, second)
    told = "; ".join(differences[:_SHOWN])
    names = " and ".join(each["files"][0] for each in (second, first))
    return (
        f"{path} holds {len(several)} runs, not processes of one. {names}: {told}. Give each run a "
        "folder of its own; `python -m results history --results FOLDER` and `python -m reports "
        "FOLDER` keep them apart"
    )


def _only_one_knows(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    versions = [dict(describe.flatten(parts.mapping(e.get("versions")))) for e in (first, second)]
    names = sorted(set(versions[0]) ^ set(versions[1]))
    if first.get("series") != second.get("series"):
        return [f"environment is {second.get('series')}, but was {first.get('series')}"]
    return [f"only some of the files say {name}" for name in names] or ["their software differs"]
