"""What one file of another tool holds, in the words of a run of Assay's: the same for all tools."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.records import Case, Measurement, RecordError

#: Names of the facts about a machine that are told when a file lacks them.
TOLD_IF_ABSENT = {"model": "the processor's model", "python": "Python", "commit": "the commit"}
DIRTY = "with uncommitted changes"  # behind a commit


class Malformed(ValueError):
    """A benchmark, or a whole file, is not what its tool writes. The text names what is wrong."""


@dataclass(frozen=True)
class LeftOut:
    """A benchmark without a figure. `status` is an outcome's: `failed` and `unsupported` where the
    tool says that it failed or was skipped, `interrupted` where the file is not what it should be.
    """

    name: str
    status: str
    reason: str


@dataclass(frozen=True)
class Part:
    """What was measured in one environment, in one or several processes (numbered from 0).

    environment   as in a run of Assay's: fingerprint, python, versions, started, host
    settings      of each case how it was timed: two that differ in them are not compared
    commands      of each case how to run it again
    unknown       facts of TOLD_IF_ABSENT that the tool could have written and did not
    """

    tool: str
    environment: Mapping[str, Any]
    measurements: Sequence[Measurement]
    left_out: Sequence[LeftOut] = ()
    settings: Mapping[Case, Mapping[str, Any]] | None = None
    commands: Mapping[Case, str] | None = None
    unknown: Sequence[str] = ()


def case(tool: str, name: str) -> Case:
    """The case that stands for a benchmark. Raises Malformed for a name that is no text."""
    if not isinstance(name, str) or not name:
        raise Malformed(f"its name is {short(name)}, but should be a text")
    return Case(tool, "infer", name, "-", tool, "cpu", "-", 1)


def measurement(
    of: Case, metric: str, unit: str, values: Sequence[Any], *, process: int = 0,
    conditions: Mapping[str, float] | None = None, signed: bool = False,
) -> Measurement:  # fmt: skip
    """A benchmark's values. Raises Malformed unless all are finite, none is below 0, and their
    median is above 0: a time of 0 is one that the clock could not tell from nothing."""
    checked = [number(value, metric.replace("_", " "), signed=signed) for value in values]
    if not checked:
        raise Malformed("it has no values")
    if not signed and not sorted(checked)[len(checked) // 2] > 0:
        raise Malformed(f"its {metric.replace('_', ' ')} is 0, which no ratio can be made of")
    try:
        return Measurement(of, metric, unit, tuple(checked), process=process,
                           conditions=dict(conditions or {}))  # fmt: skip
    except RecordError as error:
        raise Malformed(str(error)) from None


def rounds(count: Any, q1: Any, q3: Any, median: float) -> dict[str, float]:
    """How far a process's rounds scatter where the rounds themselves were not kept: their number
    and quartiles as conditions of a measurement; nothing where these are not sound."""
    try:
        n, low, high = (number(x, "") for x in (count, q1, q3))
    except Malformed:
        return {}
    sound = 1 <= n < 2**53 and 0 < low <= median <= high
    return {"rounds": n, "q1": low, "q3": high} if sound else {}


def number(value: Any, what: str, *, signed: bool = False) -> float:
    """`value` as a float. Raises Malformed unless it is finite and, if not `signed`, at least 0."""
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    if fine and abs(value) < 2**1000 and math.isfinite(value) and (signed or value >= 0):
        return float(value)
    rule = "a finite number" if signed else "a finite number of at least 0"
    raise Malformed(f"its {what} is {short(value)}, but should be {rule}")


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object of JSON, else an empty one: for what may be absent."""
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str:
    """A text or number as text without blanks around it; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()


def short(value: Any) -> str:
    """`value` for an error, in few characters."""
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    shown = "null" if value is None else repr(value) if isinstance(value, str | float) else ""
    if not shown:
        shown = str(value) if isinstance(value, bool) or abs(value) < 10**20 else "a huge number"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def environment(
    machine: Mapping[str, Any], *, python: str = "", versions: Mapping[str, str] | None = None,
    started: str = "", host: str = "",
) -> dict[str, Any]:  # fmt: skip
    """What tells machines and software apart, in the words of a run of Assay's. `machine` are the
    fields of the fingerprint, nested; what is empty is absent.

    The name of the host tells machines apart only where the processor's model is not known: a
    container has a new name every time.
    """
    cpu = {name: value for name, value in mapping(machine.get("cpu")).items() if value}
    fields = {**{name: value for name, value in machine.items() if value}, "cpu": cpu}
    if not cpu.get("model") and host:
        fields["host"] = host
    canonical = json.dumps(fields, sort_keys=True, default=str)
    known = any(value for value in fields.values())
    name = hashlib.sha256(canonical.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return {
        "fingerprint": {"id": name, **fields} if known else {},
        "cpu": {"model": cpu.get("model", ""), "cores": cpu.get("count", "")},
        "host": host,
        "started": started,
        "python": python,
        "versions": {name: version for name, version in (versions or {}).items() if version}
        or ({"Python": python} if python else {}),
    }


def commit(identity: Any, *, dirty: Any = False) -> str:
    """A commit as a version; with uncommitted changes it does not say what was measured."""
    known = text(identity)
    return f"{known} {DIRTY}" if known and dirty is True else known


def python(implementation: Any, version: Any, language: Any = "") -> str:
    """`CPython 3.11.7`; `PyPy 7.3.11 (Python 3.9.16)` where the implementation's version is not
    the language's."""
    name = {"cpython": "CPython", "pypy": "PyPy"}.get(text(implementation).lower())
    parts = [name or text(implementation), text(version) or text(language)]
    if text(version) and text(language) and text(language) != text(version):
        parts.append(f"(Python {text(language)})")
    return " ".join(part for part in parts if part)
