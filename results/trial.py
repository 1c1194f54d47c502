"""What the judge made of faults that were planted for it to find, as a run's folder keeps it
(`self_test.csv`, a line per judged tensor)."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from results.store import TRIAL

_NEEDED = ("kind", "name", "adapter", "model", "mode", "recipe", "precision", "verdict")
#: kind -> whether the judge should call it divergent
KINDS = {"fault": True, "weak": True, "dead": False, "honest": False, "control": False}


@dataclass(frozen=True)
class Tried:
    """One fault, or one kind of harmless run: how many runs of it there were, by precision, and in
    how many of these the judge called something divergent."""

    kind: str
    name: str
    adapters: tuple[str, ...]
    model: str
    runs: dict[str, int]
    divergent: dict[str, int]


def read(folder: Path) -> tuple[list[Tried], str]:
    """What was tried, faults by name and other runs by kind; and what is wrong with the file.
    Nothing, and no problem, where the run has no such file."""
    path = folder / TRIAL
    if not path.is_file():
        return [], ""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return [], f"{TRIAL} cannot be read: {error}"
    bad = next((n for n, row in enumerate(rows, 2) if not _fine(row)), None)
    if bad is not None:
        return [], f"{TRIAL}:{bad} is not a row with {', '.join(_NEEDED)}"
    runs: dict[tuple[str, ...], bool] = defaultdict(bool)
    for row in rows:
        runs[tuple(row[name] for name in _NEEDED[:-1])] |= row["verdict"] == "divergent"
    groups: dict[tuple[str, str], list[tuple[tuple[str, ...], bool]]] = defaultdict(list)
    for key, divergent in runs.items():
        named = key[1] if key[0] in ("fault", "weak", "dead") else ""
        groups[key[0], named].append((key, divergent))
    return [_tried(kind, name, of) for (kind, name), of in sorted(groups.items())], ""


def _fine(row: dict[str, str]) -> bool:
    return all(isinstance(row.get(name), str) for name in _NEEDED) and row["kind"] in KINDS


def _tried(kind: str, name: str, of: list[tuple[tuple[str, ...], bool]]) -> Tried:
    counts: dict[str, int] = defaultdict(int)
    caught: dict[str, int] = defaultdict(int)
    for key, divergent in of:
        counts[key[6]] += 1
        caught[key[6]] += divergent
    models = {key[3] for key, _ in of}
    model = models.pop() if len(models) == 1 else ""
    adapters = tuple(sorted({key[2] for key, _ in of}))
    return Tried(kind, name, adapters, model, dict(counts), dict(caught))
