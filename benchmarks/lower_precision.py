"""What lower precision brings and costs, as tables, from stored runs.

`python -m benchmarks.lower_precision RUN...` prints, in Markdown, the speedups over float32 with
their intervals (`suites/performance/test_speedup.py`), peak memory (`test_memory.py`), and size
and quality of quantized models (`suites/conformance/test_quantization.py`). The tables of
docs/lower_precision.md are its output.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from results.records import Case, Outcome
from results.store import find, read
from results.summary import Figure, measured

#: (mode, model, batch, precision) -> adapter -> cell
Cells = dict[tuple[str, str, int, str], dict[str, str]]
Figures = dict[tuple[Case, str], Figure]
BASE = "fp32"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lower_precision")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--results", type=Path, default=Path("results/runs"))
    options = parser.parse_args()
    figures: Figures = {}
    outcomes: dict[Case, Outcome] = {}
    for name in options.runs:
        run = read(find(options.results, name))
        figures |= {(found.case, found.metric): found for found in measured(run.measurements)}
        outcomes |= {outcome.case: outcome for outcome in run.outcomes}
    cases = [case for case in outcomes if case.precision != BASE]
    print("Times faster than float32 (95% interval):\n")
    _table([c for c in cases if c.suite == "speedup"], outcomes, lambda c: _ratio(figures, c))
    print("\nPeak memory of steady steps, times less than float32:\n")
    _table([c for c in cases if c.suite == "memory"], outcomes, lambda c: _memory(figures, c))
    print("\nTimes smaller than float32, SQNR, and score lost:\n")
    told = [c for c in cases if c.suite == "quantization" and c.size != "tiny"]
    _table(told, outcomes, lambda c: _quality(figures, c))


def _ratio(figures: Figures, case: Case) -> str:
    value = figures[case, "speedup"].value
    return f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def _memory(figures: Figures, case: Case) -> str:
    here, base = (_value(figures, case, "host_peak_bytes", p) for p in (case.precision, BASE))
    return f"{base / here:.2f}" if here and base else "no float32 in these runs"


def _quality(figures: Figures, case: Case) -> str:
    size, base = (_value(figures, case, "artifact_bytes", p) for p in (case.precision, BASE))
    smaller = f"{base / size:.2f}x, " if size and base else ""
    ratio, lost = (_value(figures, case, name, case.precision) for name in ("sqnr", "score_lost"))
    return f"{smaller}{ratio:.1f} dB, {lost:+.3f}"


def _value(figures: Figures, case: Case, metric: str, precision: str) -> float | None:
    """The median of `case`'s metric, or of the same case's in another precision."""
    found = figures.get((dataclasses.replace(case, precision=precision), metric))
    return found.value.median if found else None


def _table(
    cases: Iterable[Case], outcomes: dict[Case, Outcome], cell: Callable[[Case], str]
) -> None:
    rows: Cells = defaultdict(dict)
    adapters: dict[str, None] = {}
    for case in cases:
        status = outcomes[case].status
        adapters[case.adapter] = None
        rows[case.mode, case.model, case.batch, case.precision][case.adapter] = (
            cell(case) if status == "ok" else status
        )
    if not rows:
        print("no cases in these runs")
        return
    print("| | precision |", " | ".join(adapters), "|")
    print("| --- | --- |" + " --- |" * len(adapters))
    for (mode, model, batch, precision), cells in rows.items():
        told = " | ".join(cells.get(name, "") for name in adapters)
        print(f"| {model}, {mode}, batch {batch} | {precision} | {told} |")


if __name__ == "__main__":
    main()
