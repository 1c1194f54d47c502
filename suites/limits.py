"""Limits of the machine that an earlier run has measured: they hold for the same machine, software
and adapters, and are read back as records."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results import atomic
from results.records import Limit, RecordError, decode, encode
from results.store import StoreError

FOLDER = ".limits"  # in the folder of runs


def file(
    results: Path, environment: Mapping[str, Any], limit: str, device: str, adapters: Sequence[str]
) -> Path:
    """Where the limit is kept: named by everything that may change it."""
    fingerprint = environment["fingerprint"]["id"]
    told = [environment["versions"], environment["python"], environment["threads"], adapters]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    return results / FOLDER / f"{limit}-{device}-{fingerprint}-{digest}.jsonl"


def read(path: Path) -> list[Limit]:
    """What was kept; nothing where the file is missing or was damaged."""
    try:
        records = [decode(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, RecordError):
        return []
    return [record for record in records if isinstance(record, Limit)]


def write(path: Path, limits: Sequence[Limit]) -> None:
    """Keeps limits for later runs. They are in this run's records too, so a disk that cannot hold
    this file loses nothing."""
    with contextlib.suppress(StoreError):
        atomic.write(path, "".join(encode(limit) + "\n" for limit in limits))
