"""What a run is, in a few words: when, on what, and how its cases ended.

environment.json is read leniently. Runs from other machines and versions lack keys or hold
something else there, and what is missing is left out, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from results.records import STATUSES, CaseRecord
from results.store import Run

#: The status of a case that has records but no outcome: its run stopped too early.
NO_OUTCOME = "no outcome"


def status_counts(run: Run) -> dict[str, int]:
    """status -> number of cases, in the order of STATUSES; only statuses that occur."""
    ended = {outcome.case: outcome.status for outcome in run.outcomes}
    counts = Counter(
        ended.get(case, NO_OUTCOME)
        for case in {r.case for r in run.records if isinstance(r, CaseRecord)}
    )
    return {status: counts[status] for status in (*STATUSES, NO_OUTCOME) if counts[status]}


def sentence(run: Run) -> str:
    """`48 of 72 cases ended ok; 12 unsupported, 3 divergent.`"""
    counts = status_counts(run)
    total = sum(counts.values())
    if not total:
        return "The run holds no cases: nothing was judged and nothing was measured."
    noun = "case" if total == 1 else "cases"
    if counts == {"ok": total}:
        return f"All {total} {noun} ended ok." if total > 1 else "The only case ended ok."
    rest = [f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if name != "ok"]
    return f"{counts.get('ok', 0)} of {total} {noun} ended ok; {', '.join(rest)}."


def started(environment: Mapping[str, Any]) -> str:
    """When the run began, `2025-11-20 17:18 UTC`; as recorded where that is no ISO time, and
    empty where it is not known."""
    recorded = text(environment.get("started"))
    try:
        moment = datetime.fromisoformat(recorded)
    except ValueError:
        return recorded
    zone = moment.strftime("%z") if moment.utcoffset() else "UTC" if moment.tzinfo else ""
    return f"{moment:%Y-%m-%d %H:%M} {zone}".rstrip()


def machine(environment: Mapping[str, Any]) -> str:
    """`host, CPU model, 8 cores`, as far as it is known; and what kernels were held down to."""
    cpu = environment.get("cpu")
    model = text(_get(cpu, "model") if isinstance(cpu, Mapping) else cpu)
    cores = text(_get(cpu, "cores"))
    host = text(environment.get("host") or environment.get("hostname"))
    held_down = text(environment.get("isa")).replace("native", "")
    parts = [host, model, f"{cores} cores" if cores else ""]
    parts.append(f"kernels held down to {held_down}" if held_down else "")
    return ", ".join(part for part in parts if part)


def known_bad(environment: Mapping[str, Any]) -> list[str]:
    """What is known to be wrong with a release that the run used, as it was recorded."""
    told = environment.get("known_bad")
    return [text(each) for each in told if text(each)] if isinstance(told, list) else []


def versions(run: Run) -> dict[str, str]:
    """library -> version: what the workers reported, then what the parent had. Several versions
    of one library are joined by ` / `, since adapters may have interpreters of their own."""
    workers = [record.facts.get("versions") for record in run.facts]
    adapters = run.environment.get("adapters")
    named = list(adapters.values()) if isinstance(adapters, Mapping) else []
    found: dict[str, set[str]] = {}
    for group in [*workers, *named, run.environment.get("versions")]:
        for name, version in group.items() if isinstance(group, Mapping) else ():
            if isinstance(version, str) and version:
                found.setdefault(str(name), set()).add(version)
    return {name: " / ".join(sorted(several)) for name, several in found.items()}


def folder_bytes(folder: Path) -> int:
    """Size of the files of a run, without a report that may lie beside them."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def flatten(value: Any) -> list[tuple[str, str]]:
    """A nested mapping as (`a.b.0`, text) pairs in its own order, however deep it is."""
    flat: list[tuple[str, str]] = []
    todo: list[tuple[str, Any]] = [("", value)]
    while todo:
        name, part = todo.pop()
        children = _children(part)
        if children:
            prefix = f"{name}." if name else ""
            todo.extend((prefix + key, child) for key, child in reversed(children))
        else:
            flat.append((name, text(part)))
    return [] if flat == [("", "")] else flat


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), part) for key, part in value.items()]
    if isinstance(value, list | tuple) and any(isinstance(v, Mapping | list) for v in value):
        return [(str(i), part) for i, part in enumerate(value)]
    return []


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def text(value: Any) -> str:
    if value is None or value in ({}, [], ()):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(text(part) for part in value)
    return str(value)
