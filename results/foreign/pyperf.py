"""The JSON of pyperf (`pyperf timeit -o FILE`, `Runner`), format 1.0, also gzipped. A file holds
benchmarks, a benchmark has a run per process, and values are already divided by loops. Runs that
only calibrate have none, and warm-ups are left out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from results.foreign import parts
from results.foreign.parts import LeftOut, Malformed, Part, mapping, text
from results.records import Case, Measurement

NAME = "pyperf"
REPEAT = "measure with `--processes 3` or more (20 is pyperf's own default)"
#: unit in the metadata -> (metric, unit of Assay's)
_UNITS = {
    "second": ("step_time", "s"),
    "byte": ("process_peak_bytes", "B"),
    "integer": ("tracked_value", "1"),
}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is of this tool."""
    entries = document.get("benchmarks")
    if not isinstance(entries, list) or not {"context", "machine_info"}.isdisjoint(document):
        return False
    return any("runs" in mapping(entry) for entry in entries)


def read(document: Mapping[str, Any], file: Path) -> list[Part]:
    """A part per environment: `pyperf convert --add` joins what may come from several. Raises
    Malformed for another version of the format."""
    version = text(document.get("version"))
    if version.partition(".")[0] != "1":
        raise Malformed(f"its format of pyperf is {version or 'not told'}, but 1.0 can be read")
    groups: dict[str, list[Measurement]] = defaultdict(list)
    environments: dict[str, dict[str, Any]] = {}
    seen: set[Case] = set()
    left_out = []
    for place, entry in enumerate(document["benchmarks"], start=1):
        common = {**mapping(document.get("metadata")), **mapping(mapping(entry).get("metadata"))}
        name = text(common.get("name"))
        try:
            runs = list(_runs(entry, name, common))
            if runs and runs[0][1].case in seen:
                raise Malformed("it is in the file twice; the first counts")
        except Malformed as error:
            left_out.append(LeftOut(name or f"benchmark {place}", "interrupted", str(error)))
            continue
        seen.add(runs[0][1].case)
        for metadata, made in runs:
            environment = _environment(metadata)
            key = json.dumps({**environment, "started": ""}, sort_keys=True)
            first = environments.setdefault(key, environment)
            first["started"] = min(first["started"], environment["started"])
            groups[key].append(made)
    first_key = next(iter(environments), None)
    return [
        Part(NAME, environments[key], found, left_out if key == first_key else (),
             unknown=("model", "python"))
        for key, found in groups.items()
    ] or [Part(NAME, {}, (), left_out)]  # fmt: skip


def _runs(
    entry: Any, name: str, common: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Measurement]]:
    """(metadata, values) of each process that measured. Raises Malformed where none did."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("runs"), list):
        raise Malformed("it has no list of runs")
    case = parts.case(NAME, name)
    process = 0
    for run in entry["runs"]:
        if not isinstance(run, Mapping):
            raise Malformed(f"a run is {parts.short(run)}, but should be an object")
        values = run.get("values", [])
        if not isinstance(values, list):
            raise Malformed(f"a run's values are {parts.short(values)}, but should be a list")
        if not values:
            continue  # it calibrated
        metadata = {**common, **mapping(run.get("metadata"))}
        unit = text(metadata.get("unit", "second"))
        if unit not in _UNITS:
            raise Malformed(f"its unit is {unit!r}, but should be one of {', '.join(_UNITS)}")
        metric, ours = _UNITS[unit]
        signed = metric == "tracked_value"
        yield metadata, parts.measurement(case, metric, ours, values, process=process,
                                          signed=signed)  # fmt: skip
        process += 1
    if not process:
        raise Malformed("none of its runs has values: they only calibrated, or were cut off")


def _environment(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return parts.environment(
        {
            "cpu": {
                "model": text(metadata.get("cpu_model_name")),
                "count": text(metadata.get("cpu_count")),
                "affinity": text(metadata.get("cpu_affinity")),
                "configuration": text(metadata.get("cpu_config")),
            },
            "system": text(metadata.get("platform")),
        },
        python=parts.python(metadata.get("python_implementation"), metadata.get("python_version")),
        versions={
            NAME: text(metadata.get("perf_version")),
            "pyperformance": text(metadata.get("performance_version")),
            "timer": text(metadata.get("timer")),
            "commit": parts.commit(metadata.get("commit_id")),
        },
        started=text(metadata.get("date")),
        host=text(metadata.get("hostname")),
    )
