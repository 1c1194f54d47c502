"""The section on convergence and the table of journeys: what they say, and what they withhold."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

import reports
from numerics import convergence as statistics
from reports import data, page
from reports.conformance import travel
from reports.sections import convergence
from results.metrics import METRICS
from results.records import Agreement, Case, Facts, Measurement, Outcome
from results.store import Run, RunWriter
from tests.browser import WIDTHS, opened, overflow
from tests.pages import Page
from tests.sample_run import HOSTILE
from tests.test_reports_browser import draw_all, overlapping

CASE = Case("convergence", "train", "mlp", "tiny", "torch_eager", "cpu", "fp32", 32, "adamw_fast")
TIMED = replace(CASE, suite="time_to_target")
JOURNEY = replace(CASE, suite="travel", precision="fp64", batch=8, recipe="adamw_warmup")


def curve(steps, *, target=0.95, last=None):
    """Scores that rise from 0.2 to the target, every 10 steps."""
    count = steps // 10
    scores = [0.2 + (target - 0.2) * (i + 1) / count for i in range(count)]
    scores[-1] = last if last is not None else target
    return [{"step": 10 * (i + 1), "loss": 1.0, "score": s, "seconds": 99.5 + i}
            for i, s in enumerate(scores)]  # fmt: skip


def told(*curves, **more):
    return {"convergence": {"score": "accuracy", "target": 0.95, "rising": True,
                            "curves": list(curves), **more}}  # fmt: skip


def learnt(adapter, *steps, status="ok", reason="", **more):
    case = replace(CASE, adapter=adapter)
    yield Facts(case, told(*map(curve, steps), **more))
    yield Measurement(case, "steps_to_target", "steps", tuple(map(float, steps)))
    yield Outcome(case, status, reason, 1.0, "pytest")


def took(adapter, *seconds, status="ok", flags=()):
    case = replace(TIMED, adapter=adapter)
    yield Facts(case, told(*[curve(200)] * len(seconds)))
    yield Agreement(case, "loss", "loss", 0.0, 1e-7, 0.0, "bitwise", "consensus")
    for metric, values in (("time_to_target", seconds), ("steps_to_target", (200.0,))):
        yield Measurement(case, metric, METRICS[metric][0], values, 1, 0, flags)
    yield Outcome(case, status, "" if status == "ok" else "why", 1.0, "pytest")


def prepared(*parts) -> data.RunData:
    flat = tuple(record for part in parts for record in part)
    return data.prepare(Run("r", Path("r"), {}, flat))


def results(*parts):
    """row -> {column: text} of the first table."""
    (panel,) = convergence.convergence(prepared(*parts))
    table = panel.exhibits[0].table
    names = [column.name for column in table.columns[1:]]
    return {
        row.name: dict(zip(names, row.cells, strict=True)) if row.cells else row.badge.text
        for row in table.rows
    }


def texts(row):
    return {name: cell.badge.text if cell.badge else cell.text for name, cell in row.items()}


# -- what the table says ---------------------------------------------------------------------------


def test_steps_verdict_and_chance_of_every_adapter():
    found = results(
        learnt("torch_eager", 200, 230, p_later=1.0, p_least=0.003),
        learnt("jax_jit", 310, 330, status="divergent", reason="later", p_later=0.0041,
               p_least=0.003),
    )  # fmt: skip
    assert texts(found["torch_eager"]) == {
        "Verdict": "reached", "Median steps": "215", "Steps of each seed": "200, 230",
        "Later by chance": "p = 1",
    }  # fmt: skip
    assert texts(found["jax_jit"]) == {
        "Verdict": "divergent", "Median steps": "320", "Steps of each seed": "310, 330",
        "Later by chance": "p = 0.0041",
    }  # fmt: skip


def test_so_few_seeds_cannot_decide():
    found = results(learnt("a", 200, 230, p_later=1.0, p_least=0.2))
    assert texts(found["a"])["Later by chance"] == "2 seeds cannot decide"
    alone = results(learnt("a", 200))
    assert texts(alone["a"])["Later by chance"] == "–"


def test_the_level_is_that_of_the_statistics():
    assert convergence.LEVEL == statistics.LEVEL


def test_who_does_not_arrive_says_never_and_where_it_ends():
    case = replace(CASE, adapter="b")
    missed = [
        Facts(case, told(curve(200), curve(800, last=0.4))),
        Outcome(case, "divergent", "accuracy 0.95 is not reached", 1.0, "pytest"),
    ]
    steps = results(learnt("a", 200), missed)["b"]["Steps of each seed"]
    assert (steps.text, steps.hint) == ("200, never", "accuracy at the end: 0.950, 0.400")


def test_a_score_that_falls_reaches_its_target_from_above():
    facts = told(curve(100, target=2.5, last=2.4), rising=False)
    facts["convergence"] |= {"score": "nats per character", "target": 2.5}
    found = results([Facts(CASE, facts), Outcome(CASE, "ok", "", 1.0, "x")])
    assert found["torch_eager"]["Steps of each seed"].text == "100"


def test_who_has_no_curve_says_how_it_ended():
    case = replace(CASE, adapter="onnx_runtime")
    ended = [Outcome(case, "unsupported", "inference only", 0.1, "pytest")]
    assert results(learnt("a", 200), ended)["onnx_runtime"] == "unsupported"


# -- time ------------------------------------------------------------------------------------------


def test_the_first_seed_is_apart_from_the_others():
    found = results(learnt("a", 200), took("a", 12.5, 3.0, 4.0, 8.0), learnt("b", 200))
    assert texts(found["a"]) | {"Later by chance": ""} == {
        "Verdict": "reached", "Median steps": "200", "Steps of each seed": "200",
        "Later by chance": "", "Time, first seed": "12.5 s", "Further seeds": "4.00 s",
    }  # fmt: skip
    assert found["a"]["Further seeds"].hint == "3.00 s, 4.00 s, 8.00 s"
    assert texts(found["b"])["Time, first seed"] == "not measured"


def test_a_time_that_took_other_steps_says_so():
    """Programs that are timed use several threads, and add up in another order."""
    same = results(learnt("a", 200, 200), took("a", 12.5, 3.0))["a"]
    assert same["Time, first seed"].small == same["Further seeds"].small == ()
    found = results(learnt("a", 190, 210), took("a", 12.5, 3.0))["a"]
    assert found["Time, first seed"].small == found["Further seeds"].small == ("after 200",)


def test_time_alone_is_shown_with_its_own_verdict():
    found = results(took("a", 12.5))
    assert texts(found["a"])["Verdict"] == "bitwise"
    assert (found["a"]["Steps of each seed"].text, found["a"]["Further seeds"].text) == ("200", "–")


def test_a_flag_marks_the_time():
    found = results(learnt("a", 200), took("a", 12.5, 3.0, flags=("recompiled",)))["a"]
    assert found["Time, first seed"].flags == found["Further seeds"].flags == ("recompiled",)
    assert found["Steps of each seed"].flags == ()


@pytest.mark.parametrize("status", ["divergent", "mistrusted", "timeout"])
def test_a_time_that_is_not_published_is_nowhere(status):
    """Nor are the seconds in the curves, which nobody measured alone."""
    parts = learnt("a", 200), took("a", 77.125, status=status)
    found = prepared(*parts)
    html = page.render([found.run]).replace(page.get_plotlyjs(), "")
    assert "77.1" not in html
    assert "99.5" not in html
    assert all(not view.configuration for view in found.cases)
    (panel,) = convergence.convergence(found)
    assert [c.name for c in panel.exhibits[0].table.columns][-1] == "Later by chance"


def test_cases_that_an_outcome_decides_are_neither_unjudged_nor_withheld():
    found = prepared(learnt("a", 200), took("b", 3.0))
    assert found.withheld == 0
    assert {view.badge.text for view in found.cases} == {"reached", "bitwise"}
    assert prepared(took("b", 3.0, status="divergent")).withheld == 1


# -- the chart and its text ------------------------------------------------------------------------


def drawn(*parts):
    (panel,) = convergence.convergence(prepared(*parts))
    chart = panel.exhibits[0].chart
    return panel, chart, json.loads(chart.json)["data"]


def test_a_line_per_adapter_a_marker_per_seed_and_the_target():
    panel, chart, (target, line, ends, other, _) = drawn(
        learnt("torch_eager", 200, 300), learnt("jax_jit", 200, 220)
    )
    assert (target["name"], set(target["y"])) == ("target 0.95", {0.95})
    assert (line["name"], line["x"][0], line["x"][-1]) == ("torch_eager", 10, 300)
    # a seed that has arrived keeps its score
    assert line["y"][-1] == pytest.approx(0.95)
    assert line["y"][24] == pytest.approx((0.95 + 0.2 + 0.75 * 25 / 30) / 2)
    assert (ends["mode"], ends["x"]) == ("markers", [200, 300])
    assert line["line"]["color"] == ends["marker"]["color"] != other["line"]["color"]
    assert line["line"]["width"] > other["line"]["width"]  # equal curves do not hide each other
    assert "accuracy on held-out examples" in chart.label
    assert panel.title == "mlp, train, fp32"


def test_who_does_not_arrive_has_a_line_and_no_marker():
    _, _, (_, line, ends) = drawn(
        [Facts(CASE, told(curve(800, last=0.4))), Outcome(CASE, "divergent", "x", 1.0, "x")]
    )
    assert (len(line["x"]), ends["x"]) == (80, [])


def test_the_curves_are_in_a_table_too():
    panel, _, traces = drawn(learnt("torch_eager", 200, 300), learnt("jax_jit", 200, 220))
    table = panel.exhibits[1].table
    assert table.caption == "mlp, train, fp32: accuracy after so many steps, median over seeds"
    assert [column.name for column in table.columns] == [
        "Adapter", "10", "70", "130", "180", "240", "300",
    ]  # fmt: skip
    drawn_as = [trace for trace in traces if trace["mode"] == "lines"]
    lines = {trace["name"]: list(zip(trace["x"], trace["y"], strict=True)) for trace in drawn_as}
    for row in table.rows:
        for column, cell in zip(table.columns[1:], row.cells, strict=True):
            known = [y for x, y in lines[row.name] if x <= float(column.name)]
            assert float(cell.text) == pytest.approx(known[-1], abs=5e-4)


# -- journeys --------------------------------------------------------------------------------------


def journey(adapter, rows, *, status="ok", reason="", **changes):
    case = replace(JOURNEY, adapter=adapter, **changes)
    for quantity, tensor, error, verdict, why in rows:
        yield Agreement(case, quantity, tensor, error, None, None, verdict, "there", why)
    yield Outcome(case, status, reason, 1.0, "pytest")


ARRIVED = [
    ("state", "own format", 0.0, "bitwise", ""),
    ("state", "from torch_eager", 0.0, "bitwise", ""),
    ("after 4 steps", "from torch_eager", 7e-14, "identical", ""),
    ("state", "from jax_jit", 0.0, "bitwise", ""),
    ("after 4 steps", "from jax_jit", 0.0, "bitwise", ""),
]
LOST = [
    ("state", "from torch_eager", math.inf, "divergent", "4 of 9 tensors, most slot m:fc1/w"),
    ("after 4 steps", "from torch_eager", 0.3, "divergent", "2 of 9 tensors"),
]


def test_journeys_by_destination_and_source():
    topic = travel.travel(
        prepared(
            journey("torch_eager", ARRIVED),
            journey("jax_jit", LOST, status="divergent", reason="state from torch_eager"),
            journey("onnx_runtime", [], status="unsupported", reason="inference only"),
        )
    )
    (table,) = topic.tables
    assert [column.name for column in table.columns] == [
        "To", "from torch_eager", "from jax_jit", "own format",
    ]  # fmt: skip
    heading, eager, jax, onnx = table.rows
    assert (heading.name, heading.heading) == ("mlp, train, adamw_warmup", True)
    first, second, own = eager.cells
    assert (first.badge.text, first.small) == (
        "identical (fp64)", ("state: every bit", "after 4 steps: 7.00e-14"),
    )  # fmt: skip
    assert (second.badge.text, own.badge.text) == ("bitwise", "bitwise")
    assert jax.cells[0].badge.text == "divergent"
    assert jax.cells[0].more[0] == "state: 4 of 9 tensors, most slot m:fc1/w"
    assert jax.cells[0].anchor == jax.anchor
    assert jax.cells[1].text == "not run"
    assert {cell.badge.text for cell in onnx.cells} == {"unsupported"}


def test_without_journeys_there_is_no_table():
    assert travel.travel(prepared(learnt("a", 200))) is None
    assert convergence.convergence(prepared(journey("a", ARRIVED))) == []


# -- the page --------------------------------------------------------------------------------------


def everything():
    for number, adapter in enumerate(("torch_eager", "jax_jit", "tf_graph", "tf_xla")):
        yield from learnt(adapter, 200 + 10 * number, 230, 250, p_later=0.5, p_least=0.1)
        yield from took(adapter, 12.5, 3.0, 4.0)
        yield from journey(adapter, ARRIVED)


def test_the_page_has_both_and_links_to_them():
    html = page.render([prepared(everything()).run])
    found = Page(html)
    assert found.problems == []
    assert len(found.ids) == len(set(found.ids))
    assert {"#convergence", "#travel"} <= set(found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    for text in ("Weights travel", "mlp, train, fp32: steps to accuracy 0.95", "12.5 s"):
        assert text in found.text
    assert "not judged<" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


STRANGE = ("text", 7, None, [], {}, [[]], [{}], [[{"step": "x"}]], [[{"step": 1, "score": "NaN"}]],
           [[{"step": True, "score": 10**400}]], *HOSTILE)  # fmt: skip


def hostile():
    for number, name in enumerate(HOSTILE):
        case = replace(CASE, model=name, adapter=name, batch=number + 1, recipe=name)
        facts = told(curve(30), curve(50), p_later=name, p_least=name)
        facts["convergence"]["score"] = name
        yield Facts(case, facts)
        yield Outcome(case, "ok", "", 1.0, f"pytest {name}"[:400])
        there = replace(case, suite="travel")
        yield Agreement(there, name, f"from {name}", 1.0, None, None, "divergent", name, name)
        yield Outcome(there, "divergent", name, 1.0, "pytest")
    for number, value in enumerate(STRANGE):
        case = replace(CASE, adapter=f"strange {number}")
        yield Facts(case, {"convergence": value})
        yield Facts(case, told(value))
        yield Facts(case, {"convergence": {**told(curve(20))["convergence"], "target": value}})
        yield Facts(case, {"convergence": {"curves": value, "target": 1.0, "score": value}})
        yield Outcome(case, "ok", "", 1.0, "pytest")


def test_strange_and_hostile_records_make_a_page():
    found = Page(page.render([prepared(everything(), hostile()).run]))
    assert found.problems == []
    assert found.handlers == found.loads == []
    assert "img" not in found.tags
    assert "b" not in found.tags
    charts = [json.loads(text) for kind, text in found.scripts if kind == "application/json"]
    assert len(charts) == 1 + len(HOSTILE)
    for chart in charts:
        names = [trace["name"] for trace in chart["data"]]
        assert not any("<" in name for name in names)


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_a_browser(browser, tmp_path, width):
    writer = RunWriter(tmp_path, "20261121-120000-sample", {"run_id": "20261121-120000-sample"})
    for record in (*everything(), *hostile()):
        writer.append(record)
    writer.close()
    report = reports.build_page([tmp_path / "20261121-120000-sample"], tmp_path / "report")
    with opened(browser, report, width=width) as (shown, noticed):
        draw_all(shown)
        assert overflow(shown) <= 0
        assert overlapping(shown) == []
        assert noticed == []
