"""The site in a real browser: filters, search, sorting, links, themes, downloads, the keyboard, and
what axe-core finds."""

import csv
import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

import reports
from reports import matrix
from reports.data import prepare
from results import display, store
from tests import sample_run
from tests.browser import WIDTHS, opened, overflow
from tests.test_site import TRIAL, models, write

AXE = "axe-core@4.14.1"
CASE = "cases/performance/train/vit/small/jax_jit/cpu/fp32/b8.html"
SAMPLE = "unknown-machine"
#: One page of each type, of the sample and of several runs.
KINDS = (
    *("index.html", "claims.html", "runs.html", "reading.html", f"{SAMPLE}/models/vit.html"),
    *(f"{SAMPLE}/conformance.html", f"{SAMPLE}/conformance/traps.html", f"{SAMPLE}/run.html"),
    *(f"{SAMPLE}/cases.html", f"{SAMPLE}/{CASE}"),
)
OVER_RUNS = ("history.html", "compare.html", "compare/m1/20260104-000000.html", f"m1/{CASE}")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    run = sample_run.write(folder, exercises=True)
    (run / "self_test.csv").write_text(TRIAL)
    reports.build([run], folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for number in range(8):
        speeds = {"torch_eager": 1.0, "torch_compile": 1.1, "jax_jit": 1.5 if number < 4 else 1.2}
        write(root, f"2026010{number + 1}-000000", models(speeds), python="3.12",
              versions={"torch": "2.12.0" if number < 4 else "2.13.0"})  # fmt: skip
    reports.build(sorted(root.iterdir()), root / "out")
    return root / "out"


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """axe-core, from npm."""
    if not shutil.which("npm"):
        pytest.skip("npm is missing, which axe-core comes from: apt-get install npm")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", "--silent", AXE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"`npm pack {AXE}` failed: {done.stderr.strip()[-300:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def violations(page, axe: str) -> list:
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found["violations"]]


def rows(page, selector: str = "main table tbody tr") -> list[str]:
    """What the visible ones say."""
    return page.evaluate(
        "s => [...document.querySelectorAll(s)].filter(r => r.offsetParent).map(r => r.innerText)",
        selector,
    )


# -- every kind of page ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, sample, several, axe, scheme):
    for place in [*(sample / kind for kind in KINDS), *(several / kind for kind in OVER_RUNS)]:
        with opened(browser, place, color_scheme=scheme, bypass_csp=True) as (page, _):
            assert violations(page, axe) == [], place


def test_axe_would_find_something(browser, tmp_path, axe):
    bad = tmp_path / "bad.html"
    bad.write_text("<html><body><img src='data:,'><p style='color:#999;background:#aaa'>dim</p>")
    with opened(browser, bad) as (page, _):
        assert {"image-alt", "color-contrast"} <= {name for name, _ in violations(page, axe)}


@pytest.mark.parametrize("width", [*WIDTHS, 2560])
def test_pages_fit_and_are_quiet(browser, sample, several, width):
    for place in [*(sample / kind for kind in KINDS), *(several / kind for kind in OVER_RUNS)]:
        with opened(browser, place, width=width) as (page, noticed):
            assert overflow(page) <= 0, place
            assert noticed == [], place


def test_nothing_moves_while_a_page_loads(browser, sample):
    """The cumulative layout shift that Lighthouse calls good is below 0.1."""
    shift = """() => new Promise(done => { let sum = 0;
      new PerformanceObserver(list => { for (const e of list.getEntries()) sum += e.value })
        .observe({type: 'layout-shift', buffered: true});
      setTimeout(() => done(sum), 500) })"""
    for kind in KINDS:
        for width in WIDTHS:
            with opened(browser, sample / kind, width=width) as (page, _):
                assert page.evaluate(shift) < 0.1, (kind, width)


def test_every_page_has_what_searches_and_readers_need(browser, sample):
    titles = set()
    for kind in KINDS:
        with opened(browser, sample / kind) as (page, _):
            titles.add(page.title())
            assert page.locator("h1").count() == 1
            assert page.locator("html[lang=en]").count() == 1
            assert len(page.locator("meta[name=description]").get_attribute("content")) > 40
            assert page.locator("img:not([alt])").count() == 0
    assert len(titles) == len(KINDS)


def test_without_scripts_everything_is_there(browser, sample):
    with opened(browser, sample / "index.html", scripts=False) as (page, noticed):
        assert page.locator("table.overview").first.is_visible()
        assert page.locator("form.filters").count() == 1
        assert not page.locator("form.filters").is_visible()
        assert page.locator("button.theme:visible").count() == 0
        assert noticed == []


# -- the overview ----------------------------------------------------------------------------------


def told(page) -> list[list[str]]:
    """What every visible cell of the overview says."""
    return page.evaluate(
        """() => [...document.querySelectorAll('table.overview td')].filter(c => c.offsetParent)
          .map(c => [c.querySelector('.speed b, b')?.textContent ?? '',
                     c.querySelector('.told')?.textContent ?? ''])"""
    )


def test_scripts_compute_what_the_page_already_says(browser, sample, several):
    for site in (sample, several):
        with opened(browser, site / "index.html", scripts=False) as (plain, _):
            html = plain.content()
        with opened(browser, site / "index.html") as (page, _):
            before = page.evaluate(
                """html => { const d = new DOMParser().parseFromString(html, 'text/html');
                return [...d.querySelectorAll('table.overview td')].map(c => [
                  c.querySelector('.speed b, b')?.textContent ?? '',
                  c.querySelector('.told')?.textContent ?? '']) }""",
                html,
            )
            assert before == told(page)
            assert any("×" in bold for bold, _ in before)


def test_a_newcomer_s_question_is_answered(browser, several):
    """Is JAX right, and faster than torch.compile for training a ViT, and by how much?"""
    with opened(browser, several / "index.html") as (page, noticed):
        form = page.locator("form.filters")
        form.locator("select[name=mode]").select_option("train")
        form.locator("input[name=model]").fill("vit")
        form.locator("select[name=baseline]").select_option("torch_compile")
        cell = page.locator("tr[data-model=vit] td[data-adapter=jax_jit]")
        assert "rounding-equal" in cell.inner_text()
        assert "1.09×" in cell.inner_text()
        assert "relative to torch_compile" in page.locator("table.overview caption").inner_text()
        assert page.url.endswith("?mode=train&model=vit&baseline=torch_compile")
        assert noticed == []
        link = page.url
    with opened(browser, link) as (page, _):
        assert page.locator("tr[data-model]:visible").count() == 1
        assert "1.09×" in page.locator("td[data-adapter=jax_jit]:visible").first.inner_text()


def test_columns_are_filtered_and_the_mean_follows(browser, sample):
    with opened(browser, sample / "index.html") as (page, _):
        block = page.locator("section.block[data-mode=train][data-precision=fp32]")
        assert "none: 0 of 3" in block.locator(".mean .subset").inner_text()
        page.locator("details.adapters summary").click()
        for adapter in ("tf_graph", "tf_xla", "torch_compile"):
            page.locator(f"input[name=adapter][value={adapter}]").uncheck()
        assert "of 3 models that all share" in block.locator(".mean .subset").inner_text()
        table = next(
            t for t in matrix.tables(prepare(store.read(next(sample.parent.glob("2025*")))))
            if t.title == "train, fp32, cpu"
        )  # fmt: skip
        speeds = [
            {s.adapter: s.speed.figure.value for s in row.spots if s and s.speed}
            for row in table.rows
        ]
        expected = 1.0
        for found in speeds:
            expected *= (found["jax_jit"] / found["torch_eager"]) ** (1 / len(speeds))
        mean = block.locator(".mean td[data-adapter=jax_jit]").inner_text()
        assert mean == display.ratio(expected)
        assert block.locator("th[data-adapter=tf_graph]").is_hidden()
        page.locator("form.filters button[type=reset]").click()
        block.locator("th[data-adapter=tf_graph]").wait_for(state="visible")
        assert "adapters=" not in page.url


def test_filters_that_fit_nothing_say_so(browser, sample):
    with opened(browser, sample / "index.html") as (page, _):
        page.locator("input[name=model]").fill("no such model")
        assert "nothing fits" in page.locator("form.filters .count").inner_text()


# -- tables ----------------------------------------------------------------------------------------


def test_cases_are_searched_and_filtered_and_the_address_keeps_it(browser, sample):
    with opened(browser, sample / SAMPLE / "cases.html") as (page, _):
        everything = len(rows(page))
        page.locator("form.filters input[name=q]").fill("train/vit fp32")
        page.locator("form.filters select[name=suite]").select_option("performance")
        shown = rows(page)
        assert 0 < len(shown) < everything
        assert all("train/\u200bvit" in row or "train/vit" in row for row in shown)
        assert f"{len(shown)} of {everything:,} rows" in page.locator(".count").inner_text()
        link = page.url
        assert "q=train%2Fvit+fp32" in link
    with opened(browser, link) as (page, _):
        assert rows(page) == shown


def test_the_search_of_the_overview_leads_to_the_cases(browser, sample):
    with opened(browser, sample / "index.html") as (page, noticed):
        page.locator("form.search input").fill("convnet tf_graph divergent")
        page.locator("form.search button").click()
        page.wait_for_url(re.compile("cases.html"))
        assert rows(page)
        assert all("divergent" in row for row in rows(page))
        assert noticed == []


def test_columns_are_sorted_by_number_and_by_text(browser, sample):
    with opened(browser, sample / SAMPLE / "models/vit.html") as (page, _):
        table = page.locator("section#speed table").first
        button = table.locator("th.number button.sort").first

        def values():
            cells = table.locator("tbody tr td:nth-of-type(1)[data-value]").all()
            return [float(cell.get_attribute("data-value")) for cell in cells]

        button.click()
        assert values() == sorted(values())
        assert table.locator("th[aria-sort=ascending]").count() == 1
        button.click()
        assert values() == sorted(values(), reverse=True)
        table.locator("button.sort").first.click()
        names = [cell.inner_text().split("\n")[0] for cell in table.locator("tbody th").all()]
        assert names == sorted(names)


def downloaded(page, table, form: str) -> str:
    tools = table.locator(
        "xpath=ancestor::div[contains(@class, 'scroll')]/following-sibling::details[1]"
    )
    if tools.get_attribute("open") is None:
        tools.locator("summary").click()
    with page.expect_download() as waiting:
        tools.locator(f"button:text-is('{form}')").click()
    assert waiting.value.suggested_filename.endswith(form.lower())
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def test_a_download_holds_what_is_shown(browser, sample):
    with opened(browser, sample / SAMPLE / "cases.html") as (page, _):
        page.locator("form.filters select[name=suite]").select_option("memory")
        table = page.locator("table[data-search]")
        shown = rows(page)
        found = list(csv.DictReader(io.StringIO(downloaded(page, table, "CSV"))))
        assert len(found) == len(shown)
        assert {line["Suite"] for line in found} == {"memory"}
        assert all(float(line["Took"]) > 0 for line in found)
        assert len(json.loads(downloaded(page, table, "JSON"))) == len(shown)


def test_a_download_is_no_spreadsheet_formula(browser, tmp_path):
    shutil.copy(Path(reports.__file__).parent / "templates/site.js", tmp_path)
    (tmp_path / "a.html").write_text(
        "<main><div class='scroll'><table><caption>t</caption><thead><tr><th>A<th>B</thead><tbody>"
        "<tr><td>=1+1<td>a,\"b\"<tr><td data-value='0.5'>500 ms<td>x</tbody></table></div></main>"
        "<script src='site.js'></script>"
    )
    with opened(browser, tmp_path / "a.html") as (page, _):
        assert downloaded(page, page.locator("table"), "CSV") == 'A,B\n\'=1+1,"a,""b"""\n0.5,x\n'


# -- links, themes, keyboard -----------------------------------------------------------------------


def test_the_way_from_the_overview_to_a_case_and_its_command(browser, sample):
    with opened(browser, sample / "index.html") as (page, noticed):
        page.locator("tr[data-model=vit] td[data-adapter=jax_jit] a.speed").first.click()
        page.wait_for_url(re.compile(CASE))
        assert (
            page.locator("h1").inner_text().replace("\u200b", "")
            == "train/vit/small/jax_jit/cpu/fp32/b8"
        )
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.locator(".reproduce button").click()
        page.locator(".reproduce button:text('Copied')").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == "pytest suites/performance --case 'train/vit/small/jax_jit/cpu/fp32/b8'"
        assert noticed == []


def test_charts_are_drawn_when_they_come_into_sight(browser, several):
    with opened(browser, several / f"m1/{CASE}") as (page, noticed):
        page.locator("#history .plot").first.scroll_into_view_if_needed()
        page.locator("#history .plot svg .scatter").first.wait_for()
        assert noticed == []


def test_the_theme_is_chosen_and_kept(browser, sample):
    with opened(browser, sample / "index.html") as (page, _):
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        button = page.locator("button.theme")
        button.click()
        assert page.evaluate(ground) == light
        button.click()
        dark = page.evaluate(ground)
        assert dark != light
        page.goto((sample / "runs.html").as_uri())
        assert page.evaluate(ground) == dark
        assert "dark" in page.locator("button.theme").inner_text()
        page.locator("button.theme").click()
        assert page.evaluate(ground) == light


def test_the_keyboard_is_enough(browser, several):
    with opened(browser, several / "index.html") as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        seen = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            seen.add(
                page.evaluate("document.activeElement.name || document.activeElement.className")
            )
            visible = page.evaluate(
                "document.activeElement === document.body || "
                "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            )
            assert visible, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        assert {"mode", "baseline", "verdict", "speed"} <= seen
        page.locator("select[name=mode]").focus()
        page.keyboard.press("ArrowDown")
        assert "mode=train" in page.url


def test_a_comparison_is_filtered_by_verdict(browser, several):
    with opened(browser, several / "compare.html") as (page, _):
        page.locator("main table a", has_text="20260104").click()
        page.wait_for_url(re.compile("20260104"))
        page.locator("select[name=verdict]").select_option("▲regressed")
        assert len(rows(page, "#effects table tbody tr")) == 3
