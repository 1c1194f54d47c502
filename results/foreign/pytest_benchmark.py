"""The JSON of pytest-benchmark: `--benchmark-json`, and what `--benchmark-save` and
`--benchmark-autosave` keep. A file is one process; its times are seconds per call.

What was tried: files of 2.5, 3.1, 3.2, 3.4, 4.0 and 5.x. Rounds are in a file only where it was
saved with `--benchmark-save-data`; otherwise their median and quartiles are.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.foreign import parts
from results.foreign.parts import LeftOut, Malformed, Part, mapping, text
from results.records import Case, Measurement

NAME = "pytest-benchmark"
REPEAT = (
    "run pytest 3 times or more a side, each time with `--benchmark-autosave "
    "--benchmark-storage=DIR`, and give the two folders"
)
#: Options of a benchmark that change what is timed.
SETTINGS = ("timer", "disable_gc", "warmup")
#: Written in place of a commit where there is no repository, or none that could be asked.
NO_COMMIT = ("unversioned", "unknown")


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is of this tool."""
    entries = document.get("benchmarks")
    if not isinstance(entries, list) or "context" in document:
        return False
    named = "machine_info" in document or "commit_info" in document
    return named or any("stats" in mapping(entry) for entry in entries)


def read(document: Mapping[str, Any], file: Path) -> list[Part]:
    """The one part that a file holds."""
    measurements: dict[Case, Measurement] = {}
    settings, commands = {}, {}
    left_out = []
    for place, entry in enumerate(document["benchmarks"], start=1):
        name = text(mapping(entry).get("fullname")) or text(mapping(entry).get("name"))
        try:
            made = _measurement(entry, name)
            if made.case in measurements:
                raise Malformed("it is in the file twice; the first counts")
        except Malformed as error:
            left_out.append(LeftOut(name or f"benchmark {place}", "interrupted", str(error)))
            continue
        measurements[made.case] = made
        options = mapping(entry.get("options"))
        settings[made.case] = {key: options[key] for key in SETTINGS if key in options}
        commands[made.case] = f"pytest {shlex.quote(name)}"
    environment = _environment(document)
    return [
        Part(NAME, environment, list(measurements.values()), left_out, settings, commands,
             unknown=("model", "python", "commit"))
    ]  # fmt: skip


def _measurement(entry: Any, name: str) -> Measurement:
    """A benchmark's rounds; its median and quartiles, where the rounds were not kept."""
    if not isinstance(entry, Mapping):
        raise Malformed(f"it is {parts.short(entry)}, but should be an object")
    stats = entry.get("stats")
    if not isinstance(stats, Mapping):
        raise Malformed(f"its stats are {parts.short(stats)}, but should be an object")
    case = parts.case(NAME, name)
    values = stats.get("data")
    if isinstance(values, list) and values:
        return parts.measurement(case, "step_time", "s", values)
    median = parts.number(stats.get("median"), "median")
    scatter = parts.rounds(stats.get("rounds"), stats.get("q1"), stats.get("q3"), median)
    return parts.measurement(case, "step_time", "s", [median], conditions=scatter)


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    machine = mapping(document.get("machine_info"))
    cpu = mapping(machine.get("cpu"))
    # py-cpuinfo renamed brand to brand_raw in version 6; pytest-benchmark 3.1 to 3.2 wrote the one
    model = text(cpu.get("brand_raw")) or text(cpu.get("brand"))
    if not model and "," in text(machine.get("processor")):
        model = text(machine.get("processor"))  # of Windows: "... Stepping 0, AuthenticAMD"
    git = mapping(document.get("commit_info"))
    identity = "" if git.get("id") in NO_COMMIT else git.get("id")
    return parts.environment(
        {
            "cpu": {
                "model": model,
                "count": text(cpu.get("count")),
                "architecture": text(machine.get("machine")) or text(cpu.get("arch_string_raw")),
            },
            "system": text(machine.get("system")),
            "kernel": text(machine.get("release")),
        },
        python=parts.python(
            machine.get("python_implementation"),
            machine.get("python_implementation_version"),
            machine.get("python_version"),
        ),
        versions={
            NAME: text(document.get("version")),
            "commit": parts.commit(identity, dirty=git.get("dirty")),
        },
        started=text(document.get("datetime")),
        host=text(machine.get("node")),
    )
