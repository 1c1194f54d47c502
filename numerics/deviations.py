"""Known deviations: where a framework gives something else than the vocabulary says, and why.

The file is TOML, one `[[deviation]]` per known deviation:

    adapters    names, or patterns such as "torch_*"
    versions    what is affected, by distribution: {torch = ">=2.11"} (PEP 440)
    suite, subject, mode      of the cases: "operations", "gelu", "train" (mode may be left out)
    precisions  such as ["fp32", "bf16"]
    rows        patterns of "QUANTITY TENSOR", such as "gradient ties: x"
    reason, link

A row that an entry covers is no failure when it diverges: it is a `deviation`, shown with its
reason. An entry whose row does not diverge is stale, and that is a failure: it hides nothing, and
says something that is no longer true. (A row that did not run says nothing about its entry: that
entries name rows that there are is checked in `tests/test_deviations.py`.)
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from numerics.judge import Judgement


class DeviationError(ValueError):
    """The file is not what it should be. The text says which entry and why."""


@dataclass(frozen=True)
class Deviation:
    """One entry."""

    adapters: tuple[str, ...]
    versions: Mapping[str, str]
    suite: str
    subject: str
    precisions: tuple[str, ...]
    rows: tuple[str, ...]
    reason: str
    link: str
    mode: str = ""

    def affects(self, case: Any, versions: Mapping[str, str]) -> bool:
        """Whether it is about a case (`results.records.Case`) of an adapter with these versions."""
        return (
            any(fnmatchcase(case.adapter, pattern) for pattern in self.adapters)
            and (case.suite, case.model) == (self.suite, self.subject)
            and self.mode in ("", case.mode)
            and case.precision in self.precisions
            and all(_within(versions.get(name), spec) for name, spec in self.versions.items())
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
    fields = {field.name: field for field in dataclasses.fields(Deviation)}
    where = f"{path}, deviation {number}"
    if not isinstance(entry, dict):
        raise DeviationError(f"{where} is {entry!r}, but should be a table")
    for name in entry:
        if name not in fields:
            raise DeviationError(f"{where} has {name!r}, but should have {', '.join(fields)} only")
    values: dict[str, Any] = {}
    for name in fields:
        kind = {"adapters": list, "precisions": list, "rows": list, "versions": dict}.get(name, str)
        value = entry.get(name, "" if name == "mode" else None)
        parts = value if kind is list else value.values() if kind is dict and value else [value]
        if not isinstance(value, kind) or not all(isinstance(part, str) for part in parts):
            raise DeviationError(f"{where}: {name} is {value!r}, but should be {_TELL[kind]}")
        values[name] = tuple(value) if kind is list else value
    for name in ("reason", "link", "rows", "adapters", "versions"):
        if not values[name]:
            raise DeviationError(f"{where}: {name} is empty")
    for specifier in values["versions"].values():
        try:
            SpecifierSet(specifier)
        except InvalidSpecifier as error:
            raise DeviationError(f"{where}: {error}") from None
    return Deviation(**values)


_TELL = {list: "a list of strings", dict: "a table of strings", str: "a string"}


def explain(
    rows: Iterable[Judgement], known: Sequence[Deviation]
) -> tuple[list[Judgement], list[str]]:
    """The rows of one case, with those that `known` entries explain turned into deviations; and
    what is stale, as sentences: an entry whose row is right, and one whose exercise no longer fails
    as a whole and has other rows instead."""
    rows = list(rows)
    found, stale = [], []
    for entry in known:
        if not any(entry.covers(row) for row in rows):
            instead = [row for row in rows if _exercise(row) in entry.exercises]
            if any(row.verdict not in ("divergent", "unsupported") for row in instead):
                stale.append(f"{_exercise(instead[0])} no longer fails, but {entry.reason!r}")
    for row in rows:
        cover = next((entry for entry in known if entry.covers(row)), None)
        if cover is None:
            found.append(row)
            continue
        if row.verdict == "divergent":
            reason = f"known: {cover.reason} ({cover.link})"
            found.append(dataclasses.replace(row, verdict="deviation", reason=reason))
            continue
        found.append(row)
        if row.verdict != "unsupported":
            stale.append(f"{row.quantity} {row.tensor} is {row.verdict}, but {cover.reason!r}")
    return found, [f"a known deviation is stale: {told}; remove its entry" for told in stale]
