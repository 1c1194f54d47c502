"""The append-only store: a run is a folder with `records.jsonl` and `environment.json`.

Every record is written and flushed on its own, so whatever stops a run, what was measured
before is there. Reading skips what cannot be read and says so; it never guesses. The records of a
run that is kept for long may be compressed (`gzip records.jsonl`).
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.records import (
    Agreement,
    Case,
    Claim,
    Decision,
    Facts,
    Limit,
    Measurement,
    Outcome,
    Record,
    RecordError,
    decode,
    encode,
)

RECORDS = "records.jsonl"
ENVIRONMENT = "environment.json"
TRIAL = "self_test.csv"
COMPRESSED = f"{RECORDS}.gz"
FILES = (RECORDS, COMPRESSED, ENVIRONMENT, TRIAL)
_PART, _LARGEST = 2**16, 2**31  # bytes that are unpacked at once, and in all
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class StoreError(Exception):
    """The store cannot be written or read. The text says what to do."""


class RunWriter:
    """Appends the records of one run. Raises StoreError when the folder cannot be written."""

    def __init__(self, root: Path, run_id: str, environment: Mapping[str, Any]) -> None:
        self.folder = root / run_id
        self.run_id = run_id
        self.outcomes: dict[Case, Outcome] = {}  # of the cases that have one
        self.decisions: list[Decision] = []
        self._environment = dict(environment)
        try:
            self.folder.mkdir(parents=True)
            self._write_environment()
            self._file = (self.folder / RECORDS).open("xb", buffering=0)
        except FileExistsError:
            raise StoreError(
                f"run {run_id!r} already exists in {root}: a run is never written twice"
            ) from None
        except OSError as error:
            raise StoreError(_cannot("create the run's folder", self.folder, error)) from None

    def append(self, record: Record) -> None:
        """Writes one record; it is in the file when this returns."""
        if isinstance(record, Outcome):
            if record.case in self.outcomes:
                raise StoreError(
                    f"{record.case.key} has an outcome already; a case has exactly one"
                )
            self.outcomes[record.case] = record
        if isinstance(record, Decision):
            self.decisions.append(record)
        line = (encode(record) + "\n").encode()
        try:
            while line:  # an unbuffered write may take only a part, on a disk that is nearly full
                line = line[self._file.write(line) :]
        except OSError as error:
            raise StoreError(_cannot("append to", self.folder / RECORDS, error)) from None

    def note(self, **more: Any) -> None:
        """Adds to the environment what is known only later."""
        self._environment |= more
        try:
            self._write_environment()
        except OSError as error:
            raise StoreError(_cannot("write", self.folder / ENVIRONMENT, error)) from None

    def _write_environment(self) -> None:
        """At once or not at all: what was written before stays readable."""
        text = json.dumps(self._environment, indent=1, sort_keys=True, default=str) + "\n"
        part = self.folder / f"{ENVIRONMENT}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, self.folder / ENVIRONMENT)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Run:
    """A stored run as read. `problems` are readable sentences about what could not be read."""

    run_id: str
    folder: Path
    environment: Mapping[str, Any]
    records: tuple[Record, ...]
    problems: tuple[str, ...] = field(default=())

    def _of(self, kind: type) -> Iterator[Any]:
        return (record for record in self.records if isinstance(record, kind))

    @property
    def outcomes(self) -> list[Outcome]:
        return list(self._of(Outcome))

    @property
    def measurements(self) -> list[Measurement]:
        return list(self._of(Measurement))

    @property
    def agreements(self) -> list[Agreement]:
        return list(self._of(Agreement))

    @property
    def facts(self) -> list[Facts]:
        return list(self._of(Facts))

    @property
    def decisions(self) -> list[Decision]:
        """The decision on each metric of each case that holds: the last one."""
        held = {(found.case, found.metric): found for found in self._of(Decision)}
        return list(held.values())

    @property
    def limits(self) -> list[Limit]:
        return list(self._of(Limit))

    @property
    def claims(self) -> list[Claim]:
        """What became of each claim: the last record of it."""
        return list({found.claim: found for found in self._of(Claim)}.values())


def read(folder: Path) -> Run:
    """Reads the run in `folder`. Raises StoreError when there is no run; everything less than
    that (a truncated line, another schema, a second outcome) becomes a problem."""
    problems: list[str] = []
    try:
        lines = _content(folder, problems).split(b"\n")
    except OSError as error:
        raise StoreError(
            f"{folder} holds no run: {RECORDS} cannot be read ({_why(error)}); "
            "`python -m results list` shows the stored runs"
        ) from None
    records: list[Record] = []
    seen: set[Case] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = decode(line.decode())
            if isinstance(record, Outcome):
                if record.case in seen:
                    raise RecordError(f"a second outcome of {record.case.key}; the first counts")
                seen.add(record.case)
            records.append(record)
        except (RecordError, UnicodeDecodeError) as error:
            cut = " (cut off: the run was stopped while it wrote this line)"
            last = number == len(lines)
            problems.append(f"{RECORDS}:{number} was skipped: {error}{cut if last else ''}")
    environment = _environment(folder, problems)
    return Run(folder.resolve().name, folder, environment, tuple(records), tuple(problems))


def _content(folder: Path, problems: list[str]) -> bytes:
    """The records; of compressed ones that are cut off or damaged, what comes before that."""
    if not holds_run(folder) or (folder / RECORDS).exists():
        return (folder / RECORDS).read_bytes()
    packed = (folder / COMPRESSED).read_bytes()
    reader = zlib.decompressobj(wbits=31)  # of gzip
    found = bytearray()
    why = ""
    try:
        for start in range(0, len(packed), _PART):
            found += reader.decompress(packed[start : start + _PART], _LARGEST)
            if reader.unconsumed_tail or len(found) > _LARGEST:
                why = f"it holds more than {_LARGEST:,} bytes"
                break
        if not why and not reader.eof:
            why = "it ends too early"
    except zlib.error as error:
        why = str(error)
    if why:
        problems.append(f"{COMPRESSED} is damaged after {len(found):,} bytes: {why}")
    return bytes(found)


def holds_run(folder: Path) -> bool:
    """Whether there are records in a folder."""
    return any((folder / name).is_file() for name in (RECORDS, COMPRESSED))


def is_records(path: Path) -> bool:
    """Whether this is a run's file of records."""
    return path.name in (RECORDS, COMPRESSED) and path.is_file()


def _environment(folder: Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        if isinstance(environment, dict):
            return environment
        problems.append(f"{ENVIRONMENT} is not a JSON object")
    except (OSError, ValueError) as error:
        problems.append(f"{ENVIRONMENT} cannot be read: {error}")
    return {}


def find(root: Path, name: str) -> Path:
    """The folder of a run given as a path (its folder, or its file of records, compressed or not),
    a run id, a unique beginning of one, or `latest`."""
    path = Path(name)
    if holds_run(path):
        return path
    if is_records(path):
        return path.parent
    runs = run_folders(root)
    if name == "latest" and runs:
        return runs[-1]
    exact = [run for run in runs if run.name == name]
    matching = exact or [run for run in runs if name and run.name.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(run.name for run in runs[-5:]) or "none"
    problem = f"{len(matching)} runs begin with" if matching else "there is no run"
    raise StoreError(f"{problem} {name!r} in {root}; the newest are: {known}")


def run_folders(root: Path) -> list[Path]:
    """The folders of all runs below `root`, oldest first (run ids begin with the date)."""
    if not root.is_dir():
        return []
    return sorted(
        (p for p in root.iterdir() if _RUN_ID.match(p.name) and holds_run(p)),
        key=lambda p: p.name,
    )


def _cannot(what: str, path: Path, error: OSError) -> str:
    return (
        f"cannot {what} {path}: {_why(error)}. Free some space or choose another folder with "
        "--results DIR. Everything recorded before is kept."
    )


def _why(error: OSError) -> str:
    return error.strerror or os.strerror(error.errno or 0)
