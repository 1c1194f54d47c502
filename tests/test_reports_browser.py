"""The page in a real browser: nothing overflows, nothing is scripted, charts and buttons work."""

from pathlib import Path

import pytest

import reports
from tests import sample_run
from tests.browser import WIDTHS, opened, overflow

ANCHOR = "performance/infer/vit/small/tf_graph/cpu/fp32/b8"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return reports.build_page([sample_run.write(folder, exercises=True)], folder)


def overlapping(page) -> list:
    """Pairs of labels of one chart that lie on each other."""
    return page.evaluate(
        """() => [...document.querySelectorAll('div.plot[role=img]')].flatMap(plot => {
          const of = '.xtick text, .ytick text, .xtitle, .ytitle, .legendtext';
          const found = [...plot.querySelectorAll(of)].map(
            e => ({text: e.textContent, box: e.getBoundingClientRect()}));
          return found.flatMap((a, i) => found.slice(i + 1).filter(b =>
            a.box.left < b.box.right - 1 && b.box.left < a.box.right - 1 &&
            a.box.top < b.box.bottom - 2 && b.box.top < a.box.bottom - 2
          ).map(b => [plot.id, a.text, b.text]));
        })"""
    )


def draw_all(page) -> None:
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every("
        "plot => plot.querySelector('svg .bars, svg .scatter'))"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_is_quiet(browser, report, width):
    with opened(browser, report, width=width) as (page, noticed):
        draw_all(page)
        assert overflow(page) <= 0
        assert overlapping(page) == []
        assert page.locator(".plot .bars path").count() > 20
        clipped = page.evaluate(
            "[...document.querySelectorAll('.plot svg')].filter("
            "svg => svg.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert clipped == 0
        assert noticed == []


def test_pages_that_overflow_complain_or_open_dialogs_are_found_out(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<div style='width: 9000px'>wide</div><script>alert('record'); console.error('oops');"
        "new Image().src = 'http://127.0.0.1:9/x.png'; throw new Error('thrown')</script>"
    )
    with opened(browser, bad) as (page, noticed):
        page.wait_for_timeout(300)
        assert overflow(page) > 0
        for part in ("dialog: record", "oops", "thrown", "127.0.0.1"):
            assert any(part in line for line in noticed), part


def test_names_are_drawn_as_text(browser, report):
    with opened(browser, report) as (page, _):
        draw_all(page)
        labels = page.locator(".ytick text").all_text_contents()
        assert any(label.startswith("<script>") for label in labels)
        assert "torch_eager" in labels
        assert "tf_graph ⚑" in labels


def test_wide_tables_scroll_in_their_own_frame(browser, report):
    with opened(browser, report, width=390) as (page, _):
        frame = page.locator("div.scroll:has(table.matrix)").first
        frame.evaluate("frame => { frame.scrollLeft = 200 }")
        assert frame.evaluate("frame => frame.scrollLeft") == 200
        name = page.locator(".matrix tbody th[scope=row]").first
        assert name.bounding_box()["x"] >= 0  # the model stays in sight


@pytest.mark.parametrize("width", WIDTHS)
def test_opened_cells_stay_inside_their_table(browser, report, width):
    with opened(browser, report, width=width) as (page, noticed):
        page.evaluate("document.querySelectorAll('.topic details').forEach(d => { d.open = true })")
        assert overflow(page) <= 0
        outside = page.evaluate(
            """() => [...document.querySelectorAll('.topic td')].filter(cell =>
              [...cell.querySelectorAll('p, .badge, small')].some(part =>
                part.getBoundingClientRect().right > cell.getBoundingClientRect().right + 1)
            ).map(cell => cell.textContent)"""
        )
        assert outside == []
        assert noticed == []


def test_the_keyboard_opens_a_cell(browser, report):
    with opened(browser, report) as (page, _):
        details = page.locator("[id='operations'] td details").first
        details.locator("summary").focus()
        page.keyboard.press("Enter")
        assert details.locator("p").is_visible()


def test_charts_follow_the_colour_scheme(browser, report):
    with opened(browser, report) as (page, noticed):
        draw_all(page)

        def colours():
            return [
                page.locator(f".plot {part}").first.evaluate(f"it => getComputedStyle(it).{style}")
                for part, style in ((".ytick text", "fill"), (".errorbar path", "stroke"))
            ]

        light = colours()
        page.emulate_media(color_scheme="dark")
        page.wait_for_timeout(500)
        assert all(one != other for one, other in zip(light, colours(), strict=True))
        assert noticed == []


def test_the_copy_button_copies_the_whole_command(browser, report):
    with opened(browser, report) as (page, _):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        command = page.locator(f"[id='{ANCHOR}'] .command")
        command.locator("button").click()
        command.locator("button:text('Copied')").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == command.locator("code").text_content()
        assert copied.startswith("pytest suites/performance --case 'infer/vit/small/tf_graph")


def test_an_anchor_leads_to_its_case_and_opens_it(browser, report):
    with opened(browser, report) as (page, _):
        page.locator(f".exhibit a[href='#{ANCHOR}']").first.click()
        row = page.locator(f"[id='{ANCHOR}']")
        assert page.url.endswith("#" + ANCHOR)
        assert 0 <= row.bounding_box()["y"] < 900
        assert row.locator("dl.pairs").first.is_visible()


def test_without_scripts_everything_but_the_charts_is_there(browser, report):
    with opened(browser, report, scripts=False) as (page, noticed):
        assert page.locator("table").first.is_visible()
        assert page.locator("button:visible").count() == 0
        assert noticed == []
