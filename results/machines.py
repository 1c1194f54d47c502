"""Whether two runs come from the same machine and the same software.

Stored environments are read leniently: what one of them lacks, or holds in another form, is
`absent`, and the reader is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from results import describe, display
from results.records import Case, Facts


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """A sentence for each field of the fingerprints in which environment `a` differs from the
    earlier `b`. The two are comparable if there is none."""
    now, before = _fingerprint(a), _fingerprint(b)
    missing = _missing("fingerprint of the machine", now, before)
    return missing or _sentences(now, before, sorted({*now, *before}))


def same_software(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """A sentence for each version in which environment `a` differs from the earlier `b`, Python's
    included. Only what both recorded is compared: a list of packages may have grown since."""
    now, before = _versions(a), _versions(b)
    missing = _missing("version of any library", now, before)
    return missing or _sentences(now, before, sorted({*now} & {*before}))


def name(environment: Mapping[str, Any]) -> str:
    """What tells a machine from others: its fingerprint's id; empty where there is none."""
    fields = _get(environment, "fingerprint")
    return describe.text(_get(fields, "id")) if isinstance(fields, Mapping) else ""


def places(facts: Iterable[Facts]) -> dict[Case, str]:
    """Case -> `place` of the machine that ran it, of those that were given to another machine."""
    told = {record.case: record.facts.get("ran_on") for record in facts}
    return {case: place(where) for case, where in told.items() if isinstance(where, Mapping)}


def place(ran_on: Mapping[str, Any]) -> str:
    """What tells a machine of one run from the others: its host and its fingerprint's id."""
    return f"{describe.text(_get(ran_on, 'host'))} {describe.text(_get(ran_on, 'id'))}"


def moved(head: Iterable[Facts], base: Iterable[Facts]) -> list[str]:
    """A sentence where cases that both runs gave to other machines ran on another kind of machine
    in head than in base."""
    now, before = places(head), places(base)
    kinds = {c: (now[c].split()[-1:], before[c].split()[-1:]) for c in now if c in before}
    cases = [case for case, (new, old) in kinds.items() if new != old]
    if not cases and set(now).isdisjoint(before) and bool(now) != bool(before):
        return ["the cases of one run, but not of the other, ran on other machines than its own"]
    noun = "case ran" if len(cases) == 1 else "cases ran"
    first = (
        f", such as {cases[0].key}: {now[cases[0]]}, but was {before[cases[0]]}" if cases else ""
    )
    return [f"{len(cases)} {noun} on another kind of machine{first}"] if cases else []


def versions(environment: Mapping[str, Any]) -> dict[str, str]:
    """Versions by name, Python's included."""
    return _versions(environment)


def version_changes(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """A sentence for each version that both know and that changed."""
    return _sentences(now, before, sorted({*now} & {*before}))


def _sentences(now: Mapping[str, str], before: Mapping[str, str], names: list[str]) -> list[str]:
    return [
        f"{_shown(name)} is {_shown(now.get(name))}, but was {_shown(before.get(name))}"
        for name in names
        if now.get(name, "") != before.get(name, "")
    ]


def _missing(what: str, now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    told = (("run", now), ("earlier run", before))
    return [f"the {name} recorded no {what}" for name, found in told if not found]


def _fingerprint(environment: Mapping[str, Any]) -> dict[str, str]:
    """`cpu model` -> text. The id is left out, since it follows from the others."""
    fields = _get(environment, "fingerprint")
    if not isinstance(fields, Mapping):
        return {}
    flat = describe.flatten({name: value for name, value in fields.items() if name != "id"})
    return {name.replace(".", " ").replace("_", " "): text for name, text in flat}


def _versions(environment: Mapping[str, Any]) -> dict[str, str]:
    found = _get(environment, "versions")
    if not isinstance(found, Mapping) or not found:
        return {}
    named = {"Python": _get(environment, "python"), **found}
    return {
        str(name): version if isinstance(version, str) else "" for name, version in named.items()
    }


def _get(environment: Any, name: str) -> Any:
    return environment.get(name) if isinstance(environment, Mapping) else None


def _shown(text: str | None) -> str:
    return display.shorten(display.visible(text or ""), 160) or "absent"
