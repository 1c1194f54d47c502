"""The example run that the project publishes: it is whole, and the site is built from it."""

from pathlib import Path

import pytest

import reports
from results import describe, store
from tests.browser import WIDTHS, opened, overflow
from tests.pages import Page
from tests.test_site import dead_links

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "results" / "example"


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("example")
    reports.build(store.run_folders(EXAMPLE), out)
    return out


def test_it_is_a_run_of_preset_standard_that_was_read_whole():
    (folder,) = store.run_folders(EXAMPLE)
    run = store.read(folder)
    assert run.problems == ()
    assert run.environment["preset"] == "standard"
    assert describe.status_counts(run)["ok"] > 90
    assert {m.process for m in run.measurements if m.metric == "step_time"} == {0, 1, 2}


def test_the_site_is_built_from_it(example):
    assert dead_links(example) == []
    text = Page.of(example / "index.html").text
    assert "train, fp32, cpu" in text
    assert "jax_jit" in text


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_its_pages_fit_and_are_quiet(browser, example, width):
    for path in [example / "index.html", *example.glob("*/models/*.html")]:
        with opened(browser, path, width=width) as (page, noticed):
            assert overflow(page) <= 0, path
            assert noticed == [], path
