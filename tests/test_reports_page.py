"""The page: what it says, what it keeps to itself, and that hostile records cannot script it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import reports
from numerics import judge
from reports import anchors, badges, data, entries, page
from reports.__main__ import main
from results import frame, store
from results.records import STATUSES, VERDICTS, Agreement, Case, Measurement, Outcome
from results.store import Run, StoreError
from tests import sample_run
from tests.pages import Page

CASE = Case("performance", "train", "vit", "small", "jax_jit", "cpu", "fp32", 8)
CSS = (Path(reports.__file__).parent / "templates" / "style.css").read_text()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def sample(root) -> Path:
    return sample_run.write(root)


@pytest.fixture(scope="module")
def html(sample, tmp_path_factory) -> str:
    return reports.build_page([sample], tmp_path_factory.mktemp("out")).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown(html) -> Page:
    return Page(html)


def run_of(*records) -> Run:
    return Run("r", Path("r"), {}, records)


def measured_case(status="ok", verdict="rounding-equal"):
    """One case with a step time of 123 ms and a throughput of 7,770 examples per second."""
    return run_of(
        Agreement(CASE, "gradient", "w", 1e-7, 1e-7, 1.0, verdict, "consensus"),
        Measurement(CASE, "step_time", "s", (0.1234,) * 16),
        Measurement(CASE, "throughput", "1/s", (7770.0,) * 16),
        Measurement(CASE, "import_time", "s", (0.4567,)),
        Measurement(CASE, "host_peak_bytes", "B", (89.1 * 2**20,)),
        Measurement(CASE, "control_ratio", "1", (1.357,) * 16),
        Outcome(CASE, status, "" if status == "ok" else "why", 1.0, "pytest --case x"),
    )


FIGURES = ("123 ms", "7,770", "7770", "457 ms", "89.1", "1.36×")


def figures_on(run: Run) -> list[str]:
    """Which of FIGURES a page shows anywhere, charts included; plotly.js is left out."""
    whole = page.render([run])
    own = whole.replace(page.get_plotlyjs(), "")
    return [figure for figure in FIGURES if figure in own]


# -- what may be shown -----------------------------------------------------------------------------


def test_figures_of_a_good_case_are_shown():
    assert figures_on(measured_case()) == list(FIGURES)


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "ok"])
def test_a_case_that_is_not_ok_shows_no_figure(status):
    run = measured_case(status)
    assert figures_on(run) == []
    assert "none of the 1 measured cases" in Page(page.render([run])).text


@pytest.mark.parametrize("verdict", ["divergent", "mistrusted", "null-gradient", "unreferenced"])
def test_a_case_that_is_ok_in_name_only_shows_no_figure(verdict):
    assert figures_on(measured_case("ok", verdict)) == []


def test_a_case_that_was_never_judged_or_never_ended_shows_no_figure():
    run = measured_case()
    assert figures_on(replace(run, records=run.records[1:])) == []
    assert figures_on(replace(run, records=run.records[:-1])) == []


def test_the_page_builder_itself_refuses_unpublished_figures():
    prepared = data.prepare(measured_case())
    assert entries.groups(prepared)
    unpublished = prepared.figures.assign(published=False)
    assert entries.groups(replace(prepared, figures=unpublished)) == []


def test_a_case_without_figures_keeps_its_row_in_a_panel_of_others():
    other = replace(CASE, adapter="tf_graph")
    good = measured_case().records
    run = run_of(*good, Outcome(other, "crashed", "signal 11", 1.0, "pytest"))
    text = Page(page.render([run])).text
    assert re.search(r"tf_graph ?! ?crashed no figures", text)


# -- what is said ----------------------------------------------------------------------------------


def test_the_page_says_what_was_run_where_and_how_it_ended(shown):
    for part in (
        "295 of 346 cases ended ok",
        "2025-11-20 17:18 UTC",
        "Example CPU 9000 @ 3.0 GHz, 8 cores",
        "31.2 GiB",
        "torch 2.13.0",
        "pytest suites --benchmark --preset standard",
        "Isolation process",
        "Allocator system",
        "Threads 8",
    ):
        assert part in shown.text


def test_sections_come_in_the_order_of_importance(shown):
    titles = (
        "Conformance Scorecard", "Models Each cell",
        "Throughput Steady", "Latency Single", "Memory Peaks",
        "Cold start Importing", "Scaling One line", "Limits of the machine What",
        "Native controls The same", "What is not ok Every", "Where time went Time of all",
        "All cases 346 cases", "Environment Environment of run", "How to read this page Every",
    )  # fmt: skip
    places = [shown.text.index(title) for title in titles]
    assert places == sorted(places)


def test_a_cell_shows_verdict_worst_tensor_error_and_ratio(shown):
    assert re.search(
        r"≡ ?identical \(fp64\) (gradient|update@10) block\d/./. \d\.\d\de-\d\d", shown.text
    )
    assert re.search(r"✗ ?divergent gradient block0/a/b \d\.\d\de-\d\d, 880× floor", shown.text)
    assert re.search(r"– ?unsupported ONNX Runtime runs inference only", shown.text)


def test_every_not_ok_outcome_is_there_with_reason_and_command(sample, shown):
    text = shown.text[shown.text.index("What is not ok Every") : shown.text.index("All cases 346")]
    for outcome in store.read(sample).outcomes:
        if outcome.status != "ok" and outcome.case.model in sample_run.MODELS:
            assert outcome.reason in text
            assert outcome.reproduce in text


def test_every_case_has_a_row_an_anchor_and_its_command(sample, html, shown):
    for outcome in store.read(sample).outcomes:
        if outcome.case.model in sample_run.MODELS:
            assert f"{outcome.case.suite}/{outcome.case.key}" in shown.ids
            assert html.count(outcome.reproduce.replace("'", "&#39;")) >= 1


def test_flags_are_shown_beside_figures(html, shown):
    assert "⚑ noisy" in shown.text
    charts = [json.loads(text) for kind, text in shown.scripts if kind == "application/json"]
    ticks = [tick for c in charts for tick in c["layout"]["yaxis"].get("ticktext", ())]
    assert "tf_graph ⚑" in ticks
    assert "torch_eager" in ticks


def test_effective_configuration_is_on_the_page(shown):
    assert "dtype.parameters float32" in shown.text
    assert "flags.matmul_precision highest" in shown.text


def test_throughput_is_relative_to_the_baseline_or_to_the_first_adapter():
    assert "vs jax_jit" in Page(page.render([measured_case()])).text
    eager = replace(CASE, adapter=data.BASELINE)
    records = [replace(record, case=eager) for record in measured_case().records]
    records[2] = Measurement(eager, "throughput", "1/s", (2 * 7770.0,) * 16)
    text = Page(page.render([run_of(*measured_case().records, *records)])).text
    assert f"vs {data.BASELINE}" in text
    assert "7,770 7,770 to 7,770 0.500×" in text


def test_a_cold_start_that_two_suites_measured_is_shown_once():
    other = replace(CASE, suite="controls")
    records = [*measured_case().records, Outcome(other, "ok", "", 1.0, "pytest")]
    records.append(Agreement(other, "loss", "loss", 0.0, 1e-7, 0.0, "bitwise", "consensus"))
    records.append(Measurement(other, "import_time", "s", (0.1,)))
    text = Page(page.render([run_of(*records)])).text
    assert text.count("Time until the first result, vit, train") == 1


def test_every_verdict_and_status_has_a_badge_with_a_sign_of_its_own_kind():
    tones = set(re.findall(r"^\.(\w+) \{ color: var\(--\w+\); background", CSS, re.MULTILINE))
    for status in STATUSES:
        assert badges.badge(status, "").tone in tones
        assert badges.badge(status, "").symbol
    signs = {badges.badge("ok", verdict).symbol for verdict in VERDICTS}
    assert len(signs) == len(VERDICTS)
    assert badges.badge("ok", "").text == "not judged"


def test_the_legend_states_the_bounds_of_the_judge():
    bounds = {
        "identical": f"{judge.IDENTITY:g}",
        "rounding-equal": f"{judge.ROUNDING_EQUAL:g} times",
        "precision-equal": f"{judge.PRECISION_EQUAL:g} times",
    }
    for verdict, bound in bounds.items():
        assert f"at most {bound}" in badges.MEANINGS[verdict]
    assert set(VERDICTS) <= set(badges.MEANINGS)


def test_several_runs_have_a_section_each(root, sample, tmp_path):
    other = sample_run.write(root, run_id="20251121-other", hostile=False)
    shown = Page.of(reports.build_page([sample, other], tmp_path))
    assert len(set(shown.ids)) == len(shown.ids)
    for run_id in (sample_run.RUN_ID, "20251121-other"):
        assert f"Run {run_id}" in shown.text
        assert f"run/{run_id}/conformance/infer/mlp/tiny/jax_jit/cpu/fp64/b2" in shown.ids
    assert sum(kind == "" for kind, _ in shown.scripts) == 2  # plotly.js once


# -- anchors and determinism -----------------------------------------------------------------------


def test_the_same_records_give_the_same_bytes(sample, html, tmp_path):
    assert reports.build_page([sample], tmp_path).read_text(encoding="utf-8") == html


def test_anchors_are_paths_and_keep_different_names_apart():
    assert anchors.anchor("conformance", CASE.key) == f"conformance/{CASE.key}"
    hostile = [anchors.anchor(name) for name in (*sample_run.HOSTILE, "a b", "a_b", "a\tb")]
    assert len(set(hostile)) == len(hostile)
    assert all(re.fullmatch(r"[\w./@~-]{1,140}", name) for name in hostile)
    taken = anchors.Anchors(prefix="run")
    assert [taken.take("a"), taken.take("a")] == ["run/a", "run/a~2"]


def test_reading_order_does_not_depend_on_the_order_of_the_run(sample):
    run = store.read(sample)
    other = replace(run, records=tuple(reversed(run.records)))
    views = [[v.case for v in data.prepare(r).cases] for r in (run, other)]
    assert views[0] == views[1]
    assert len(views[0]) == len(frame.cases(run))


# -- the command -----------------------------------------------------------------------------------


def test_the_command_prints_the_path(root, sample, tmp_path, capsys):
    out = tmp_path / "site"
    assert main(["latest", "-o", str(out), "--results", str(root), "--title", "A <title>"]) == 0
    assert capsys.readouterr().out == f"{out / 'index.html'}\n"
    assert "A <title>" in Page.of(out / "index.html").text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope", "-o", "x"], "there is no run 'nope'"),
        (["latest", "-o", "/proc/none"], "cannot write /proc/none/"),
        (["latest"], "-o"),
        ([], "RUN"),
    ],
)
def test_usage_errors_are_one_clear_line(root, sample, capsys, arguments, said):
    try:
        code = main([*arguments, "--results", str(root)])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_without_plotly_the_command_says_what_to_install(root, sample, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["latest", "-o", "x", "--results", str(root)]) == 2
    assert "pip install jinja2 pandas plotly" in capsys.readouterr().err


def test_build_wants_a_run(tmp_path):
    with pytest.raises(StoreError, match="at least one"):
        reports.build_page([], tmp_path)
    with pytest.raises(StoreError, match="holds no run"):
        reports.build_page([tmp_path], tmp_path)
