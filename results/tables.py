"""A stored run as aligned text for a terminal. Names from records are data: they cannot style
or command the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from results import announce, describe, display, foreign, frame
from results.history import Series
from results.metrics import DERIVED, METRICS
from results.records import Decision
from results.store import Run

_STYLES = {"ok": "green", "divergent": "bold red", "mistrusted": "yellow", "unsupported": "dim"}
GATE_STYLES = {"regressed": "bold red", "improved": "green", "unchanged": "dim",
               "inconclusive": "yellow"}  # fmt: skip
#: Characters of a name that are shown; the rest is in the records.
_NAME = 120


def listing(runs: Sequence[tuple[str, Run | None, int]]) -> Table:
    """One row per run: (id, the run or None where it cannot be read, size in bytes)."""
    table = _table("run", "started", "machine", "cases", "size")
    for run_id, run, size in runs:
        environment = run.environment if run else {}
        counts = describe.status_counts(run) if run else {}
        cases = ", ".join(f"{n} {display.status(name)}" for name, n in counts.items())
        _row(
            table,
            run_id,
            describe.started(environment) or display.NONE,
            describe.machine(environment) or display.NONE,
            ("cannot be read" if run is None else cases or "none"),
            display.quantity(size, "B"),
        )
    return table


def conformance(run: Run) -> Table:
    """One row per case: how it ended, its verdict and its worst tensor. Cases of other tools, which
    nobody judged, are there only where they did not end ok."""
    table = _table(
        "suite", "case", "status", "verdict", "worst tensor", "error", "ratio", "tensors"
    )
    for row in frame.cases(run).to_dict("records"):
        if row["suite"] in foreign.TOOLS and row["status"] == "ok":
            continue
        if row["verdict"]:
            worst = display.tensor(row["quantity"], row["tensor"])
            judged = [display.verdict(row["verdict"]), worst, display.error(row["error"])]
            judged += [display.ratio(row["ratio"]), str(row["tensors"])]
        else:
            judged = [display.NONE, row["reason"], "", "", ""]
        style = _STYLES.get(row["status"], "red")
        _row(table, row["suite"], _called(row), (display.status(row["status"]), style), *judged)
    return table


def measured(summary: pd.DataFrame) -> Table:
    """One row per case and metric of a `frame.summary`, derived metrics included."""
    table = _table(
        "suite", "case", "metric", "median", "interval", "rounds", "processes", "flags", "note"
    )
    for row in summary.to_dict("records"):
        unit = display.unit_of(row["metric"], row["unit"])
        _row(
            table,
            row["suite"],
            _called(row),
            row["metric"],
            display.quantity(row["median"], unit),
            display.interval(row["low"], row["high"], unit),
            str(row["rounds"]),
            str(row["processes"]),
            (", ".join(display.flags(row["flags"])), "yellow"),
            (row["note"], "dim"),
        )
    return table


def _called(row: Mapping[Any, Any]) -> str:
    """What a row's case is called: another tool's benchmark by its name."""
    return str(row["model"] if row["suite"] in foreign.TOOLS else row["key"])


def flag_lines(summary: pd.DataFrame) -> list[str]:
    """What each flag that occurs says about a figure, for those that Assay sets."""
    used = {flag for text in summary["flags"] for flag in display.flags(text)}
    return [f"{n}: {meaning}" for n, meaning in display.flag_meanings().items() if n in used]


def decisions(found: Sequence[Decision]) -> Table:
    """One row per decision of a gate."""
    table = _table("verdict", "case", "what", "change", "interval", "pairs", "seconds", "note")
    for one in found:
        ratio, low, high = (math.nan if x is None else x for x in (one.ratio, one.low, one.high))
        _row(
            table,
            (one.verdict, GATE_STYLES[one.verdict]),
            announce.label(one.case),
            one.metric,
            display.ratio(ratio),
            display.interval(low, high, "1"),
            str(len(one.ratios) or ""),
            f"{one.seconds:.0f}",
            (one.reason, "dim"),
        )
    return table


def history(found: Sequence[Series]) -> Table:
    """One row per change of a series; one for a series without."""
    table = _table(
        "case", "metric", "machine", "settings", "runs", "now", "change", "since", "note"
    )
    for one in found:
        last = one.points[-1]
        unit = METRICS.get(one.metric) or DERIVED[one.metric]
        head = [
            announce.label(one.case), one.metric, one.machine, one.settings, str(len(one.points)),
            display.quantity(last.value, unit[0]),
        ]  # fmt: skip
        for change in one.changes:
            point = one.points[change.index]
            told = "; ".join(change.versions)
            _row(table, *head, display.ratio(change.ratio), point.run_id, (told, "dim"))
        if not one.changes:
            _row(table, *head, display.NONE, display.NONE, "")
    return table


def limits(table: pd.DataFrame) -> Table:
    """One row per line of `frame.limits`."""
    shown = _table("limit of the machine", "value", "device", "adapter", "threads", "measured")
    for row in table.to_dict("records"):
        value = display.quantity(row["value"], row["unit"])
        names = (row["device"], row["adapter"], str(row["threads"]), row["measured"])
        _row(shown, row["limit"], value, *names)
    return shown


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = (
        *("error", "ratio", "tensors", "median", "interval", "rounds", "processes", "size"),
        *("value", "threads", "change", "pairs", "seconds", "runs", "now"),
    )
    for name in names:
        number = name in numbers
        table.add_column(
            name, justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    return table


def _row(table: Table, *cells: Any) -> None:
    """Adds a row of texts or (text, style) pairs."""
    pairs = [cell if isinstance(cell, tuple) else (cell, "") for cell in cells]
    table.add_row(*(Text(text(name), style=style) for name, style in pairs))


def text(name: str, *, limit: int = _NAME) -> str:
    """A name as it may be printed: visible characters only, at most `limit` of them."""
    return display.visible(display.shorten(str(name), limit))
