"""Several precisions in one run: one order in all sections, comparisons within one of them, and
what a program in mixed precision told of itself."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from adapters import precisions
from reports import badges, conformance, data, mixed, page
from reports.sections import convergence, performance, precision
from results.records import Agreement, Case, Facts, Measurement, Outcome
from results.store import Run
from tests.pages import Page
from tests.sample_run import HOSTILE

CASE = Case("performance", "train", "vit", "small", "torch_eager", "cpu", "fp32", 8)
GOAL = replace(CASE, suite="convergence", size="tiny", batch=32, recipe="adamw_fast")
SCALING = replace(CASE, suite="loss_scaling", model="mlp", size="tiny", batch=2,
                  precision="amp_fp16", recipe="sgd_overflow")  # fmt: skip
MIB = 2.0**20

#: precision -> (examples per second, MiB of a step, error of the output, steps to the target)
TYPICAL = {
    "fp64": (50.0, 80.0, 0.0, 210),
    "fp32": (100.0, 40.0, 3e-7, 200),
    "bf16": (180.0, 20.0, 2e-2, 260),
    "amp_bf16": (150.0, 30.0, 6e-3, 220),
    "amp_fp16": (140.0, 30.0, 8e-4, 210),
    "amp_bf16_native": (155.0, 29.0, 7e-3, 220),
}
POLICY = {"dense": ["bfloat16"], "relu": ["bfloat16", "float32"], "cross_entropy": ["float32"],
          "conv2d": ["bfloat16"]}  # fmt: skip
TRACE = {"scale": [2.0**17] * 40 + [2.0**16] * 20, "good": [0] * 60, "finite": True, "steps": 57,
         "moved": [True] * 30 + [False] * 3 + [True] * 27}  # fmt: skip


def judged(case, error, verdict="rounding-equal"):
    """The output, a gradient that is twice as far off, and one that is rounding noise."""
    rows = [("output", "logits", error, verdict), ("gradient", "fc1/w", 2 * error, verdict),
            ("gradient", "qkv/b", 7.5, "null-gradient")]  # fmt: skip
    for quantity, tensor, far, said in rows:
        yield Agreement(case, quantity, tensor, far, 1e-7, 1.0, said, "consensus")


def timed(case, speed, error=3e-7, *, flags=(), wobble=0.01):
    """A case that ended ok; its rounds lie within `wobble` of `speed`."""
    yield from judged(case, error)
    rounds = tuple(speed * (1 + wobble * (i - 7.5) / 7.5) for i in range(16))
    yield Measurement(case, "throughput", "1/s", rounds, 1, 0, flags)
    yield Outcome(case, "ok", "", 1.0, "pytest")


def remembered(case, peak, error=3e-7, **parts):
    case = replace(case, suite="memory")
    yield from judged(case, error)
    for metric, mebibytes in {"step_peak": peak, **parts}.items():
        yield Measurement(case, f"{metric}_bytes", "B", (mebibytes * MIB,))
    yield Outcome(case, "ok", "", 1.0, "pytest")


def ended(case, status, reason="why", error=None):
    if error is not None:
        yield from judged(case, error, "divergent")
        yield Measurement(case, "throughput", "1/s", (777.0,) * 16)
    yield Outcome(case, status, reason, 1.0, "pytest")


def learnt(case, *ends, status="ok", last=1.0):
    """Curves that reach 1.0 after so many steps; the last one ends at `last`."""
    case = replace(GOAL, adapter=case.adapter, precision=case.precision)
    scores = [1.0] * (len(ends) - 1) + [last]
    curves = [[{"step": 10, "score": 0.1}, {"step": end, "score": score}]
              for end, score in zip(ends, scores, strict=True)]  # fmt: skip
    yield Facts(case, {"convergence": {"score": "accuracy", "target": 1.0, "curves": curves}})
    yield Outcome(case, status, "" if status == "ok" else "never", 1.0, "pytest")


def usual(adapter, names=tuple(TYPICAL), *, faster=1.0):
    """Everything about an adapter in these precisions."""
    for name in names:
        case = replace(CASE, adapter=adapter, precision=name)
        speed, peak, error, steps = TYPICAL[name]
        yield from timed(case, faster * speed, error)
        yield from remembered(case, peak, error, parameter=peak / 4, gradient=peak / 4,
                              optimizer=peak / 2)  # fmt: skip
        yield from learnt(case, steps, steps + 20)


def prepared(*parts) -> data.RunData:
    flat = tuple(record for part in parts for record in part)
    return data.prepare(Run("r", Path("r"), {}, flat))


# -- the order of precisions -----------------------------------------------------------------------


def test_every_precision_of_the_adapters_has_its_place_in_the_order_of_the_page():
    known = [name for name in data.PRECISIONS if name in precisions.PRECISIONS]
    assert known == list(precisions.PRECISIONS), "reports.data.PRECISIONS lacks or misplaces one"


def test_unknown_precisions_come_last_by_name():
    names = ["posit8", "int8_static", "amp_bf16", "fp64", "posit16", "bf16", "fp32"]
    assert sorted(names, key=data.width) == [
        "fp64", "fp32", "bf16", "amp_bf16", "int8_static", "posit16", "posit8",
    ]  # fmt: skip


def test_one_order_in_cases_matrix_sections_and_rows():
    names = ["posit16", "amp_bf16", "bf16", "fp32", "fp64"]
    cases = [replace(CASE, precision=name) for name in names]
    found = prepared(*(timed(case, 100.0) for case in cases))
    wanted = ["fp64", "fp32", "bf16", "amp_bf16", "posit16"]
    assert [view.case.precision for view in found.cases] == wanted
    (matrix,) = conformance.matrices(found)
    assert [block.title for block in matrix.blocks] == [f"train, {n}, small, cpu" for n in wanted]
    assert [panel.title for panel in performance.throughput(found)] == [
        f"vit, train, {name}" for name in wanted
    ]
    (panel,) = precision.precision(found)
    rows = panel.exhibits[0].table.rows
    assert [(row.name, row.heading) for row in rows] == [
        ("torch_eager", True), *((name, False) for name in wanted),
    ]  # fmt: skip
    learners = [list(learnt(case, 100)) for case in cases]  # the first was timed as well
    learners += [[replace(r, case=replace(r.case, suite="time_to_target")) for r in learners[0]]]
    assert [p.title for p in convergence.convergence(prepared(*learners))] == [
        f"vit, train, {name}" for name in wanted
    ]


# -- one precision at a time in the other sections -------------------------------------------------


def test_sections_compare_within_one_precision_and_name_it():
    parts = [
        [*timed(case, speed), *remembered(case, peak)]
        for adapter, more in (("torch_eager", 1.0), ("jax_jit", 2.0))
        for name, speed, peak in (("fp32", 100.0, 40.0), ("bf16", 300.0, 30.0))
        for case, speed, peak in [
            (replace(CASE, adapter=adapter, precision=name), more * speed, more * peak)
        ]
    ]
    found = prepared(*parts)
    for make, column in ((performance.throughput, 2), (performance.memory, 1)):
        panels = make(found)
        assert [panel.title for panel in panels] == ["vit, train, fp32", "vit, train, bf16"]
        for panel in panels:
            (exhibit,) = panel.exhibits
            assert panel.title in exhibit.table.caption
            assert panel.title in exhibit.chart.label
            ratios = {row.name: row.cells[column].text for row in exhibit.table.rows}
            assert ratios == {"torch_eager": "1.00×", "jax_jit": "2.00×"}


def test_memory_shows_the_parts_but_draws_the_peaks_alone():
    found = prepared(remembered(CASE, 40.0, parameter=10.0, gradient=11.0, optimizer=20.0))
    (exhibit,) = performance.memory(found)[0].exhibits
    names = [column.name for column in exhibit.table.columns]
    assert names[1:5] == ["Of one step", "Weights", "Gradients", "Optimizer"]
    assert [cell.text for cell in exhibit.table.rows[0].cells[:4]] == [
        "40.0 MiB", "10.0 MiB", "11.0 MiB", "20.0 MiB",
    ]  # fmt: skip
    assert [trace["name"] for trace in json.loads(exhibit.chart.json)["data"]] == ["of one step"]
    only = [replace(r, metric="parameter_bytes") if isinstance(r, Measurement) else r
            for r in remembered(CASE, 40.0)]  # fmt: skip
    (alone,) = performance.memory(prepared(only))[0].exhibits
    assert alone.chart is None
    assert alone.table.rows[0].cells[0].text == "40.0 MiB"


# -- what mixed precision told of itself -----------------------------------------------------------


def test_a_policy_is_shown_by_dtype():
    case = replace(CASE, precision="amp_bf16")
    facts = [Facts(case, {"threads": 8, "policy": POLICY}), Facts(case, {"policy": POLICY})]
    found = prepared(facts, timed(case, 150.0))
    (view,) = found.cases
    assert view.policies == (
        (("bfloat16", "conv2d, dense"), ("bfloat16, float32", "relu"),
         ("float32", "cross_entropy")),
    )  # fmt: skip
    assert view.configuration == ({"threads": 8},)
    text = Page(page.render([found.run])).text
    assert "Configuration, policy" in text
    assert "bfloat16 conv2d, dense bfloat16, float32 relu float32 cross_entropy" in text


def test_loss_scaling_is_one_line():
    facts = Facts(SCALING, {"loss_scaling": TRACE})
    found = prepared([facts, Outcome(SCALING, "ok", "", 1.0, "pytest")])
    (view,) = found.cases
    assert view.scaled_losses == ("3 of 60 steps left out, scale ended at 65536",)
    assert view.configuration == ()
    assert (view.badge.text, view.badge.tone) == ("as specified", "good")
    text = Page(page.render([found.run])).text
    assert "Loss scaling: 3 of 60 steps left out, scale ended at 65536" in text
    assert "not judged" not in text.partition("How to read this page")[0]
    worse = mixed.loss_scaling(TRACE | {"finite": False})
    assert worse.endswith("scale ended at 65536, parameters ended not finite")


def test_loss_scaling_that_is_wrong_says_so():
    reason = "step 3 was left out: the scale became 2, but should be 1"
    facts = Facts(SCALING, {"loss_scaling": TRACE})
    (view,) = prepared([facts, Outcome(SCALING, "divergent", reason, 1.0, "x")]).cases
    assert view.badge == badges.badge("divergent", "")


STRANGE = (None, True, 7, math.inf, 10**400, "text", [], {}, [[]], [{}], {"dense": None},
           {"dense": "float32"}, {"dense": []}, {"dense": [7]}, {"dense": [["float32"]]},
           {"scale": [], "moved": []}, {"scale": "65536", "moved": "yes"}, {"scale": [1.0]},
           {"scale": [None], "moved": [True]}, {"scale": [10**400], "moved": [True]},
           {"scale": [math.nan], "moved": [True]}, {"scale": [2.0], "moved": [1, 0]},
           {"scale": {"0": 1.0}, "moved": {"0": True}}, *HOSTILE)  # fmt: skip


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: repr(value)[:30])
def test_facts_of_another_shape_stay_in_the_configuration(value):
    facts = {"policy": value, "loss_scaling": value}
    found = prepared([Facts(SCALING, facts), Outcome(SCALING, "ok", "", 1.0, "pytest")])
    (view,) = found.cases
    assert (view.policies, view.scaled_losses) == ((), ())
    assert view.configuration == (facts,)
    assert Page(page.render([found.run])).problems == []
