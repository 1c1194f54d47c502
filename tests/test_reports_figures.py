"""Sections with figures: what each says, that flags follow figures, and that charts agree."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from reports import data, page
from reports.exhibits import Panel, Row, Table
from reports.sections import cold_start, machine, performance, scaling
from results import store
from results.metrics import METRICS
from results.records import Agreement, Case, Facts, Limit, Measurement, Outcome
from results.store import Run
from tests import sample_run
from tests.pages import Page

CASE = Case("performance", "infer", "vit", "small", "torch_eager", "cpu", "fp32", 8)
JIT = replace(CASE, adapter="jax_jit")
FLAG = "not_steady"


def records(case, figures, *, status="ok", flags=(), conditions=None):
    yield Agreement(case, "loss", "loss", 0.0, 1e-7, 0.0, "bitwise", "consensus")
    for metric, value in figures.items():
        unit = METRICS[metric][0]
        yield Measurement(case, metric, unit, (value,) * 400, 1, 0, flags, conditions or {})
    yield Outcome(case, status, "" if status == "ok" else "why", 10.0, "pytest", {"build": 2.5})


def prepared(*parts, environment=None) -> data.RunData:
    flat = tuple(record for part in parts for record in part)
    return data.prepare(Run("r", Path("r"), environment or {}, flat))


def table_of(panels: list[Panel]) -> Table:
    assert len(panels) == 1
    return panels[0].exhibits[0].table


def line(table: Table, name: str) -> dict[str, str]:
    """column -> text of one row."""
    (found,) = [row for row in table.rows if row.name == name]
    columns = [column.name for column in table.columns[1:]]
    return dict(zip(columns, [cell.text for cell in found.cells], strict=bool(found.cells)))


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> data.RunData:
    return data.prepare(store.read(sample_run.write(tmp_path_factory.mktemp("runs"))))


# -- flags and publication -------------------------------------------------------------------------

EVERYTHING = {
    metric: 1.0 for metric in METRICS if metric not in ("latency", "trace_time", "compile_time")
} | {"latency": 1.0, "trace_time": 0.2, "compile_time": 0.3}
MAKERS = (performance.throughput, performance.latency, performance.memory, cold_start.cold_start)
LIMITS = [
    Limit("matmul_fp32", "FLOP/s", 4e11, "torch_eager", "cpu", 2, "2026"),
    Limit("bandwidth", "B/s", 2e10, "torch_eager", "cpu", 2, "2026"),
]


def all_tables(found: data.RunData) -> list[Table]:
    panels = [panel for make in (*MAKERS, scaling.scaling) for panel in make(found)]
    controls = performance.native_controls(found)
    return [e.table for panel in panels for e in panel.exhibits] + [controls] * bool(controls)


def figures_of(row: Row) -> list:
    return [cell for cell in row.cells if re.search(r"\d", cell.text)]


def test_a_flag_is_marked_on_every_figure_it_concerns():
    """Also on those made from flagged figures: ratios, totals, fractions of the peak."""
    flagged = prepared(records(CASE, EVERYTHING), records(JIT, EVERYTHING, flags=(FLAG,)), LIMITS)
    tables = all_tables(flagged)
    assert len(tables) == len(MAKERS) + 1
    for table in tables:
        for row in table.rows:
            marks = {bool(cell.flags) for cell in figures_of(row)}
            assert marks == {"jax_jit" in row.name}, (table.caption, row.name)
            assert ("not steady" in row.flags) == ("jax_jit" in row.name)
    html = page.render([flagged.run])
    cells = sum(len(figures_of(row)) for t in tables for row in t.rows if row.flags)
    assert html.count('class="mark"') == cells
    charts = [json.loads(text) for kind, text in Page(html).scripts if kind == "application/json"]
    assert len(charts) == len(MAKERS)
    for chart in charts:
        assert "jax_jit ⚑" in chart["layout"]["yaxis"]["ticktext"]


def test_a_ratio_to_a_flagged_baseline_is_flagged():
    found = prepared(records(CASE, {"throughput": 2.0}, flags=(FLAG,)),
                     records(JIT, {"throughput": 1.0}))  # fmt: skip
    (row,) = [row for row in table_of(performance.throughput(found)).rows if row.name == "jax_jit"]
    assert [bool(cell.flags) for cell in row.cells[:3]] == [False, False, True]


@pytest.mark.parametrize("status", ["divergent", "mistrusted", "out_of_memory", "crashed"])
def test_a_case_that_is_not_published_has_no_figure_in_any_section(status):
    suites = ("performance", "cold_start", "memory", "latency", "overhead", "sweep_batch")
    bad = [
        record
        for suite in suites
        for record in records(
            replace(JIT, suite=suite), EVERYTHING, status=status, conditions={"told": 7.25}
        )
    ]
    good = [
        record for suite in suites for record in records(replace(CASE, suite=suite), EVERYTHING)
    ]
    found = prepared(bad, good, LIMITS)
    assert set(found.figures["adapter"]) == {"torch_eager"}
    for table in all_tables(found):
        for row in table.rows:
            assert bool(figures_of(row)) == (row.name != "jax_jit" and "jax_jit" not in row.name)
    assert "told 7.25" not in page.render([found.run]).replace(page.get_plotlyjs(), "")


def test_every_flag_is_in_the_legend(sample):
    text = Page(page.render([sample.run])).text
    for name in ("noisy", "not steady", "oversubscribed", "gpu shared"):
        assert f"⚑ {name}" in text


# -- sections --------------------------------------------------------------------------------------


def test_throughput_shows_what_was_measured_besides():
    bare = table_of(performance.throughput(prepared(records(CASE, {"throughput": 5.0}))))
    assert [column.name for column in bare.columns][-1] == "Step time"
    step = {"throughput": 800.0, "step_time": 1e-2, "dispatch_time": 1e-3, "transfer_time": 2e-3}
    work = {"flops_per_step": 1e9, "bytes_per_step": 1e8}
    found = line(table_of(performance.throughput(prepared(records(CASE, step | work), LIMITS))),
                 "torch_eager")  # fmt: skip
    assert (found["Dispatch"], found["Transfer"]) == ("1.00 ms", "2.00 ms")
    assert (found["Of peak"], found["Bound by"]) == ("50%", "memory")


START = {"import_time": 2.0, "build_time": 1.0, "first_call_time": 0.5}
COMPILED = START | {"first_call_time": 12.0, "trace_time": 3.0, "compile_time": 8.5,
                    "first_call_time_warm_cache": 4.0}  # fmt: skip


def started(step: float) -> dict[str, str]:
    found = prepared(
        records(replace(CASE, suite="cold_start"), START),
        records(replace(JIT, suite="cold_start"), COMPILED),
        records(CASE, {"step_time": 0.15}),
        records(JIT, {"step_time": step}),
    )
    return line(table_of(cold_start.cold_start(found)), "jax_jit")


def test_cold_start_takes_the_first_call_apart():
    found = started(0.10)
    assert [found[name] for name in ("Trace", "Compile", "Rest", "Total")] == [
        "3.00 s", "8.50 s", "500 ms", "15.0 s",
    ]  # fmt: skip
    assert (found["Warm cache"], found["Ahead of torch_eager"]) == ("4.00 s", "230 steps")
    assert started(0.2)["Ahead of torch_eager"] == "never"
    assert started(0.15)["Ahead of torch_eager"] == "undecided"


def test_parts_of_a_start_stack_up_to_its_total(sample):
    for panel in cold_start.cold_start(sample):
        for exhibit in panel.exhibits:
            stacks = json.loads(exhibit.chart.json)["data"]
            assert len({trace["marker"]["pattern"]["shape"] for trace in stacks}) == len(stacks)


def test_an_old_run_with_controls_is_still_read():
    found = prepared(records(replace(CASE, suite="controls"), {"control_ratio": 1.25}))
    assert line(performance.native_controls(found), CASE.key)["Ratio"] == "1.25×"


def sweep(adapter, batch, **fate):
    case = replace(CASE, suite="sweep_batch", adapter=adapter, batch=batch)
    return records(case, {"throughput": 100.0 * batch}, **fate)


def test_a_point_without_a_figure_is_marked_in_table_and_chart():
    found = prepared(
        *(sweep("torch_eager", batch) for batch in (1, 2, 4)),
        *(sweep("jax_jit", batch) for batch in (1, 2)),
        sweep("jax_jit", 4, status="out_of_memory"),
        *(sweep("tf_xla", batch, status="unsupported") for batch in (1, 2, 4)),
    )
    (panel,) = scaling.scaling(found)
    (exhibit,) = panel.exhibits
    rows = {row.name: row for row in exhibit.table.rows}
    assert line(exhibit.table, "torch_eager") == {"1": "100", "2": "200", "4": "400"}
    assert rows["jax_jit"].cells[2].badge.text == "out of memory"
    assert rows["tf_xla"].cells == ()
    assert rows["tf_xla"].badge.text == "unsupported"
    chart = json.loads(exhibit.chart.json)
    eager, jit, crosses = chart["data"]
    assert (eager["x"], eager["y"]) == ([1, 2, 4], [100, 200, 400])
    assert (jit["x"], jit["y"]) == ([1, 2], [100, 200])
    assert crosses["customdata"] == ["jax_jit at 4: out of memory"]
    assert crosses["y"][0] > 400
    assert chart["layout"]["xaxis"]["type"] == "log"
    assert performance.throughput(found) == []


def test_a_sweep_where_nobody_has_a_figure_is_no_section():
    assert scaling.scaling(prepared(sweep("jax_jit", 1, status="failed"))) == []


def test_usual_threads_are_those_of_the_run():
    points = [replace(CASE, suite="sweep_threads", threads=n) for n in (1, 0)]
    parts = [list(records(case, {"throughput": 5.0})) for case in points]
    known = prepared(*parts, environment={"threads": 6})
    assert set(line(table_of(scaling.scaling(known)), "torch_eager")) == {"1", "6"}
    (panel,) = scaling.scaling(prepared(*parts, environment={"threads": "many"}))
    assert set(line(panel.exhibits[0].table, "torch_eager")) == {"usual", "1"}
    assert json.loads(panel.exhibits[0].chart.json)["data"][0]["x"] == [1]


def test_every_chart_has_the_table_beside_it(sample):
    """Each figure that is drawn as a curve is a cell of the table."""
    for panel in scaling.scaling(sample):
        for exhibit in panel.exhibits:
            drawn = [t for t in json.loads(exhibit.chart.json)["data"] if "✕" not in t["name"]]
            points = sum(len(trace["x"]) for trace in drawn)
            assert points == sum(len(figures_of(row)) for row in exhibit.table.rows)


def test_limits_name_the_largest_of_each_kind(sample):
    table = machine.limits(sample)
    assert [(row.name, row.cells[0].text, row.cells[1].text) for row in table.rows] == [
        ("bandwidth", "24.0 GB/s", "✓"),
        ("matmul fp32", "420 GFLOP/s", "✓"),
        ("matmul fp32", "390 GFLOP/s", ""),
        ("matmul int8", "1.10 TOP/s", "✓"),
    ]
    assert machine.limits(prepared()) is None


def test_time_spent_adds_up_to_the_time_of_all_cases(sample):
    table = machine.time_spent(prepared(records(CASE, {}), records(JIT, {}, status="timeout")))
    assert table.caption == "Time of all cases: 20.0 s"
    assert line(table, "build") == {"Time": "5.00 s", "Share": "25.0%", "Cases": "2"}
    assert line(table, "not accounted for")["Time"] == "15.0 s"
    assert machine.time_spent(prepared([Facts(CASE, {"a": 1})])) is None


def test_details_of_a_case_say_under_what_conditions_and_where_time_went():
    found = prepared(records(CASE, {"step_time": 1.0}, conditions={"page_faults": 12.0}))
    (view,) = found.cases
    assert view.conditions == (("process 0", "page_faults 12"),)
    assert view.phases == (("build", 2.5),)
    text = Page(page.render([found.run])).text
    assert "Read while it was measured process 0 page_faults 12" in text
    assert "Where its time went build 2.50 s" in text


def test_a_run_of_limits_alone_is_a_page():
    text = Page(page.render([prepared(LIMITS).run])).text
    assert "The run holds no cases" in text
    assert "400 GFLOP/s" in text
