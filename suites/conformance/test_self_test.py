"""The judge's own trial, with `--self-test`: every planted fault comes out divergent where it was
planted and nowhere else, and what is honest or harmless does not come out divergent at all."""

import numpy as np
import pytest

from adapters.faults import FAULTS
from numerics import judge
from numerics.judge import Reference


def told(problems):
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_every_live_fault_is_caught(findings):
    told([f"{p.fault} ({FAULTS[p.fault].sentence}) in {p.adapter} was missed: {p.movement.tensor} "
          f"moved by {p.movement.error:.1e}. {p.problem}" for p in findings.missed])  # fmt: skip
    assert findings.live


def test_nobody_else_is_accused(findings):
    told([f"{p.fault}, planted in {p.adapter}, made {', '.join(p.accused)} divergent"
          for p in findings.accused])  # fmt: skip


@pytest.mark.parametrize("kind", ["honest", "control"])
def test_there_is_no_false_alarm(findings, kind):
    told([" ".join(run) for run in findings.false_alarms(kind)])
    assert findings.runs(kind)


def test_every_fault_could_be_planted(findings):
    told(list(findings.failures))


def test_a_dead_fault_is_known_to_be_dead(findings):
    told([f"{p.fault} moves nothing in {p.model}: it has to be planted where it does"
          for p in findings.dead if not FAULTS[p.fault].dead])  # fmt: skip


@pytest.mark.parametrize(
    "useless",
    [np.array([np.nan, 1.0]), np.zeros(2), np.ones(2), np.zeros(()), np.zeros(0)],
    ids=["not finite", "zero", "constant", "zero scalar", "empty"],
)
def test_a_useless_reference_is_refused(useless):
    reference, tensors = Reference({"output": useless}, "", {}), {"output": useless}
    found = judge.identity(tensors, reference) + judge.precision(tensors, reference, "fp32")
    assert [row.verdict for row in found] == ["mistrusted"] * 2
