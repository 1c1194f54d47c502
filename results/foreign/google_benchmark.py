"""The JSON of Google Benchmark (`--benchmark_out=FILE --benchmark_out_format=json`). A file is one
process; repetitions are its rounds, each a mean over iterations, in the benchmark's `time_unit`.

Aggregates are used only where repetitions were not reported (`--benchmark_report_aggregates_only`).
Of counters two have a unit and a direction, those of SetBytesProcessed and SetItemsProcessed; the
others are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.foreign import parts
from results.foreign.parts import LeftOut, Malformed, Part, mapping, text
from results.records import Case, Measurement

NAME = "google-benchmark"
REPEAT = (
    "run the binary 3 times or more a side, each time with another `--benchmark_out=FILE`, and "
    "give the two folders: `--benchmark_repetitions` repeats within one process"
)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
#: field -> (metric, unit); times are in the benchmark's own unit
_TIMES = {"real_time": ("step_time", "s"), "cpu_time": ("cpu_time", "s")}
_RATES = {
    "items_per_second": ("items_per_second", "1/s"),
    "bytes_per_second": ("bytes_per_second", "B/s"),
}
#: Endings of names of what is no benchmark of its own, in files that do not tell (before 1.5).
_AGGREGATES = ("mean", "median", "stddev", "cv", "BigO", "RMS")


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is of this tool."""
    context = document.get("context")
    return isinstance(context, Mapping) and isinstance(document.get("benchmarks"), list)


def read(document: Mapping[str, Any], file: Path) -> list[Part]:
    """The one part that a file holds."""
    iterations: dict[str, list[Mapping[str, Any]]] = {}
    medians: dict[str, Mapping[str, Any]] = {}
    left_out = []
    names = {text(mapping(entry).get("name")) for entry in document["benchmarks"]}
    for place, entry in enumerate(document["benchmarks"], start=1):
        name = text(mapping(entry).get("name"))
        if not name:
            left_out.append(LeftOut(f"benchmark {place}", "interrupted", "it has no name"))
            continue
        kind = _aggregate(entry, name, names)
        if kind is None:
            iterations.setdefault(name, []).append(entry)
        elif kind == "median":
            medians[text(entry.get("run_name")) or name.rpartition("_")[0]] = entry
    measurements: list[Measurement] = []
    every = {**{name: [entry] for name, entry in medians.items()}, **iterations}
    for name, entries in every.items():
        if reason := _ended(entries):
            left_out.append(LeftOut(name, *reason))
            continue
        try:
            measurements += _measurements(parts.case(NAME, name), entries)
        except Malformed as error:
            left_out.append(LeftOut(name, "interrupted", str(error)))
    context = mapping(document["context"])
    executable = text(context.get("executable"))
    commands: dict[Case, str] = {
        made.case: f"{executable} --benchmark_filter='^{made.case.model}$'"
        for made in measurements
        if executable
    }
    return [Part(NAME, _environment(context), measurements, left_out, {}, commands,
                 unknown=("model",))]  # fmt: skip


def _aggregate(entry: Mapping[str, Any], name: str, names: set[str]) -> str | None:
    """Which aggregate an entry is; None for a repetition."""
    if "run_type" in entry:
        iteration = entry["run_type"] == "iteration"
        return None if iteration else text(entry.get("aggregate_name"))
    base, _, ending = name.rpartition("_")
    reported = base in names or {f"{base}_mean", f"{base}_median"} <= names
    fits = ending in _AGGREGATES and reported
    return ending if fits or ending in ("BigO", "RMS") else None


def _ended(entries: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """(status, reason) of a benchmark that says itself that it has no figure."""
    for entry in entries:
        if entry.get("error_occurred"):
            return "failed", text(entry.get("error_message")) or "an error occurred"
        if entry.get("skipped"):
            return "unsupported", text(entry.get("skip_message")) or "it was skipped"
    return None


def _measurements(case: Case, entries: Sequence[Mapping[str, Any]]) -> list[Measurement]:
    made = []
    for field, (metric, unit) in {**_TIMES, **_RATES}.items():
        if not all(field in entry for entry in entries):
            if field == "real_time":
                raise Malformed("it has no real_time")
            continue
        scales = [_scale(entry) if field in _TIMES else 1.0 for entry in entries]
        values = [
            parts.number(entry[field], field.replace("_", " ")) * scale
            for entry, scale in zip(entries, scales, strict=True)
        ]
        if field != "real_time" and not any(values):
            continue  # a benchmark that waits has no processor time, an empty one no rate
        made.append(parts.measurement(case, metric, unit, values))
    return made


def _scale(entry: Mapping[str, Any]) -> float:
    """Seconds in the entry's unit of time."""
    unit = entry.get("time_unit", "ns")
    if not isinstance(unit, str) or unit not in _SECONDS:
        known = ", ".join(_SECONDS)
        raise Malformed(f"its time_unit is {parts.short(unit)}, but should be one of {known}")
    return _SECONDS[unit]


def _environment(context: Mapping[str, Any]) -> dict[str, Any]:
    caches = context.get("caches")
    described = [mapping(cache) for cache in caches] if isinstance(caches, list) else []
    return parts.environment(
        {
            "cpu": {"count": text(context.get("num_cpus"))},
            "caches": {
                f"L{text(cache.get('level'))} {text(cache.get('type'))}": text(cache.get("size"))
                for cache in described
            },
        },
        versions={
            NAME: text(context.get("library_version")),
            f"build of {NAME}": text(context.get("library_build_type")),
        },
        started=text(context.get("date")),
        host=text(context.get("host_name")),
    )
