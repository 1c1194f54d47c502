"""The section on precision: what its table says of a case, and that no case is left out of it."""

import math
from dataclasses import replace

import pytest

from reports import page
from reports.sections import precision
from results.records import Agreement, Measurement, Outcome
from tests.pages import Page
from tests.test_reports_mixed import (
    CASE,
    GOAL,
    ended,
    judged,
    learnt,
    prepared,
    remembered,
    timed,
    usual,
)


def shown(*parts):
    """The only panel of the section."""
    (panel,) = precision.precision(prepared(*parts))
    return panel


def results(*parts) -> dict[tuple[str, str], dict]:
    """(adapter, precision) -> {column: cell}"""
    table = shown(*parts).exhibits[0].table
    names = [column.name for column in table.columns[1:]]
    found, adapter = {}, ""
    for row in table.rows:
        adapter = row.name if row.heading else adapter
        if not row.heading:
            found[adapter, row.name] = dict(zip(names, row.cells, strict=True))
    return found


def texts(row) -> dict[str, str]:
    return {name: cell.badge.text if cell.badge else cell.text for name, cell in row.items()}


# -- the table -------------------------------------------------------------------------------------


def test_a_row_has_verdict_speed_memory_errors_and_steps():
    found = results(usual("torch_eager", ("fp32", "amp_bf16")))
    row = found["torch_eager", "amp_bf16"]
    assert texts(row) == {
        "Verdict": "rounding-equal", "Examples/s": "150", "vs fp32": "1.50×",
        "Peak of a step": "30.0 MiB",
        "Weights": "7.50 MiB", "Gradients": "7.50 MiB", "Optimizer": "15.0 MiB",
        "Output error": "6.00e-03", "Largest error": "1.20e-02",
        "Steps to target (tiny, b32)": "230",
    }  # fmt: skip
    assert row["Examples/s"].small == ("149 to 151",)
    assert row["vs fp32"].hint == "150 (149 to 151) over 100 (99.4 to 101)"
    assert row["Peak of a step"].small == ("0.750× fp32",)
    assert row["Peak of a step"].hint == "30.0 MiB over 40.0 MiB"
    assert row["Largest error"].small == ("gradient fc1/w",)
    assert row["Steps to target (tiny, b32)"].small == ("fp32: 210",)
    base = found["torch_eager", "fp32"]
    assert (base["vs fp32"].text, base["Peak of a step"].small) == ("1.00×", ("1.00× fp32",))
    assert base["Steps to target (tiny, b32)"].small == ()


def test_each_adapter_is_compared_with_itself():
    found = results(usual("torch_eager"), usual("jax_jit", faster=3.0))
    for adapter in ("torch_eager", "jax_jit"):
        assert found[adapter, "bf16"]["vs fp32"].text == "1.80×"


def test_activations_follow_from_training_and_inference():
    def both(name, peak):
        case = replace(CASE, precision=name)
        yield from remembered(case, peak)
        yield from remembered(replace(case, mode="infer"), 10.0)

    found = prepared(both("fp32", 40.0), both("bf16", 25.0))
    (training,) = [p for p in precision.precision(found) if p.title == "vit, train"]
    column = [c.name for c in training.exhibits[0].table.columns].index("Activations")
    rows = [row for row in training.exhibits[0].table.rows if not row.heading]
    assert [row.cells[column - 1].text for row in rows] == ["30.0 MiB", "15.0 MiB"]


def test_on_a_device_its_own_memory_is_compared():
    def on_device(name, peak):
        case = replace(CASE, suite="memory", device="cuda", precision=name)
        yield from judged(case, 1e-6)
        for metric, value in (("host_peak_bytes", 900.0), ("device_peak_bytes", peak)):
            yield Measurement(case, metric, "B", (value,))
        yield Outcome(case, "ok", "", 1.0, "pytest")

    row = results(on_device("fp32", 400.0), on_device("bf16", 100.0))["torch_eager", "bf16"]
    peak = row["Peak on the device"]
    assert (peak.text, peak.small) == ("100 B", ("0.250× fp32",))


def test_a_model_in_one_precision_is_not_in_the_section():
    parts = usual("torch_eager", ("fp32",)), usual("jax_jit", ("bf16",))
    assert precision.precision(prepared(*parts)) == []


def test_other_batches_sizes_devices_and_recipes_are_other_panels():
    changes = ({}, {"batch": 16}, {"size": "full"}, {"device": "cuda"}, {"recipe": "adamw"})
    parts = [
        timed(replace(CASE, precision=name, **change), 100.0 + number)
        for number, change in enumerate(changes)
        for name in ("fp32", "bf16")
    ]
    panels = precision.precision(prepared(*parts))
    assert sorted(panel.detail for panel in panels) == [
        "full, cpu, batch 8", "small, cpu, batch 16", "small, cpu, batch 8",
        "small, cpu, batch 8, adamw", "small, cuda, batch 8",
    ]  # fmt: skip
    assert len({panel.anchor for panel in panels}) == len(panels)


# -- what has no figures ---------------------------------------------------------------------------


def test_without_fp32_there_is_a_speed_but_nothing_to_compare_with():
    panel = shown(usual("torch_eager", ("bf16", "amp_bf16")))
    row = results(usual("torch_eager", ("bf16", "amp_bf16")))["torch_eager", "amp_bf16"]
    assert (row["Examples/s"].text, row["vs fp32"].text) == ("150", "–")
    assert (row["Peak of a step"].text, row["Peak of a step"].small) == ("30.0 MiB", ())
    assert row["vs fp32"].hint == "there is no figure in fp32 to compare with"
    assert row["Steps to target (tiny, b32)"].small == ()
    assert panel.exhibits[0].chart is None


@pytest.mark.parametrize("status", ["divergent", "mistrusted"])
def test_a_case_that_is_not_published_has_its_errors_and_no_speed(status):
    bad = ended(replace(CASE, precision="amp_fp16"), status, "gradient fc1/w is off", error=0.3)
    parts = [list(usual("torch_eager", ("fp32", "bf16"))), list(bad)]
    row = results(*parts)["torch_eager", "amp_fp16"]
    assert row["Verdict"].badge.text == status
    assert row["Verdict"].small == ("gradient fc1/w is off",)
    assert row["Verdict"].more == ("performance: gradient fc1/w is off",)
    assert row["Verdict"].anchor == "performance/train/vit/small/torch_eager/cpu/amp_fp16/b8"
    assert (row["Examples/s"].text, row["vs fp32"].text) == ("–", "–")
    assert row["Output error"].text == "3.00e-01"
    found = prepared(*parts)
    assert "777" not in page.render([found.run]).replace(page.get_plotlyjs(), "")


def test_fp32_that_diverges_is_compared_with_by_nobody():
    found = results(
        ended(CASE, "divergent", error=0.3), timed(replace(CASE, precision="bf16"), 9.0)
    )
    assert found["torch_eager", "bf16"]["vs fp32"].text == "–"


@pytest.mark.parametrize("status", ["unsupported", "failed", "out_of_memory", "timeout"])
def test_who_was_not_measured_has_a_row_that_says_why(status):
    reason = "float16 is missing here\nand a second line"
    fate = list(ended(replace(CASE, adapter="onnx_runtime", precision="fp16"), status, reason))
    cells = results(usual("torch_eager"), fate)["onnx_runtime", "fp16"]
    assert cells["Verdict"].badge.text == status.replace("_", " ")
    assert cells["Verdict"].small == ("float16 is missing here",)
    assert cells["Verdict"].more == (f"performance: {reason}",)
    assert {cell.text for name, cell in cells.items() if name != "Verdict"} == {"–"}
    text = Page(page.render([prepared(usual("torch_eager"), fate).run])).text
    assert f"{status.replace('_', ' ')} float16 is missing here" in text


def test_memory_that_ends_otherwise_is_told_beside_the_verdict():
    case = replace(CASE, precision="bf16")
    gone = ended(replace(case, suite="memory"), "out_of_memory", "killed at 12 GiB")
    found = results(timed(CASE, 100.0), remembered(CASE, 40.0), timed(case, 180.0), gone)
    verdict = found["torch_eager", "bf16"]["Verdict"]
    assert (verdict.badge.text, verdict.small) == (
        "rounding-equal", ("memory: out of memory", "killed at 12 GiB"),
    )  # fmt: skip
    assert found["torch_eager", "bf16"]["Peak of a step"].text == "–"
    assert found["torch_eager", "fp32"]["Verdict"].small == ()
    both = [ended(replace(case, suite=suite), "crashed", "signal 11") for suite in
            ("performance", "memory")]  # fmt: skip
    verdict = results(timed(CASE, 100.0), *both)["torch_eager", "bf16"]["Verdict"]
    assert (verdict.badge.text, verdict.small) == ("crashed", ("signal 11",))


def test_every_case_that_is_timed_or_remembered_has_its_row():
    """Whatever became of it, as long as its model has a panel."""
    statuses = ("unsupported", "divergent", "failed", "crashed", "interrupted")
    fates = [
        ended(replace(CASE, suite=suite, adapter=f"{status} {suite}", precision="fp16"), status)
        for status in statuses
        for suite in ("performance", "memory")
    ]
    found = results(usual("torch_eager"), *fates)
    wanted = {(f"{s} {suite}", "fp16"): s for s in statuses for suite in ("performance", "memory")}
    assert {key for key in found if key[0] != "torch_eager"} == set(wanted)
    for key, status in wanted.items():
        assert found[key]["Verdict"].badge.text == status


def test_flags_of_either_figure_mark_a_ratio_and_its_row():
    flagged = timed(CASE, 100.0, flags=("not_steady",))
    found = prepared(flagged, timed(replace(CASE, precision="bf16"), 180.0))
    (panel,) = precision.precision(found)
    _, base, other = panel.exhibits[0].table.rows
    assert [cell.flags for cell in base.cells[1:3]] == [("not steady",), ("not steady",)]
    assert [cell.flags for cell in other.cells[1:3]] == [(), ("not steady",)]
    assert base.flags == other.flags == ("not steady",)


# -- errors ----------------------------------------------------------------------------------------


def test_errors_beside_an_unusable_reference_do_not_count():
    """A gradient that is rounding noise is off by 7.5; a mistrusted row is off by infinity."""
    mistrusted = Agreement(CASE, "loss", "loss", math.inf, None, None, "mistrusted", "none", "flat")
    row = results([mistrusted, *timed(CASE, 100.0)], timed(replace(CASE, precision="bf16"), 1.0))
    assert row["torch_eager", "fp32"]["Largest error"].text == "6.00e-07"


def test_the_worst_of_several_outputs_and_references_counts():
    rows = [Agreement(CASE, "output", name, error, 1e-7, 1.0, "rounding-equal", source)
            for name, error, source in (("boxes", 1e-6, "consensus"), ("scores", 4e-6, "consensus"),
                                        ("scores", 5e-6, "numpy"))]  # fmt: skip
    found = results([*rows, *timed(CASE, 100.0)], timed(replace(CASE, precision="bf16"), 180.0))
    row = found["torch_eager", "fp32"]
    assert row["Output error"].text == row["Largest error"].text == "5.00e-06"
    assert row["Largest error"].small == ("output scores",)


# -- steps to the target ---------------------------------------------------------------------------


def test_who_does_not_arrive_never_does_and_who_cannot_train_says_so():
    lower, least = (replace(CASE, precision=name) for name in ("bf16", "fp16"))
    unsupported = ended(replace(GOAL, precision="fp16"), "unsupported")
    found = results(
        *(timed(case, 100.0) for case in (CASE, lower, least)),
        [*learnt(CASE, 200), *learnt(lower, 400, 800, status="divergent", last=0.5), *unsupported],
    )
    column = "Steps to target (tiny, b32)"
    bf16, fp16 = found["torch_eager", "bf16"][column], found["torch_eager", "fp16"][column]
    assert (bf16.text, bf16.small) == ("never", ("divergent", "fp32: 200"))
    assert (fp16.badge.text, fp16.small) == ("unsupported", ("fp32: 200",))
    assert bf16.anchor == "convergence/train/vit/tiny/torch_eager/cpu/bf16/b32/adamw_fast"


def test_each_way_to_train_has_its_own_column():
    other = [replace(r, case=replace(r.case, batch=64)) for r in learnt(CASE, 90)]
    found = results(
        timed(CASE, 100.0), timed(replace(CASE, precision="bf16"), 1.0), learnt(CASE, 200), other
    )
    row = texts(found["torch_eager", "fp32"])
    assert row["Steps to target (tiny, b32)"] == "200"
    assert row["Steps to target (tiny, b64)"] == "90"


@pytest.mark.parametrize("change", [{"model": "gpt"}, {"device": "cuda"}, {"mode": "infer"}])
def test_training_of_others_is_not_theirs(change):
    other = [replace(r, case=replace(r.case, **change)) for r in learnt(CASE, 200)]
    found = results(timed(CASE, 100.0), timed(replace(CASE, precision="bf16"), 180.0), other)
    assert list(found["torch_eager", "fp32"])[-1] == "Largest error"
