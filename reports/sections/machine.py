"""Sections that are about the run as a whole: limits of the machine, and where time went."""

from __future__ import annotations

import math

from reports.data import RunData
from reports.exhibits import Cell, Column, Row, Table
from results import describe, display
from results.metrics import LIMITS


def limits(data: RunData) -> Table | None:
    """One row per measured limit, the largest of each first; None if there are none."""
    rows = []
    seen: set[tuple[str, str]] = set()
    for line in data.limits.to_dict("records"):
        place = (line["device"], line["limit"])
        largest = "✓" if place not in seen else ""
        seen.add(place)
        texts = (largest, line["device"], line["adapter"], str(line["threads"]))
        when = describe.started({"started": line["measured"]})
        cells = (display.quantity(line["value"], line["unit"]), *texts, when)
        rows.append(
            Row(
                line["limit"].replace("_", " "),
                "",
                tuple(
                    Cell(display.visible(display.shorten(text, 40)), hint)
                    for text, hint in zip(cells, (LIMITS[line["limit"]][1], *[""] * 5), strict=True)
                ),
            )
        )
    columns = (
        Column("Limit"),
        Column("Rate", True),
        Column("Largest", False, "the largest of its kind is taken for the machine's"),
        Column("Device"),
        Column("Measured with"),
        Column("Threads", True),
        Column("When", False, "limits may be older than the run"),
    )
    caption = "The largest rates that were reached, whatever the model"
    return Table(caption, columns, tuple(rows)) if rows else None


def time_spent(data: RunData) -> Table | None:
    """Seconds per phase over all cases of the run; None where no case tells."""
    spent: dict[str, list[float]] = {}
    for view in data.cases:
        for name, seconds in view.phases:
            spent.setdefault(name, []).append(seconds)
    if not spent:
        return None
    total = math.fsum(view.seconds for view in data.cases if not math.isnan(view.seconds))
    sums = {name: math.fsum(parts) for name, parts in spent.items()}
    order = sorted(sums, key=lambda name: -sums[name])
    rows = [_phase(name, sums[name], total, str(len(spent[name]))) for name in order]
    rest = total - math.fsum(sums.values())
    if rest > 0:
        rows.append(_phase("not accounted for", rest, total, ""))
    columns = (
        Column("Phase"),
        Column("Time", True),
        Column("Share", True, "of the time of all cases"),
        Column("Cases", True),
    )
    caption = f"Time of all cases: {display.quantity(total, 's')}"
    return Table(caption, columns, tuple(rows))


def _phase(name: str, seconds: float, total: float, cases: str) -> Row:
    share = f"{seconds / total:.1%}" if total else display.NONE
    return Row(name, "", (Cell(display.quantity(seconds, "s")), Cell(share), Cell(cases)))
