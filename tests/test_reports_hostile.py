"""Hostile and broken records give a page that says so, never a broken or scripted one."""

import json
import re
from pathlib import Path

import pytest

import reports
from reports import page
from results import store
from results.records import Case, Facts
from results.store import Run, RunWriter
from tests import sample_run
from tests.pages import Page

#: The only files that a page links to.
TRACE = re.compile(r"traces/[A-Za-z0-9_.-]+\.(json|gz|pb)")
CASE = Case("performance", "train", "vit", "small", "jax_jit", "cpu", "fp32", 8)


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run")
    run = sample_run.write(folder, exercises=True)
    return reports.build_page([run], folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown(html) -> Page:
    return Page(html)


def unsafe(shown: Page) -> list[str]:
    """What a page must not have; empty for a safe one."""
    found = list(shown.problems)
    found += [f"handler {name}" for name in shown.handlers]
    found += [f"loads {name}" for name in shown.loads]
    inside = [link for link in shown.links if not TRACE.fullmatch(link)]
    found += [f"link {link[:40]}" for link in inside if not link.startswith("#")]
    found += [f"broken link {link}" for link in inside if link[1:] not in shown.ids]
    found += [f"<{tag}>" for tag in ("img", "b", "iframe", "object") if tag in shown.tags]
    programs = [text for kind, text in shown.scripts if kind == ""]
    if len(programs) != 2 or any("alert" in text for text in programs[1:]):
        found.append("a script that is not ours")
    if len(set(shown.ids)) != len(shown.ids):
        found.append("two elements with one id")
    return found


def test_hostile_names_cannot_script_the_page(shown):
    assert unsafe(shown) == []
    assert "<script>alert('record')</script>" in shown.text
    assert "{{ 7 * 7 }}" in shown.text


def test_a_page_that_does_not_escape_is_found_out(html):
    for hostile in (
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "<b>bold</b>",
        "</div>",
        "<a href='https://example.org'>x</a>",
        "<p id='main'></p>",
    ):
        assert unsafe(Page(html.replace("Skip to the results", hostile)))


def test_chart_data_cannot_end_its_script(html, shown):
    charts = [text for kind, text in shown.scripts if kind == "application/json"]
    assert len(charts) == html.count('class="plot"')
    for text in charts:
        assert not set("<>&") & set(text)
        assert json.loads(text)["data"]


def test_plotly_reads_names_as_text_not_as_markup(shown):
    charts = [json.loads(text) for kind, text in shown.scripts if kind == "application/json"]
    ticks = [tick for c in charts for tick in c["layout"]["yaxis"].get("ticktext", ())]
    assert any("&lt;script&gt;" in tick for tick in ticks)
    assert not any("<" in tick for tick in ticks)
    assert max(map(len, ticks)) < 150


def test_long_names_do_not_swell_the_page(html):
    assert html.count("x" * 10_000) <= 3  # in the commands, which must stay whole


def test_only_the_two_scripts_of_the_page_may_run(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy.count("sha256-") == 2
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_plotly_js_can_be_inlined():
    text = page.get_plotlyjs().lower()
    assert "</script" not in text
    assert "<!--" not in text
    assert "\r" not in text  # a browser would change it, and its hash with it


def test_a_cut_off_run_without_environment_says_so(tmp_path):
    folder = sample_run.write(tmp_path, hostile=False)
    records = folder / store.RECORDS
    records.write_bytes(records.read_bytes()[:-40])
    (folder / store.ENVIRONMENT).unlink()
    shown = Page.of(reports.build_page([folder], tmp_path))
    assert unsafe(shown) == []
    for part in ("2 problems came up", "cut off", "not recorded", "No environment was recorded"):
        assert part in shown.text


def test_an_empty_run_gives_a_page_that_says_so(tmp_path):
    RunWriter(tmp_path, "empty", {}).close()
    shown = Page.of(reports.build_page([tmp_path / "empty"], tmp_path))
    assert unsafe(shown) == []
    assert "The run holds no cases" in shown.text


def test_a_run_that_stopped_in_the_middle_of_a_case_says_so():
    run = Run("r", Path("r"), {}, (Facts(CASE, {"threads": float("inf")}),))
    shown = Page(page.render([run]))
    assert "no outcome" in shown.text
    assert "the run stopped before this case ended" in shown.text
