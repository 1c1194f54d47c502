"""Known deviations: where a framework gives something else than the vocabulary says, and why.

The file is TOML, one `[[deviation]]` per known deviation:

    framework   what it is a deviation of, as adapters declare it: "torch". Every adapter that runs
                on it is meant, an out-of-tree one as well
    executions  how the framework runs there (`Adapter.execution`): ["eager", "inductor"]; any if
                left out
    versions    what is affected, by distribution: {torch = ">=2.11"} (PEP 440)
    suite, subject, mode      of the cases: "operations", "gelu" (or a pattern), "train" (or none)
    precisions  such as ["fp32", "bf16"]
    rows        patterns of "QUANTITY TENSOR", such as "gradient ties: x"; or "outcome crashed" or
                "outcome timeout", of cases that end so: they count as unsupported
    reason, link
    where       on which machines, see `Condition`; everywhere if left out
    shows       "always" (if left out): wherever the condition holds. "sometimes": what is read from
                memory that nothing wrote, say

A row that an entry covers is no failure when it diverges: it is a `deviation`, shown with its
reason. An entry whose condition holds, which always shows, and whose row does not diverge is stale:
it hides nothing, and says something that is no longer true. One that shows sometimes is then
`absent`. (A row that did not run says nothing about its entry: that entries name rows that there
are is checked in `tests/test_deviations.py`.)
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from numerics.judge import Judgement

SHOWS = ("always", "sometimes")


class DeviationError(ValueError):
    """The file is not what it should be. The text says which entry and why."""


@dataclass(frozen=True)
class Ran:
    """What ran a case.

    framework, execution    as the adapter declares them
    versions                of distributions
    builds                  of libraries that the framework was built with, such as oneDNN
    vendor                  of the processor, as it names itself: "GenuineIntel"
    instruction_sets        library -> instruction sets that its kernels may use here; "" -> those
                            of the processor
    threads                 that the worker ran with
    """

    framework: str
    execution: str
    versions: Mapping[str, str]
    builds: Mapping[str, str]
    vendor: str
    instruction_sets: Mapping[str, Collection[str]]
    threads: int


@dataclass(frozen=True)
class Condition:
    """On which machines a deviation shows; what is left out is any.

    vendors         of the processor, as it names itself: ["GenuineIntel", "AuthenticAMD"]
    library         whose kernels it is that deviate: "onednn", "aten", "xla", "openblas", "mkl"
    requires, lacks instruction sets (`harness.machine.INSTRUCTION_SETS`) that this library may use,
                    and such that it may not, because the processor lacks them or a variable such as
                    ONEDNN_MAX_CPU_ISA forbids them
    threads         a number of threads (PEP 440 too: "==1", ">=2")
    builds          of libraries, as adapters tell them: {onednn = ">=3.7"}
    """

    vendors: tuple[str, ...] = ()
    library: str = ""
    requires: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    threads: str = ""
    builds: Mapping[str, str] = field(default_factory=dict)

    def holds(self, ran: Ran) -> bool:
        """Whether it is true of what ran a case."""
        sets = set(ran.instruction_sets.get(self.library, ()))
        return (
            (not self.vendors or ran.vendor in self.vendors)
            and sets.issuperset(self.requires)
            and sets.isdisjoint(self.lacks)
            and (not self.threads or _within(str(ran.threads), self.threads))
            and all(_within(ran.builds.get(name), spec) for name, spec in self.builds.items())
        )


@dataclass(frozen=True)
class Deviation:
    """One entry."""

    framework: str
    versions: Mapping[str, str]
    suite: str
    subject: str
    precisions: tuple[str, ...]
    rows: tuple[str, ...]
    reason: str
    link: str
    executions: tuple[str, ...] = ()
    mode: str = ""
    where: Condition = Condition()
    shows: str = "always"

    def affects(self, case: Any, ran: Ran) -> bool:
        """Whether it is about a case (`results.records.Case`) and about what ran it."""
        return (
            self.framework == ran.framework
            and (not self.executions or ran.execution in self.executions)
            and case.suite == self.suite
            and fnmatchcase(case.model, self.subject)
            and self.mode in ("", case.mode)
            and case.precision in self.precisions
            and all(_within(ran.versions.get(name), spec) for name, spec in self.versions.items())
            and self.where.holds(ran)
        )

    def covers(self, row: Judgement) -> bool:
        """Whether it is about a row of such a case."""
        return any(fnmatchcase(f"{row.quantity} {row.tensor}", pattern) for pattern in self.rows)

    @property
    def exercises(self) -> set[str]:
        """What the rows are about, where they are not patterns."""
        return {pattern.partition(" ")[2].partition(": ")[0] for pattern in self.rows}


def _exercise(row: Judgement) -> str:
    return row.tensor.partition(": ")[0]


def _within(version: str | None, specifier: str) -> bool:
    try:
        return version is not None and Version(version) in SpecifierSet(specifier, prereleases=True)
    except InvalidVersion:
        return False


def read(path: Path) -> tuple[Deviation, ...]:
    """The entries of a file. Raises DeviationError."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("deviation", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeviationError(f"{path} cannot be read: {error}") from None
    return tuple(_entry(path, number, entry) for number, entry in enumerate(entries, 1))


def _entry(path: Path, number: int, entry: Any) -> Deviation:
    where = f"{path}, deviation {number}"
    values = _values(Deviation, entry, where)
    for name in ("framework", "reason", "link", "rows", "versions"):
        if not values[name]:
            raise DeviationError(f"{where}: {name} is empty")
    if values.get("shows", SHOWS[0]) not in SHOWS:
        raise DeviationError(f"{where}: shows is {values['shows']!r}, but should be one of {SHOWS}")
    if "where" in values:
        values["where"] = Condition(**_values(Condition, values["where"], f"{where}, where"))
    entry = Deviation(**values)
    condition = (entry.where.threads, *entry.where.builds.values())
    for specifier in filter(None, (*entry.versions.values(), *condition)):
        _specifier(specifier, where)
    return entry


def _specifier(specifier: str, where: str) -> None:
    try:
        SpecifierSet(specifier)
    except InvalidSpecifier as error:
        raise DeviationError(f"{where}: {error}") from None


def _values(kind: type[Deviation | Condition], entry: Any, where: str) -> dict[str, Any]:
    """The fields of a table, each of the type that it should have. Raises DeviationError."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not isinstance(entry, dict):
        raise DeviationError(f"{where} is {entry!r}, but should be a table")
    for name in entry:
        if name not in fields:
            raise DeviationError(f"{where} has {name!r}, but should have {', '.join(fields)} only")
    values: dict[str, Any] = {}
    for name, each in fields.items():
        optional = each.default is not MISSING or each.default_factory is not MISSING
        if optional and name not in entry:
            continue
        value, form = entry.get(name), _FORMS.get(name, str)
        parts = value.values() if isinstance(value, dict) else value
        if not isinstance(value, form) or not (
            name == "where" or all(isinstance(part, str) for part in parts)
        ):
            raise DeviationError(f"{where}: {name} is {value!r}, but should be {_TELL[form]}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return values


_FORMS = {
    **dict.fromkeys(("executions", "precisions", "rows", "vendors", "requires", "lacks"), list),
    **dict.fromkeys(("versions", "where", "builds"), dict),
}
_TELL = {list: "a list of strings", dict: "a table of strings", str: "a string"}


@dataclass(frozen=True)
class Explanation:
    """What known deviations make of a case's rows: those that they cover are deviations. Sentences
    say which entries are `stale`, and which show sometimes and are `absent` this time."""

    rows: list[Judgement]
    stale: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def explain(rows: Iterable[Judgement], known: Sequence[Deviation]) -> Explanation:
    """The rows of one case, explained by the entries that are about it. An entry is not shown where
    its row is right, and where its exercise no longer fails as a whole and has other rows."""
    rows = list(rows)
    explained: list[Judgement] = []
    missed: list[tuple[Deviation, str]] = []
    for entry in known:
        if not any(entry.covers(row) for row in rows):
            instead = [row for row in rows if _exercise(row) in entry.exercises]
            if any(row.verdict not in ("divergent", "unsupported") for row in instead):
                missed.append((entry, f"{_exercise(instead[0])} no longer fails"))
    for row in rows:
        covers = [entry for entry in known if entry.covers(row)]
        if covers and row.verdict == "divergent":
            reason = f"known: {covers[0].reason} ({covers[0].link})"
            row = dataclasses.replace(row, verdict="deviation", reason=reason)
        elif row.verdict != "unsupported":
            what = f"{row.quantity} {row.tensor} is {row.verdict}"
            missed += [(entry, what) for entry in covers[:1]]
        explained.append(row)
    stale = [
        f"a known deviation is stale: {what}, but {entry.reason!r}; remove its entry, or say in "
        "`where` on which machines it shows"
        for entry, what in missed
        if entry.shows == "always"
    ]
    absent = [
        f"a known deviation did not show this time: {what}, but {entry.reason!r}"
        for entry, what in missed
        if entry.shows != "always"
    ]
    return Explanation(explained, stale, absent)
