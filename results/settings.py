"""How a run was made, as far as its figures depend on it. Runs that were made in different ways are
neither compared nor put into one series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results import display

#: Options that are recorded with a run.
OPTIONS = ("preset", "threads", "allocator", "isolation", "isa")
#: What says the same as nothing: of runs before there was a choice.
USUAL = {"isa": "native"}
#: Variables that begin like this say where things are, not what they compute.
PLACES = ("PYTHON", "LD_LIBRARY_PATH")


def of(environment: Mapping[str, Any]) -> dict[str, str]:
    """Setting -> its value as text, of those that the environment of a run has: options, and
    variables that change what libraries compute, or how fast."""
    given = {name: environment.get(name) for name in OPTIONS}
    found = {
        name: str(value)
        for name, value in given.items()
        if value is not None and value != USUAL.get(name)
    }
    variables = environment.get("variables")
    if isinstance(variables, Mapping):
        found |= {
            str(name): "a secret" if value is None else str(value)
            for name, value in variables.items()
            if not str(name).startswith(PLACES)
        }
    return {name: value for name, value in found.items() if value}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting in which environment `a` differs from the earlier `b`."""
    now, before = of(a), of(b)
    return [
        f"{_shown(name)} is {_shown(now.get(name))}, but was {_shown(before.get(name))}"
        for name in sorted({*now, *before})
        if now.get(name) != before.get(name)
    ]


def name(environment: Mapping[str, Any]) -> str:
    """What tells runs of one machine apart that must not be mixed: `threads 2, preset quick`. Empty
    where nothing is recorded."""
    return ", ".join(f"{_shown(name)} {_shown(value)}" for name, value in of(environment).items())


def _shown(text: str | None) -> str:
    return display.shorten(display.visible(text or ""), 160) or "absent"
