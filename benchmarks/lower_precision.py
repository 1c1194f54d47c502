"""What lower precision brings and costs, as tables, from stored runs.

`python -m benchmarks.lower_precision RUN...` prints, in Markdown, the speedups over float32 with
their intervals (`suites/performance/test_speedup.py`), and size and quality of quantized models
(`suites/conformance/test_quantization.py`). The tables of docs/lower_precision.md are its output.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from results.records import Case, Outcome
from results.store import find, read
from results.summary import Figure, measured

Cells = dict[tuple[str, str, str], dict[str, str]]  # (mode, model, precision) -> adapter -> cell
BASE = "fp32"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lower_precision")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--results", type=Path, default=Path("results/runs"))
    options = parser.parse_args()
    figures: dict[tuple[Case, str], Figure] = {}
    outcomes: dict[Case, Outcome] = {}
    for name in options.runs:
        run = read(find(options.results, name))
        figures |= {(found.case, found.metric): found for found in measured(run.measurements)}
        outcomes |= {outcome.case: outcome for outcome in run.outcomes}
    cases = [case for case in outcomes if case.precision != BASE]
    print("Times faster than float32 (95% interval):\n")
    _table([c for c in cases if c.suite == "speedup"], outcomes, lambda c: _ratio(figures, c))
    print("\nTimes smaller than float32, SQNR, and score lost:\n")
    told = [c for c in cases if c.suite == "quantization" and c.size != "tiny"]
    _table(told, outcomes, lambda c: _quality(figures, c))


def _ratio(figures: dict[tuple[Case, str], Figure], case: Case) -> str:
    value = figures[case, "speedup"].value
    return f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def _quality(figures: dict[tuple[Case, str], Figure], case: Case) -> str:
    def value(metric: str, precision: str = case.precision) -> float | None:
        for (other, name), found in figures.items():
            if name == metric and _same(other, case) and other.precision == precision:
                return found.value.median
        return None

    size, base = value("artifact_bytes"), value("artifact_bytes", BASE)
    smaller = f"{base / size:.2f}x, " if size and base else ""
    return f"{smaller}{value('sqnr'):.1f} dB, {value('score_lost'):+.3f}"


def _same(a: Case, b: Case) -> bool:
    return (a.suite, a.mode, a.model, a.size, a.adapter) == (
        b.suite, b.mode, b.model, b.size, b.adapter
    )  # fmt: skip


def _table(
    cases: Iterable[Case], outcomes: dict[Case, Outcome], cell: Callable[[Case], str]
) -> None:
    rows: Cells = defaultdict(dict)
    adapters: dict[str, None] = {}
    for case in cases:
        status = outcomes[case].status
        adapters[case.adapter] = None
        rows[case.mode, case.model, case.precision][case.adapter] = (
            cell(case) if status == "ok" else status
        )
    if not rows:
        print("no cases in these runs")
        return
    print("| | precision |", " | ".join(adapters), "|")
    print("| --- | --- |" + " --- |" * len(adapters))
    for (mode, model, precision), cells in rows.items():
        told = " | ".join(cells.get(name, "") for name in adapters)
        print(f"| {model}, {mode} | {precision} | {told} |")


if __name__ == "__main__":
    main()
