"""Releases of frameworks that are known to give silently wrong results: `known_bad.toml`.

One `[[release]]` per defect:

    distribution    as it is installed: "jaxlib"
    versions        that have it (PEP 440)
    wrong           what is wrong, for people
    instead         a version without it, or the empty string
    link            where it is reported

Reading needs no framework: versions are those that distributions' metadata tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FILE = Path(__file__).parent / "known_bad.toml"
TIMEOUT = 60.0  # seconds that another interpreter may take to tell what is installed there
_TELL = (
    "import importlib.metadata as m, json, sys\n"
    "found = {}\n"
    "for name in sys.argv[1:]:\n"
    "    try: found[name] = m.version(name)\n"
    "    except m.PackageNotFoundError: pass\n"
    "print(json.dumps(found))"
)


class ReleaseError(ValueError):
    """The file is not what it should be. The text says which entry and why."""


@dataclass(frozen=True)
class Release:
    """One entry."""

    distribution: str
    versions: str
    wrong: str
    instead: str
    link: str

    def sentence(self, installed: str) -> str:
        """What a person is told who has the version `installed`."""
        instead = f"; {self.instead} does not have it" if self.instead else ""
        told = f"{self.distribution} {installed} is known to be bad: {self.wrong}"
        return f"{told}{instead} ({self.link})"


@cache
def known(path: Path = FILE) -> tuple[Release, ...]:
    """The entries of a file. Raises ReleaseError."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("release", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}") from None
    return tuple(_entry(path, number, entry) for number, entry in enumerate(entries, 1))


def _entry(path: Path, number: int, entry: Mapping[str, object]) -> Release:
    names = [field.name for field in fields(Release)]
    where = f"{path}, release {number}"
    if sorted(entry) != sorted(names):
        raise ReleaseError(f"{where} has {', '.join(entry)}, but should have {', '.join(names)}")
    for name, value in entry.items():
        if not isinstance(value, str) or not (value or name == "instead"):
            raise ReleaseError(f"{where}: {name} is {value!r}, but should be a text")
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    release = Release(**{name: str(entry[name]) for name in names})
    try:
        SpecifierSet(release.versions)
    except InvalidSpecifier as error:
        raise ReleaseError(f"{where}: {error}") from None
    if release.instead and _within(release.instead, release.versions):
        raise ReleaseError(f"{where}: {release.instead} is instead of {release.versions}")
    return release


def bad(versions: Mapping[str, str | None], path: Path = FILE) -> list[str]:
    """A sentence for each of `versions` (distribution -> version) that is known to be bad."""
    return [
        release.sentence(installed)
        for release in known(path)
        if (installed := versions.get(release.distribution))
        and _within(installed, release.versions)
    ]


def installed(pythons: Collection[str] = (), path: Path = FILE) -> list[dict[str, str]]:
    """Distribution -> version of those that the file is about: as installed here, and under each
    other interpreter, which is not asked to import any of them. One that does not answer is left
    out: it will not start as a worker either."""
    names = sorted({release.distribution for release in known(path)})
    here = {}
    for name in names:
        try:
            here[name] = version(name)
        except PackageNotFoundError:
            continue
    others = [_under(python, names) for python in pythons if python != sys.executable]
    return [here, *others]


def _under(python: str, names: Collection[str]) -> dict[str, str]:
    try:
        done = subprocess.run(
            [python, "-c", _TELL, *names],
            capture_output=True, text=True, timeout=TIMEOUT, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return {str(name): str(found) for name, found in told.items()}


def warnings(pythons: Collection[str] = ()) -> list[str]:
    """A sentence for each bad release that this interpreter or one of `pythons` has."""
    return list(dict.fromkeys(told for found in installed(pythons) for told in bad(found)))


def _within(installed: str, specifier: str) -> bool:
    # here, so that a worker's interpreter can do without packaging
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return Version(installed) in SpecifierSet(specifier, prereleases=True)
    except InvalidVersion:
        return False
