"""The section on a gate: what changed comes first, and nothing is told by colour alone."""

import math
from dataclasses import replace

import pytest

from reports.data import prepare
from reports.page import render
from reports.sections.gate import BADGES, gate
from results.gate import VERDICTS
from results.records import Case, Decision, Measurement, Outcome
from results.store import Run
from tests.sample_run import HOSTILE

CASE = Case("gate", "train", "mlp", "small", "torch_eager", "cpu", "fp32", 64)


def decision(verdict, case=CASE, metric="step_time", **changes):
    told = {"threshold": 0.05, "ratio": 1.1, "low": 1.05, "high": 1.2, "ratios": (1.1,) * 6,
            "seconds": 31.0, "base": "old/bin/python", "reason": "Hodges-Lehmann 1.1"}  # fmt: skip
    return Decision(case, metric, verdict, **{**told, **changes})


def run(*records):
    cases = dict.fromkeys(record.case for record in records)
    outcomes = [Outcome(case, "ok", "", 1.0, "pytest that") for case in cases]
    return Run("run", None, {}, (*records, *outcomes))


def panels(*records):
    return gate(prepare(run(*records)))


def test_what_changed_comes_first_and_every_decision_has_its_row():
    found = [decision(v, replace(CASE, model=f"m{n}")) for n, v in enumerate(reversed(VERDICTS))]
    (panel,) = panels(*found)
    (exhibit,) = panel.exhibits
    assert [row.name.split("/")[1] for row in exhibit.table.rows] == ["m3", "m2", "m1", "m0"]
    assert panel.detail == (
        "1 regressed, 1 improved, 1 unchanged, 1 inconclusive; base: old/bin/python"
    )
    row = exhibit.table.rows[0]
    texts = [cell.badge.text if cell.badge else cell.text for cell in row.cells]
    assert texts == ["regressed", "1.100×", "1.050 to 1.200×", "5%", "6", "31.0 s",
                     "Hodges-Lehmann 1.1"]  # fmt: skip
    assert row.anchor == "gate/train/m3/small/torch_eager/cpu/fp32/b64"
    assert exhibit.chart is not None


def test_the_later_decision_on_a_case_holds():
    (panel,) = panels(decision("regressed"), decision("unchanged", stage=2, ratio=1.0))
    assert [row.cells[0].badge.text for row in panel.exhibits[0].table.rows] == ["unchanged"]


def test_verdicts_and_counts_have_no_chart():
    whole = {"ratio": None, "low": None, "high": None, "ratios": (), "threshold": 0.0}
    found = [decision("regressed", metric="graph_breaks", reason="0 to 1", **whole),
             decision("unchanged", metric="conformance", reason="identical", **whole)]  # fmt: skip
    shown = {panel.title: panel.exhibits[0] for panel in panels(*found)}
    assert list(shown) == ["Verdicts", "Graph breaks"]
    assert all(exhibit.chart is None for exhibit in shown.values())
    assert shown["Graph breaks"].table.rows[0].cells[-1].text == "0 to 1"


def test_badges_differ_in_their_sign():
    assert len({badge.symbol for badge in BADGES.values()}) == len(VERDICTS) == len(BADGES)


def test_canaries_are_no_decisions_and_a_run_without_a_gate_has_no_section():
    assert panels(decision("unchanged", replace(CASE, suite="canary"))) == []
    assert panels() == []
    assert "Gate</a>" not in render([run()])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_decisions_stay_text(text):
    found = decision("regressed", replace(CASE, model=text), reason=text, base=text, high=math.inf)
    page = render([run(found, Measurement(CASE, "slowdown", "1", (1.0,)))])
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "at least 1.050×" in page
