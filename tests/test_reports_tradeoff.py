"""The chart of speed over error, and the page that holds it: what is drawn is what the table says,
whatever the records hold."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

import reports
from reports import page
from results.records import Facts, Outcome
from results.store import RunWriter
from tests.browser import WIDTHS, opened, overflow
from tests.pages import Page
from tests.sample_run import HOSTILE
from tests.test_reports_browser import draw_all, overlapping
from tests.test_reports_mixed import (
    CASE,
    POLICY,
    SCALING,
    TRACE,
    TYPICAL,
    ended,
    learnt,
    prepared,
    remembered,
    timed,
    usual,
)
from tests.test_reports_precision import results, shown

# -- the chart -------------------------------------------------------------------------------------


def drawn(*parts):
    chart = shown(*parts).exhibits[0].chart
    return chart, json.loads(chart.json)


def test_a_mark_per_adapter_and_precision_over_error_and_speed():
    chart, figure = drawn(usual("torch_eager", ("fp32", "bf16", "amp_bf16")),
                          usual("jax_jit", ("fp32", "bf16"), faster=2.0))  # fmt: skip
    eager, jax, *keys = figure["data"]
    assert (eager["x"], eager["y"]) == ([3e-7, 6e-3, 2e-2], [1.0, 1.5, 1.8])
    assert (jax["x"], jax["y"]) == ([3e-7, 2e-2], [1.0, 1.8])
    assert eager["marker"]["color"] != jax["marker"]["color"]
    assert eager["line"]["dash"] == jax["line"]["dash"] == "solid"
    assert eager["customdata"][2] == "torch_eager bf16: 1.80×, error 2.00e-02"
    assert len(set(eager["marker"]["symbol"])) == 3
    assert jax["marker"]["symbol"] == [eager["marker"]["symbol"][i] for i in (0, 2)]
    symbols = {key["name"]: key["marker"]["symbol"] for key in keys if key["mode"] == "markers"}
    assert list(symbols) == ["fp32", "bf16", "amp_bf16"]
    assert symbols["bf16"] == jax["marker"]["symbol"][1]
    colours = {key["name"]: key["line"]["color"] for key in keys if key["mode"] == "lines"}
    assert colours == {t["name"]: t["marker"]["color"] for t in (eager, jax)}
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert "The table below holds the same numbers" in chart.label


def test_the_chart_and_the_table_agree():
    """Every mark is a row with these numbers, and every row that has both is a mark."""
    parts = [list(usual("torch_eager")), list(usual("jax_jit", ("fp32", "bf16"), faster=2.0)),
             list(usual("tf_graph", ("bf16",))),
             list(ended(replace(CASE, precision="fp16"), "divergent", error=0.5))]  # fmt: skip
    _, figure = drawn(*parts)
    marks = {text for trace in figure["data"] for text in trace.get("customdata", ())}
    said = {
        f"{adapter} {name}: {row['vs fp32'].text}, error {row['Output error'].text}"
        for (adapter, name), row in results(*parts).items()
        if row["vs fp32"].text != "–" and row["Output error"].text != "–"
    }
    assert marks == said
    assert len(marks) == len(TYPICAL) + 2


def test_an_error_of_nothing_has_a_place_on_the_logarithmic_axis():
    _, figure = drawn(usual("torch_eager", ("fp64", "fp32")))
    assert figure["data"][0]["x"] == [2.0**-53, 3e-7]
    assert figure["data"][0]["customdata"][0].endswith("error 0")


def test_an_error_without_a_place_on_the_axis_is_in_the_table_alone():
    lower = timed(replace(CASE, precision="bf16"), 180.0, math.inf)
    parts = [list(timed(CASE, 100.0)), list(lower)]
    _, figure = drawn(*parts)
    assert figure["data"][0]["y"] == [1.0]
    assert results(*parts)["torch_eager", "bf16"]["Output error"].text == "∞"


def test_a_flagged_mark_is_flagged():
    lower = replace(CASE, precision="bf16")
    _, figure = drawn(timed(CASE, 100.0), timed(lower, 50.0, 2e-2, flags=("noisy",)))
    assert figure["data"][0]["y"] == [1.0, 0.5]  # from the least error to the largest
    assert figure["data"][0]["text"] == ["", "⚑"]
    assert figure["data"][0]["customdata"][1].endswith("⚑ noisy")


def test_more_precisions_than_shapes_are_still_told_apart():
    names = ["fp32", *(f"new_{number:02}" for number in range(12))]
    _, figure = drawn(*(timed(replace(CASE, precision=n), 100.0, 1e-6) for n in names))
    assert len(set(figure["data"][0]["marker"]["symbol"])) == len(names)


# -- the page --------------------------------------------------------------------------------------


def everything():
    """A model in four adapters: one without fp32, one whose float16 diverges, one that cannot."""
    yield from usual("torch_eager")
    yield from usual("jax_jit", ("fp32", "bf16", "amp_bf16"), faster=1.4)
    yield from usual("tf_graph", ("amp_bf16", "amp_bf16_native"), faster=0.8)
    wrong = replace(CASE, adapter="jax_jit", precision="amp_fp16")
    yield from ended(wrong, "divergent", "gradient block0/attention/qkv/w is off", error=0.3)
    for name in ("fp32", "amp_bf16"):
        case = replace(CASE, adapter="onnx_runtime", precision=name)
        yield from ended(case, "unsupported", "ONNX Runtime runs inference only")
    yield Facts(replace(CASE, precision="amp_bf16"), {"threads": 8, "policy": POLICY})
    yield Facts(SCALING, {"loss_scaling": TRACE})
    yield Outcome(SCALING, "ok", "", 1.0, "pytest")


def hostile():
    """Every name is hostile, and so is everything that a program told of itself."""
    for number, name in enumerate(HOSTILE):
        case = replace(CASE, model=name, adapter=name, batch=number + 1, recipe=name)
        for precision_ in ("fp32", name):
            each = replace(case, precision=precision_)
            yield Facts(each, {"policy": {name: [name]}, "loss_scaling": TRACE})
            yield from timed(each, 100.0)
            yield from remembered(each, 40.0)
            yield from learnt(each, 200)
        yield from ended(replace(case, precision=f"broken {name}"), "failed", name)


def test_the_page_has_the_section_and_links_to_it():
    found = Page(page.render([prepared(everything()).run]))
    assert found.problems == []
    assert len(found.ids) == len(set(found.ids))
    assert "#precision" in found.links
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert "Precision What a precision brings" in found.text


def test_hostile_records_make_a_page():
    found = Page(page.render([prepared(everything(), hostile()).run]))
    assert found.problems == []
    assert found.handlers == found.loads == []
    assert not {"img", "b"} & found.tags
    assert "<script>alert('record')</script>" in found.text
    charts = [json.loads(text) for kind, text in found.scripts if kind == "application/json"]
    scatter = [chart for chart in charts if chart["layout"].get("shapes")]
    assert len(scatter) == 1 + len(HOSTILE)
    for chart in scatter:
        for trace in chart["data"]:
            assert not any("<" in text for text in (trace["name"], *trace.get("customdata", ())))


def written(folder: Path, *parts) -> Path:
    writer = RunWriter(folder, "20261121-120000-sample", {"run_id": "20261121-120000-sample"})
    for record in (record for part in parts for record in part):
        writer.append(record)
    writer.close()
    return reports.build_page([folder / "20261121-120000-sample"], folder / "report")


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_a_browser(browser, tmp_path, width):
    report = written(tmp_path, everything(), hostile())
    with opened(browser, report, width=width) as (seen, noticed):
        draw_all(seen)
        seen.evaluate("document.querySelectorAll('.panel details').forEach(d => { d.open = true })")
        assert overflow(seen) <= 0
        assert overlapping(seen) == []
        assert noticed == []


@pytest.mark.browser
def test_names_stay_in_sight_beside_what_is_scrolled(browser, tmp_path):
    with opened(browser, written(tmp_path, everything(), hostile()), width=390) as (seen, _):
        for frame in seen.locator("div.scroll:has(table.blocks)").all():
            frame.evaluate("frame => { frame.scrollLeft = 9999 }")
            assert frame.evaluate("frame => frame.scrollLeft") > 0
            for name in (".block span", "tbody th[scope=row]", "thead th"):
                assert frame.locator(name).first.bounding_box()["x"] >= 0
