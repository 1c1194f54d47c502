"""What the suites of exercises found: the scorecard and one table per topic."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from numerics import determinism as judge_of_repeats
from reports import page
from reports.conformance import attempts
from reports.conformance.control_flow import control_flow
from reports.conformance.determinism import VARIANTS, determinism
from reports.conformance.exercises import operations
from reports.conformance.scorecards import scorecards
from reports.conformance.traps import traps
from reports.data import RunData, prepare
from reports.exhibits import Cell, Table, Topic
from results import scorecard
from results.records import Agreement, Case, Facts, Outcome, Record
from results.store import Run
from tests import sample_run
from tests.pages import Page

CASE = Case("operations", "infer", "gelu", "tiny", "jax_jit", "cpu", "fp32", 1)
TOPICS = ("scorecard", "operations", "autodiff", "control", "traps", "determinism")
LIMIT = 300_000  # bytes of the largest panel


def run_of(records: Iterable[Record]) -> Run:
    return Run("r", Path("r"), {}, tuple(records))


@pytest.fixture(scope="module")
def run() -> Run:
    return run_of(sample_run.exercise_records(hostile=False))


@pytest.fixture(scope="module")
def html(run) -> str:
    return page.render([run])


@pytest.fixture(scope="module")
def data(run) -> RunData:
    return prepare(run)


def panel(html: str, name: str) -> str:
    start = html.index(f'<section class="panel topic" id="{name}"')
    return html[start : html.index("</section>", start)]


def only(topic: Topic | None) -> Table:
    assert topic is not None
    (table,) = topic.tables
    return table


def at(table: Table, row: str, adapter: str) -> Cell:
    place = [column.name for column in table.columns].index(adapter)
    (line,) = [line for line in table.rows if line.name == row]
    return line.cells[place - 1]


def told(cell: Cell) -> tuple[str, ...]:
    """What a cell says before it is opened."""
    first = f"{cell.badge.symbol} {cell.badge.text}" if cell.badge else cell.text
    return first, *cell.small


def compared(case: Case, verdict: str, name: str = "usual", *, reason: str = "") -> Agreement:
    return Agreement(case, "output", name, 0.1, None, None, verdict, "numpy", reason)


def ended(case: Case, status: str = "ok", reason: str = "") -> Outcome:
    return Outcome(case, status, reason or "why" * (status != "ok"), 1.0, "pytest --case x")


# -- the scorecard ---------------------------------------------------------------------------------


def test_the_scorecard_comes_first_and_says_what_the_cards_say(run, html):
    assert html.index('id="scorecard"') < html.index('id="operations"')
    text = Page(panel(html, "scorecard")).text
    for card in scorecard.cards(run.records):
        assert f"{card.score:.1%}" in text
        for name, section in card.sections.items():
            assert f"{section.passed}/{section.total}" in text
            if section.wrong:
                assert f"{card.adapter}, {name}, wrong: {', '.join(section.wrong_items)}" in text
    assert (
        "only a part of the suite was run, without compositions, threads, sizes, integers, "
        "models, model" in text
    )


def test_the_scorecard_tells_wrong_undecided_and_unsupported_apart(data):
    table = only(scorecards(data))
    shown = {line.name: line.cells[1] for line in table.rows}  # after the score: operations
    assert told(shown["tf_graph"]) == ("✗ 4/5", "1 wrong")
    assert told(shown["jax_jit"]) == ("? 4/5", "1 undecided")
    assert told(shown["torch_compile"]) == ("✓ 5/5",)
    assert told(at(table, "onnx_runtime", "Their gradients")) == ("– 0/5", "5 unsupported")
    assert at(table, "torch_eager", "Deviations").text == "1"


def test_a_run_without_conformance_has_no_scorecard():
    case = replace(CASE, suite="performance")
    assert scorecards(prepare(run_of([ended(case)]))) is None
    assert 'id="scorecard"' not in page.render([run_of([ended(case)])])


# -- operations ------------------------------------------------------------------------------------


def test_all_precisions_and_modes_of_an_operation_are_one_cell(data):
    table = only(operations(data))
    assert [row.name for row in table.rows] == sorted(sample_run.OPERATIONS)
    assert [c.name for c in table.columns][:2] == ["Operation", "torch_eager"]
    assert told(at(table, "matmul", "jax_jit")) == ("✓ 4/4 precisions",)


def test_a_cell_shows_the_worst_state_and_where_it_is(data):
    table = only(operations(data))
    assert told(at(table, "conv2d", "tf_graph")) == ("✗ wrong result fp32", "the rest passed")
    assert told(at(table, "take", "tf_xla")) == ("✗ wrong result bf16", "the rest passed")
    assert told(at(table, "take", "jax_jit")) == ("? undecided", "result fp16", "the rest passed")
    assert told(at(table, "gelu", "torch_eager"))[:2] == ("≠ deviation", "result fp32")
    assert told(at(table, "gelu", "onnx_runtime")) == (
        "– unsupported",
        "gradient",
        "the rest passed",
    )


def test_an_opened_cell_says_how_close_each_precision_came_and_why_not_closer(data):
    table = only(operations(data))
    result, gradient = at(table, "matmul", "jax_jit").more
    assert result.startswith("result: fp64 3.10e-16 in usual; fp32 0.530× floor in usual; bf16")
    assert gradient.startswith("gradient: fp64 3.10e-16 in usual: x; fp32 0.530× floor")
    wrong = at(table, "conv2d", "tf_graph")
    assert wrong.more[0] == "✗ wrong result fp32, odd sizes: 3 of 8 elements differ, but none may"
    assert wrong.anchor == "operations/infer/conv2d/tiny/tf_graph/cpu/fp32/b1"
    assert at(table, "take", "tf_xla").more[0].endswith("crashed: the worker died of signal 11")
    assert "known: the vectorised kernel" in at(table, "gelu", "torch_eager").more[0]
    reasons = [x for x in at(table, "take", "onnx_runtime").more if "no gradients" in x]
    assert reasons == ["– unsupported gradient: this adapter computes no gradients"]


def test_a_case_that_is_ok_in_name_only_has_not_passed():
    for verdict, shown in (("divergent", "✗ wrong"), ("mistrusted", "? undecided")):
        records = [compared(CASE, "identical"), compared(CASE, verdict, "odd"), ended(CASE)]
        assert told(at(only(operations(prepare(run_of(records)))), "gelu", "jax_jit")) == (shown,)
    never = prepare(run_of([ended(CASE)]))
    assert told(at(only(operations(never)), "gelu", "jax_jit")) == ("? undecided",)


def test_what_did_not_run_is_not_counted_as_passed():
    wide, other = replace(CASE, precision="fp64"), replace(CASE, adapter="tf_graph")
    records = [x for case in (CASE, wide, other) for x in (compared(case, "bitwise"), ended(case))]
    records.append(compared(other, "unsupported", "odd", reason="unsupported: no such kernel"))
    table = only(operations(prepare(run_of(records))))
    assert told(at(table, "gelu", "jax_jit")) == ("✓ 2/2 precisions",)
    partial = at(table, "gelu", "tf_graph")
    assert told(partial) == ("✓ 1/2 precisions", "1 exercise unsupported", "fp64 not run")
    assert partial.more[0] == "– unsupported odd: no such kernel"


def test_the_panel_of_all_operations_stays_small():
    run = run_of(sample_run.exercise_records(hostile=False, operations=60))
    whole = page.render([run])
    assert len(panel(whole, "operations").encode()) < LIMIT
    assert len(whole.replace(page.get_plotlyjs(), "").encode()) < 2 * LIMIT


def test_exercises_without_a_fault_have_no_row_among_all_cases(run, html):
    shown = Page(html)
    assert "operations/infer/matmul/tiny/jax_jit/cpu/fp32/b1" not in shown.ids
    assert "operations/infer/conv2d/tiny/tf_graph/cpu/fp32/b1" in shown.ids
    assert re.search(r"\d+ cases that agree or are unsupported are", shown.text)
    assert re.search(
        r"onnx_runtime operations 20 this adapter computes no gradients train/", shown.text
    )


# -- what is wrong is shown as wrong ---------------------------------------------------------------


@pytest.mark.parametrize(
    "suite",
    ["operations", "compositions", "threads", "sizes", "integers", "autodiff", "control", "traps"],
)
@pytest.mark.parametrize("status", ["divergent", "failed", "timeout"])
def test_one_wrong_case_is_wrong_in_its_panel_on_the_scorecard_and_below(suite, status):
    model = "trap07_epsilon" if suite == "traps" else "branch"
    good = replace(CASE, suite=suite, model=model)
    bad = replace(good, adapter="tf_graph")
    records: list[Record] = [compared(good, "bitwise"), ended(good)]
    records += [compared(bad, status)] if status == "divergent" else []
    records.append(ended(bad, status, "the first line\nthe second line"))
    html = page.render([run_of(records)])
    assert re.search(r"✗ ?wrong", Page(panel(html, suite)).text)
    assert re.search(r"✗ ?0/1 ?1 wrong", Page(panel(html, "scorecard")).text)
    assert "the first line\nthe second line</td>" in html  # white-space: pre-line
    assert "pytest --case x" in Page(html[html.index('id="not-ok"') :]).text
    fine = page.render([run_of(records[:2])])
    assert "✗" not in Page(panel(fine, suite)).text


def test_failure_lines_are_shown_line_by_line(html):
    below = html[html.index('<section id="not-ok"') :]
    for line in sample_run.DIVERGENCE.splitlines():
        assert f"{line}\n" in below or f"{line}</td>" in below
    assert "test_operations.py::test[infer/conv2d/tiny/tf_graph/cpu/fp32/b1]" in below


# -- control flow ----------------------------------------------------------------------------------


def test_control_flow_counts_input_by_input(data):
    table = only(control_flow(data))
    names = [row.name for row in table.rows]
    inputs = ["first", "other branch", "another shape", "first shape again"]
    assert names == ["branch", "the whole", *inputs]
    assert table.rows[0].heading
    assert [at(table, name, "jax_jit").small for name in inputs] == [
        ("1 / 1 / 0",), ("1 / 1 / 0",), ("2↑ / 2↑ / 0",), ("2 / 2 / 0",),
    ]  # fmt: skip
    assert at(table, "first", "torch_eager").small == ("no counts",)
    assert at(table, "another shape", "torch_compile").small == ("3↑ / 3↑ / 2↑",)
    assert told(at(table, "other branch", "tf_graph"))[0] == "✗ divergent"
    assert told(at(table, "the whole", "onnx_runtime"))[0] == "– unsupported"


def test_counts_that_differ_between_precisions_are_told_apart():
    wide = replace(CASE, suite="control", precision="fp64")
    records = []
    for case, count in ((wide, 1), (replace(wide, precision="fp32"), 2)):
        counts = {"gelu/first": {"traces": count, "compilations": None, "graph_breaks": True}}
        records += [Facts(case, {"counts": counts}), compared(case, "bitwise", "first")]
        records.append(ended(case))
    cell = at(only(control_flow(prepare(run_of(records)))), "first", "jax_jit")
    assert cell.small == ("fp64: 1 / – / –", "fp32: 2 / – / –")


# -- traps -----------------------------------------------------------------------------------------


def test_a_trap_shows_what_is_pinned_each_default_and_the_verdict(data):
    table = only(traps(data))
    assert [row.name for row in table.rows] == [
        "7. Where epsilon is added",
        "19. Decoupled weight decay",
    ]
    assert table.rows[0].detail.startswith("epsilon is 1e-5")
    first = table.rows[0].name
    assert told(at(table, first, "torch_eager")) == ("✓ 2/2 precisions", "default: same")
    assert at(table, first, "torch_eager").more[0] == "default: torch.nn.LayerNorm(8)"
    assert told(at(table, first, "tf_graph"))[1] == "default: differs by 4.20e-03"
    assert told(at(table, first, "onnx_runtime"))[1] == "default: differs by ∞"
    assert told(at(table, first, "jax_jit"))[1] == "default: none"
    assert told(at(table, first, "tf_xla")) == ("✗ wrong fp32", "the rest passed")
    assert told(at(table, first, "torch_compile")) == ("✓ 2/2 precisions",)


def test_a_recipe_belongs_to_the_traps_that_any_adapter_told(data):
    cell = at(only(traps(data)), "19. Decoupled weight decay", "onnx_runtime")
    assert told(cell) == ("– unsupported",)  # it ended before it could tell
    untold = replace(CASE, suite="traps", mode="train", model="mlp", recipe="adamw")
    records = [ended(untold, "crashed")]
    table = only(traps(prepare(run_of(records))))
    assert [row.name for row in table.rows] == ["mlp adamw"]


def test_an_infinite_difference_is_read_from_the_word_that_json_has_for_it():
    case = replace(CASE, suite="traps", model="trap07_epsilon")
    facts = {"trap": 7, "default": {"told": "x", "error": "inf", "same": False}}
    records = [Facts(case, facts), compared(case, "bitwise"), ended(case)]
    table = only(traps(prepare(run_of(records))))
    assert at(table, "7. epsilon", "jax_jit").small == ("default: differs by ∞",)


# -- determinism -----------------------------------------------------------------------------------


def test_determinism_says_what_is_bitwise_and_marks_what_is_not(data):
    table = only(determinism(data))
    assert [row.name for row in table.rows if row.heading] == ["convnet, infer", "convnet, train"]
    infer = replace(table, rows=table.rows[: len(VARIANTS) + 2])
    assert [row.name for row in infer.rows][1:] == ["Verdict", *VARIANTS]
    assert told(at(infer, "Verdict", "jax_jit")) == ("= deterministic",)
    assert told(at(infer, "Verdict", "tf_xla")) == ("≠ NONDETERMINISTIC",)
    assert told(at(infer, "again", "tf_xla")) == ("= bitwise",)
    assert told(at(infer, "process", "tf_xla")) == ("≈ rounding-equal", "1.59× floor")
    assert at(infer, "process", "tf_xla").more == ("41 of 49 tensors differ, most loss",)
    assert told(at(infer, "Verdict", "torch_eager")) == ("= deterministic",)  # threads may matter
    train = replace(table, rows=table.rows[len(VARIANTS) + 2 :])
    assert told(at(train, "Verdict", "onnx_runtime")) == ("– unsupported",)


def test_facts_cannot_call_a_program_deterministic_that_is_not():
    case = replace(CASE, suite="determinism")
    row = Agreement(case, "repeat", "again", 1e-7, 1e-7, 1.0, "rounding-equal", "the first run")
    records = [Facts(case, {"deterministic": True}), row, ended(case)]
    table = only(determinism(prepare(run_of(records))))
    assert told(at(table, "Verdict", "jax_jit")) == ("≠ NONDETERMINISTIC",)


def test_the_variants_are_those_of_the_judge():
    assert VARIANTS == judge_of_repeats.VARIANTS


# -- all of them -----------------------------------------------------------------------------------


def test_every_panel_is_a_table_with_headings_and_words_beside_signs(html):
    shown = Page(html)
    assert shown.problems == []
    for name in TOPICS:
        text = panel(html, name)
        assert text.count('scope="col"') >= 2
        assert '<th scope="row">' in text
        badges = re.findall(r'aria-hidden="true">.*?</span>(.*?)</span>', text)
        assert badges
        assert all(re.search(r"\w", badge) for badge in badges)
        assert f"#{name}" in shown.links


def test_the_same_records_give_the_same_page(run, html):
    assert page.render([run]) == html


def test_states_are_those_of_the_scorecard():
    assert set(attempts.STATES) == {*scorecard.STATES, "deviation"}


def test_facts_of_another_shape_are_left_out():
    records: list[Record] = []
    for suite in ("control", "traps", "determinism"):
        case = replace(CASE, suite=suite)
        for facts in ({"counts": 7, "trap": "7"}, {"counts": {"a": [1]}, "trap": True},
                      {"trap": 7, "default": [], "title": 3, "pinned": None},
                      {"trap": 7, "default": {"error": True, "told": 3}}):  # fmt: skip
            records.append(Facts(case, facts))
        records += [compared(case, "bitwise"), ended(case)]
    assert Page(page.render([run_of(records)])).problems == []
