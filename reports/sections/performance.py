"""Sections with figures of steady state: throughput, latency, memory, native controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reports.charts.panels import INTERVAL, chart, names, panel, present, table, versus
from reports.data import RunData, quantized
from reports.entries import EMPTY, Entry, Group, cell, groups, range_cell, relative, row
from reports.exhibits import Cell, Column, Exhibit, Panel, Table
from results import display, foreign

#: Suites with this prefix measure points of a curve; `reports.sections.scaling` shows them.
SWEEP = "sweep_"

_SPEED = (("throughput", "throughput"), ("step_time", "step time"))
#: Columns of the throughput table that are there where the metric is.
_MORE = (
    (
        "dispatch_time",
        Column("Dispatch", True, "the host's time to enqueue one step, without waiting for it"),
    ),
    ("device_time", Column("On the device", True, "time of one step between two device events")),
    ("transfer_time", Column("Transfer", True, "bringing one batch from NumPy to the device")),
)
_FRACTION = "peak_fraction"
_PEAK = (
    Column("Of peak", True, "arithmetic per second over what the limits of this machine allow"),
    Column("Bound by", False, "the limit that binds: arithmetic or memory"),
)
_LATENCY = (("latency_p50", "p50"), ("latency_p95", "p95"), ("latency_p99", "p99"))
_PEAKS = (
    ("host_peak_bytes", "steady steps"),
    ("step_peak_bytes", "of one step"),
    ("compile_peak_bytes", "build and first call"),
    ("device_peak_bytes", "on the device"),
    ("device_reserved_bytes", "reserved on the device"),
    ("device_process_bytes", "on the device by the driver"),
)
#: What the memory of training is made of.
PARTS = (
    ("parameter_bytes", "weights"),
    ("gradient_bytes", "gradients"),
    ("optimizer_bytes", "optimizer"),
    ("activation_bytes", "activations"),
)


def throughput(data: RunData) -> list[Panel]:
    """One panel per model and mode whose speed was measured."""
    return [
        panel(data, group, "speed", [_speed(data, group)])
        for group in steady(data)
        if group.having(names(_SPEED))
    ]


def latency(data: RunData) -> list[Panel]:
    """One panel per model whose single calls were timed."""
    return [
        panel(data, group, "latency", [_latency(data, group)])
        for group in steady(data)
        if group.having(names(_LATENCY))
    ]


def memory(data: RunData) -> list[Panel]:
    """One panel per model and mode whose memory was measured."""
    return [
        panel(data, group, "memory", [_memory(data, group)])
        for group in steady(data)
        if group.having(names([*_PEAKS, *PARTS]))
    ]


def native_controls(data: RunData) -> Table | None:
    """Step time through Assay over that of the framework's own idiom; None if not measured."""
    metric = "control_ratio"
    rows = [
        replace(
            row(
                entry,
                [metric],
                [
                    _control(entry),
                    cell(entry, metric),
                    range_cell(entry, metric),
                    _agreement(entry),
                ],
                name=entry.view.case.key,
            ),
            detail=_differences(entry),
        )
        for group in groups(data)
        for entry in group.having([metric])
    ]
    columns = (
        Column("Case"),
        Column("Control"),
        Column("Ratio", True, "above 1: Assay is slower"),
        INTERVAL,
        Column("Agreement", False, "of the control with the same reference, its worst tensor"),
    )
    caption = "Step time over that of the native control, measured in alternating rounds"
    return table(caption, columns, rows) if rows else None


def _told(entry: Entry) -> Mapping[str, Any]:
    """What was recorded of the native control; nothing in old runs."""
    return next((facts["control"] for facts in entry.view.facts if "control" in facts), {})


def _control(entry: Entry) -> Cell:
    told = _told(entry)
    return Cell(str(told["name"])) if "name" in told else EMPTY


def _agreement(entry: Entry) -> Cell:
    told = _told(entry)
    worst, differs = told.get("worst"), told.get("differs", ())
    lines = tuple(
        f"but {each['tensors']} tensors by up to {display.error(each['error'])}" for each in differs
    )
    if worst is None:
        return Cell("not the same function") if lines else EMPTY
    text = f"{worst['verdict']}, {display.error(worst['error'])}"
    return Cell(text, hint=str(worst["tensor"]), small=lines)


def _differences(entry: Entry) -> str:
    """What the control is known to compute otherwise."""
    return "; ".join(str(each["reason"]) for each in _told(entry).get("differs", ()))


def steady(data: RunData) -> list[Group]:
    """The groups that are no points of a curve, and that no section of their own shows."""
    found = (group for group in groups(data) if not group.case.suite.startswith(SWEEP))
    return [
        group for group in found if not quantized(group.case) and not foreign.measured(group.case)
    ]


def _speed(data: RunData, group: Group) -> Exhibit:
    base = group.baseline("throughput")
    more = [(metric, column) for metric, column in _MORE if group.having([metric])]
    peak = _PEAK if group.having([_FRACTION]) else ()
    shown = [*names(_SPEED), *(metric for metric, _ in more), *([_FRACTION] if peak else [])]
    columns = [
        Column("Adapter"),
        Column("Examples/s", True, "throughput, median"),
        INTERVAL,
        *versus(base, "throughput; above 1 is faster"),
        Column("Step time", True, "median"),
        *(column for _, column in more),
        *peak,
    ]
    rows = [
        row(
            entry,
            shown,
            [
                cell(entry, "throughput"),
                range_cell(entry, "throughput"),
                *([relative(entry, base, "throughput")] if base else []),
                cell(entry, "step_time"),
                *(cell(entry, metric) for metric, _ in more),
                *([cell(entry, _FRACTION), _binding(entry)] if peak else []),
            ],
        )
        for entry in group.entries
    ]
    title = f"Throughput, {group.title}"
    drawn = chart(data, group, _SPEED[:1], unit="1/s", axis="examples per second", title=title)
    return Exhibit(table(title, columns, rows), drawn if base else None)


def _binding(entry: Entry) -> Cell:
    found = entry.get(_FRACTION)
    return Cell(found.note) if found else EMPTY


def _latency(data: RunData, group: Group) -> Exhibit:
    base = group.baseline("latency_p50")
    columns = [Column("Adapter")]
    for _, name in _LATENCY:
        hint = f"{name[1:]}% of all synchronised calls take at most this long"
        columns += [Column(name, True, hint), INTERVAL]
    columns += versus(base, "p50; below 1 is faster")
    rows = [
        row(
            entry,
            names(_LATENCY),
            [
                *(made(entry, m) for m in names(_LATENCY) for made in (cell, range_cell)),
                *([relative(entry, base, "latency_p50")] if base else []),
            ],
        )
        for entry in group.entries
    ]
    title = f"Latency of one call, {group.title}"
    drawn = chart(data, group, _LATENCY, unit="s", axis="time of one call", title=title)
    return Exhibit(table(title, columns, rows), drawn)


def _memory(data: RunData, group: Group) -> Exhibit:
    peaks = present(group, _PEAKS)
    shown = [*peaks, *present(group, PARTS)]
    first, first_name = shown[0]
    base = group.baseline(first)
    columns = [Column("Adapter"), *(Column(name.capitalize(), True) for _, name in shown)]
    columns += versus(base, f"{first_name}; above 1 takes more")
    rows = [
        row(
            entry,
            names(shown),
            [*(cell(entry, m) for m in names(shown)), relative(entry, base, first)],
        )
        for entry in group.entries
    ]
    title = f"Peak memory, {group.title}"
    shown_in = Exhibit(table(title, columns, rows))
    if not peaks:
        return shown_in
    drawn = chart(data, group, peaks, unit="B", axis="peak memory", title=title)
    return replace(shown_in, chart=drawn)
