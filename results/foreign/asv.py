"""The results of airspeed velocity: `results/MACHINE/COMMIT-ENVIRONMENT.json`, versions 1 and 2 of
its format. A file is one commit in one environment; a benchmark with parameters has a figure for
each combination.

What a figure is says `benchmarks.json` two folders up, else the beginning of the benchmark's name:
`time_`, `mem_`, `peakmem_`, `track_`. asv mixes the samples of its processes, so that a file counts
as one process.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.foreign import parts
from results.foreign.parts import LeftOut, Malformed, Part, mapping, text
from results.records import Measurement

NAME = "asv"
REPEAT = (
    "run `asv run` 3 times or more a side, each time with another results_dir, and give a folder "
    "of these for each side, since asv keeps one figure per commit; or ask `asv continuous`"
)
#: unit -> (metric, unit of Assay's, factor)
_UNITS = {
    "seconds": ("step_time", "s", 1.0),
    "s": ("step_time", "s", 1.0),
    "ms": ("step_time", "s", 1e-3),
    "us": ("step_time", "s", 1e-6),
    "ns": ("step_time", "s", 1e-9),
    "bytes": ("object_bytes", "B", 1.0),
    "items/s": ("items_per_second", "1/s", 1.0),
    "bytes/s": ("bytes_per_second", "B/s", 1.0),
}
_PEAK = ("process_peak_bytes", "B", 1.0)
_NUMBER = ("tracked_value", "1", 1.0)
_BY_PREFIX = {"time": _UNITS["s"], "timeraw": _UNITS["s"], "mem": _UNITS["bytes"], "peakmem": _PEAK}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is of this tool."""
    return "commit_hash" in document and isinstance(document.get("results"), Mapping)


def accompanies(document: Mapping[str, Any]) -> bool:
    """Whether a document is one that lies beside results: `machine.json`, `benchmarks.json`."""
    if {"machine", "arch", "os"} <= set(document):
        return True
    entries = [value for name, value in document.items() if name != "version"]
    return bool(entries) and all({"name", "type"} <= set(mapping(entry)) for entry in entries)


@dataclass(frozen=True)
class _Rows:
    """The figures of one benchmark, a row per combination of its parameters."""

    names: Sequence[str]
    results: Sequence[Any]
    samples: Sequence[Any]
    quartiles: Sequence[tuple[Any, Any, Any]]  # number of samples, first and third quartile
    version: str


def read(document: Mapping[str, Any], file: Path) -> list[Part]:
    """The one part that a file holds."""
    kinds = _benchmarks(file)
    columns = document.get("result_columns")
    columns = [text(name) for name in columns] if isinstance(columns, list) else []
    measurements: list[Measurement] = []
    settings, commands = {}, {}
    left_out: list[LeftOut] = []
    for name, entry in document["results"].items():
        try:
            rows = _rows(name, entry, columns)
            unit = _unit(name, kinds)
        except Malformed as error:
            left_out.append(LeftOut(name, "interrupted", str(error)))
            continue
        for place, combination in enumerate(rows.names):
            try:
                made = _measurement(rows, place, unit)
            except _NoFigure as none:
                left_out.append(LeftOut(combination, none.status, str(none)))
            except Malformed as error:
                left_out.append(LeftOut(combination, "interrupted", str(error)))
            else:
                measurements.append(made)
                settings[made.case] = (
                    {"benchmark's version": rows.version[:12]} if rows.version else {}
                )
                commands[made.case] = f"asv run --bench '^{name}'"
    return [Part(NAME, _environment(document), measurements, left_out, settings, commands,
                 unknown=("model", "python", "commit"))]  # fmt: skip


class _NoFigure(Exception):
    """A combination that failed (null) or was skipped (NaN)."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _measurement(rows: _Rows, place: int, unit: tuple[str, str, float]) -> Measurement:
    result = rows.results[place]
    if result is None:
        raise _NoFigure("failed", "asv has null for it: the benchmark failed or timed out")
    if isinstance(result, float) and math.isnan(result):
        raise _NoFigure("unsupported", "asv has NaN for it: its setup skipped it")
    metric, ours, factor = unit
    signed = metric == "tracked_value"
    value = parts.number(result, "result", signed=signed) * factor
    case = parts.case(NAME, rows.names[place])
    samples = rows.samples[place] if place < len(rows.samples) else None
    if isinstance(samples, list) and samples:
        scaled = [parts.number(sample, "sample", signed=signed) * factor for sample in samples]
        return parts.measurement(case, metric, ours, scaled, signed=signed)
    scatter = {}
    if place < len(rows.quartiles):
        count, low, high = rows.quartiles[place]
        # quartiles are written with five digits, the result with all of them
        near = value / factor
        low, high = (
            near if isinstance(q, float) and math.isclose(q, near, rel_tol=1e-4) else q
            for q in (low, high)
        )
        scatter = parts.rounds(count, low, high, near)
        scatter = {k: v if k == "rounds" else v * factor for k, v in scatter.items()}
    return parts.measurement(case, metric, ours, [value], conditions=scatter, signed=signed)


# -- the forms of the format -----------------------------------------------------------------------


def _rows(name: str, entry: Any, columns: Sequence[str]) -> _Rows:
    fields = _fields(entry, columns)
    result = fields.get("result")
    results = result if isinstance(result, list) else [result]
    names = list(_combinations(name, fields.get("params"), len(results)))
    if result is None:
        results = [None] * len(names)
    if len(results) != len(names):
        raise Malformed(
            f"it has {len(results)} results for {len(names)} combinations of its parameters"
        )
    quartiles = zip(
        *(_list(fields.get(key)) for key in ("stats_repeat", "stats_q_25", "stats_q_75")),
        strict=False,
    )
    version = text(fields.get("version"))
    return _Rows(names, results, _list(fields.get("samples")), list(quartiles), version)


def _fields(entry: Any, columns: Sequence[str]) -> dict[str, Any]:
    """A benchmark's columns by name; of version 1 an object, a number or null."""
    if isinstance(entry, list):
        if "result" not in columns:
            raise Malformed("the file has no result_columns with `result`")
        return dict(zip(columns, entry, strict=False))
    if not isinstance(entry, Mapping):
        return {"result": entry}
    stats = [mapping(each) for each in _list(entry.get("stats"))]
    return {
        **entry,
        "stats_repeat": [each.get("repeat", each.get("n")) for each in stats],
        "stats_q_25": [each.get("q_25") for each in stats],
        "stats_q_75": [each.get("q_75") for each in stats],
    }


def _combinations(name: str, params: Any, results: int) -> Iterator[str]:
    """`bench.time_sort(10, 'a')` for each combination, in the order of the results."""
    axes = [axis for axis in _list(params) if isinstance(axis, list)]
    number = math.prod(map(len, axes))
    if number > max(results, 1) and results > 1:
        raise Malformed(f"it has {results} results for {number} combinations of its parameters")
    if number > 100_000:
        raise Malformed(f"it has {number} combinations of parameters")
    for values in itertools.product(*axes):
        yield f"{name}({', '.join(text(value) for value in values)})" if axes else name


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _benchmarks(file: Path) -> Mapping[str, Any]:
    """What `benchmarks.json` says; nothing where there is none."""
    for folder in (file.parent, file.parent.parent):
        try:
            return mapping(json.loads((folder / "benchmarks.json").read_bytes()))
        except (OSError, ValueError, RecursionError):
            continue
    return {}


def _unit(name: str, kinds: Mapping[str, Any]) -> tuple[str, str, float]:
    """(metric, unit, factor) of a benchmark: by its prefix, which asv goes by itself, else by the
    unit that its author gave."""
    prefix = name.rpartition(".")[2].partition("_")[0].lower()
    if prefix in _BY_PREFIX:
        return _BY_PREFIX[prefix]
    return _UNITS.get(text(mapping(kinds.get(name)).get("unit")), _NUMBER)


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    machine = mapping(document.get("params"))
    memory = text(machine.get("ram"))
    variables = mapping(document.get("env_vars"))
    made = parts.environment(
        {
            "cpu": {
                "model": text(machine.get("cpu")),
                "count": text(machine.get("num_cpu")),
                "architecture": text(machine.get("arch")),
            },
            "system": text(machine.get("os")),
            "memory": memory,
        },
        python=text(document.get("python")),
        versions={
            **{text(name): text(version) for name, version
               in mapping(document.get("requirements")).items()},
            "environment variables": " ".join(
                f"{name}={text(value)}" for name, value in sorted(variables.items())
            ),
            "commit": parts.commit(document.get("commit_hash")),
        },
        started=_moment(document.get("date")),
        host=text(machine.get("machine")),
    )  # fmt: skip
    return {**made, "series": text(document.get("env_name"))}


def _moment(milliseconds: Any) -> str:
    """asv's date as ISO 8601."""
    try:
        seconds = parts.number(milliseconds, "date") / 1000
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (Malformed, ValueError, OverflowError, OSError):
        return ""
