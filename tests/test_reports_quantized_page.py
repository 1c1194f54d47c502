"""The charts and layers of the section on quantization, and its page: whatever the records hold."""

import json
import math
from dataclasses import replace

import pytest

import reports
from reports import data, page, quality
from results.records import Facts
from tests import sample_quantization, sample_run
from tests.browser import WIDTHS, opened, overflow
from tests.pages import Page
from tests.sample_run import HOSTILE
from tests.test_reports_browser import draw_all, overlapping
from tests.test_reports_hostile import unsafe
from tests.test_reports_mixed import prepared
from tests.test_reports_quantization import (
    BASE,
    CASE,
    QUALITY,
    assessed,
    ended,
    lines,
    panels,
    texts,
    timed,
    usual,
)
from tests.test_reports_tradeoff import written

# -- the chart, layers and all models --------------------------------------------------------------


def drawn(*parts):
    (panel,) = [p for p in panels(*parts) if p.title != "All models"]
    chart = panel.exhibits[0].chart
    return chart, json.loads(chart.json)


def test_the_chart_has_speed_over_sqnr_of_all_but_fp32():
    chart, figure = drawn(usual(), usual(replace(CASE, precision="int8_dynamic")))
    (marks, *_) = figure["data"]
    assert (marks["x"], marks["y"]) == ([39.0, 39.0], [2.0, 2.0])
    assert marks["customdata"] == [
        "onnx_runtime int8_dynamic: 2.00× the speed of fp32, 39.0 dB",
        "onnx_runtime int8_static: 2.00× the speed of fp32, 39.0 dB",
    ]
    assert len(set(marks["marker"]["symbol"])) == 2
    assert figure["layout"]["yaxis"]["title"]["text"] == "times the speed of fp32"
    assert "The table below holds the same numbers" in chart.label


def test_where_nothing_was_timed_the_chart_has_sizes():
    _, figure = drawn([*assessed(BASE, size=4e5), *assessed(CASE, size=1e5)])
    assert figure["layout"]["yaxis"]["title"]["text"] == "times smaller than fp32"
    assert figure["data"][0]["y"] == [4.0]


def test_all_quantized_precisions_have_shapes_of_their_own():
    parts = [usual(replace(CASE, precision=name)) for name in data.QUANTIZED]
    _, figure = drawn(*([r for r in part if r.case != BASE or n == 0]
                        for n, part in enumerate(map(list, parts))))  # fmt: skip
    assert len(set(figure["data"][0]["marker"]["symbol"])) == len(data.QUANTIZED)


def test_layers_say_which_is_least_accurate_which_costs_most_and_what_was_calibrated():
    (panel,) = panels(usual())
    row = lines(panel.exhibits[1].table)["onnx_runtime", "int8_static"]
    assert texts(row) == {
        "Least accurate layer": "fc2/w", "Costs most": "fc2/w", "Calibration or tuning": "min-max",
    }  # fmt: skip
    assert [cell.small for cell in row.values()] == [
        ("40.2 dB",), ("+5.00 dB, to 44.0 dB",), ("4 batches, 32 training examples",),
    ]  # fmt: skip
    assert row["Least accurate layer"].more == ("fc2/w: 40.2 dB", "fc1/w: 43.1 dB")
    assert row["Calibration or tuning"].more == ("fc1/w: -1.00 to 2.00, scale 0.0118",)
    told = "after 800 steps of training in float32, on 256 examples that it has not seen"
    assert panel.exhibits[0].table.caption == f"Quantization of mlp, infer: {told}"


def test_layers_of_a_divergent_program_are_left_out():
    facts = Facts(CASE, {"quality": QUALITY})
    parts = [facts, *assessed(CASE, verdict="divergent")]
    (panel,) = panels(parts)
    assert len(panel.exhibits) == 1
    (view,) = prepared(parts).cases
    assert view.configuration == ({"quality": QUALITY},)  # where nothing else shows it


def test_many_layers_are_counted():
    layers = {f"layer{i:03}/w": 40.0 + i for i in range(100)}
    told = QUALITY | {"layers": layers, "sensitivity": {}}
    (panel,) = panels([*assessed(CASE), Facts(CASE, {"quality": told})])
    row = lines(panel.exhibits[1].table)["onnx_runtime", "int8_static"]
    assert len(row["Least accurate layer"].more) == 61
    assert row["Least accurate layer"].more[-1] == "and 40 more"
    assert row["Costs most"].text == "–"


def test_all_models_are_counted_by_precision_and_adapter():
    mlp, vit, tiny = CASE, replace(CASE, model="vit"), replace(CASE, model="vit", size="tiny")
    parts = [*usual(mlp), *assessed(vit, 45.0), *assessed(tiny, verdict="divergent"),
             *(ended(replace(c, adapter="torch_eager"), "unsupported", "no") for c in (mlp, vit)),
             ended(replace(mlp, adapter="litert"), "unsupported", "no"),
             *assessed(replace(vit, adapter="litert"), 30.0)]  # fmt: skip
    (first, *_) = panels(parts)
    table = first.exhibits[0].table
    assert [column.name for column in table.columns] == ["Precision", "litert", "onnx_runtime"]
    assert first.detail == "without torch_eager, where nothing is quantized"
    (row,) = table.rows
    litert, ort = row.cells
    assert (ort.badge.text, ort.badge.tone) == ("1/2", "bad")
    assert ort.small == ("1 wrong", "39.0 to 45.0 dB", "2.00× fp32")
    assert (litert.badge.text, litert.badge.tone) == ("1/2", "good")
    assert litert.small == ("1 unsupported", "30.0 dB")
    assert all(panel.title != "All models" for panel in panels(usual()))


# -- hostile records -------------------------------------------------------------------------------

STRANGE = (None, True, 7, -math.inf, math.nan, 10**400, "text", [], {}, [[]], {"": {}}, [None, 7],
           {"fc1/w": None}, {"fc1/w": math.nan}, {"fc1/w": "inf"}, {"fc1/w": 10**400},
           {7: 7}, {"fc1/w": {"low": "x", "high": None}}, {"method": 7}, {"method": "min-max"},
           {"method": "x", "ranges": {"a": 7, "b": {"low": 0.0, "high": math.inf, "scale": 0}}},
           *HOSTILE)  # fmt: skip


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: repr(value)[:30])
def test_facts_of_any_shape_make_a_page(value):
    told = dict.fromkeys((*QUALITY, "tuned_steps"), value)
    several = [{"quality": value}, {"quality": told}, {"quality": told | {"score": "accuracy"}},
               {"weight_dtypes": value, "integer_kernels": value},
               {"weight_dtypes": {"fc1/w": value}, "integer_kernels": [value]}]  # fmt: skip
    parts = []
    for number, facts in enumerate(several):
        case = replace(CASE, adapter=f"adapter {number}")
        parts += [Facts(case, facts), *assessed(case)]
        assert quality.read(facts.get("quality")) is None or "score" in facts["quality"]
    assert unsafe(Page(page.render([prepared(parts).run]))) == []


def hostile():
    """Every name is hostile, and so is everything that a program told of itself."""
    for number, name in enumerate(HOSTILE):
        case = replace(CASE, model=name, adapter=name, batch=number + 1, recipe=name)
        told = {"score": name, "layers": {name: 40.0}, "left_in_float": [name],
                "sensitivity": {"": 39.0, name: 41.0}, "share": 0.5,
                "calibration": {"method": name, "of": name, "examples": 7,
                                "ranges": {name: {"low": 0, "high": 1, "scale": 0.1}}}}  # fmt: skip
        yield Facts(
            case, {"quality": told, "integer_kernels": [name], "weight_dtypes": {name: name}}
        )
        yield from assessed(replace(case, precision="fp32"))
        yield from assessed(case)
        yield from timed(replace(case, precision="fp32"), 2e-3)
        yield from timed(case, 1e-3)
        yield from assessed(replace(case, precision=name))
        for status in ("unsupported", "failed", "divergent"):
            yield ended(
                replace(case, precision="int8_qat", adapter=f"{status} {name}"), status, name
            )


def test_hostile_records_make_a_page():
    html = page.render([prepared(sample_quantization.records(), hostile()).run])
    found = Page(html)
    assert unsafe(found) == []
    assert "<script>alert('record')</script>" in found.text
    assert html.count("x" * 10_000) == 0
    charts = [json.loads(text) for kind, text in found.scripts if kind == "application/json"]
    for chart in charts:
        for trace in chart["data"]:
            assert not any("<" in text for text in (trace["name"], *trace.get("customdata", ())))


def test_the_sample_run_has_the_section_and_links_to_it(tmp_path):
    run = sample_run.write(tmp_path, quantized=True, hostile=False)
    shown = Page.of(reports.build_page([run], tmp_path / "out"))
    assert unsafe(shown) == []
    assert "#quantization" in shown.links
    assert "Quantization Layers that compute with integers" in shown.text
    assert "divergent quantization suite layer fc2/w: 61.20% exact, at most 3 LSB" in shown.text


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_a_browser(browser, tmp_path, width):
    report = written(tmp_path, sample_quantization.records(("mlp",)), hostile())
    with opened(browser, report, width=width) as (seen, noticed):
        draw_all(seen)
        seen.evaluate("document.querySelectorAll('.panel details').forEach(d => { d.open = true })")
        assert overflow(seen) <= 0
        assert overlapping(seen) == []
        assert noticed == []


@pytest.mark.browser
def test_names_and_reasons_stay_in_sight_beside_what_is_scrolled(browser, tmp_path):
    report = written(tmp_path, sample_quantization.records(("mlp",)))
    with opened(browser, report, width=390) as (seen, _):
        frame = seen.locator("div.scroll:has(table.blocks)").first
        frame.evaluate("frame => { frame.scrollLeft = 9999 }")
        assert frame.evaluate("frame => frame.scrollLeft") > 0
        name = frame.locator("tbody th[scope=row]").first.bounding_box()
        why = frame.locator(".why").first.bounding_box()
        assert name["x"] >= 0
        assert name["x"] + name["width"] <= why["x"] + 1
        assert why["x"] + why["width"] <= 390
