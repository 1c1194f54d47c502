"""The history of a page with several runs."""

from dataclasses import replace

import pytest

from reports.anchors import Anchors
from reports.page import render
from reports.sections.history import panels
from results.records import Measurement, Outcome
from results.store import Run
from tests.pages import Page
from tests.sample_run import HOSTILE
from tests.test_history import CASE, noisy, run


def stepped():
    values = noisy([1.0] * 10 + [1.2] * 10)
    return [run(n, v, torch="2.13.0" if n < 10 else "2.14.0") for n, v in enumerate(values)]


def test_changes_come_with_their_versions_and_a_chart():
    changes, series = panels(list(reversed(stepped())), Anchors())  # in whatever order they come
    assert changes.detail == "1 series over 20 runs, 1 with a change of level"
    (row,) = changes.exhibits[0].table.rows
    texts = [cell.text for cell in row.cells]
    assert texts[0] == "step_time"
    assert float(texts[3].removesuffix("×")) == pytest.approx(1.2, rel=0.02)
    assert texts[4:6] == ["run010", "torch is 2.14.0, but was 2.13.0"]
    assert series.exhibits[0].chart is not None
    assert len(series.exhibits[0].table.rows) == 20


def test_runs_that_share_no_case_have_no_history():
    assert panels([run(0, 1.0), run(1, 1.0, machine="b")], Anchors()) == []
    assert 'id="history"' not in render([run(0, 1.0)])


def test_a_page_of_several_runs_begins_with_it():
    page = Page(render(stepped()))
    assert page.problems == []
    assert "history" in page.ids
    assert len(page.ids) == len(set(page.ids))
    assert page.text.index("Changes of level") < page.text.index("Run run000")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(text):
    case = replace(CASE, model=text)
    runs = []
    for number, made in enumerate(stepped()):
        value = next(r for r in made.records if isinstance(r, Measurement)).values
        records = (Measurement(case, "step_time", "s", value), Outcome(case, "ok", "", 1.0, text))
        environment = {**made.environment, "versions": {"torch": f"{text}{number // 10}"}}
        runs.append(Run(made.run_id, None, environment, records))
    page = render(runs)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
