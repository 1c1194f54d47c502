"""Exercises from table to verdict, with a toy adapter in a worker."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from adapters.exercise import Call
from harness.examiner import Examiner
from harness.memo import Memo
from harness.pool import Role
from harness.runner import Ended, Runner
from numerics.deviations import Deviation
from numerics.exercises import Exercise, coarse
from results.records import Case


class Records:
    """Keeps records nowhere and shows nothing."""

    def append(self, record):
        pass

    def phase(self, case, phase):
        pass

    def ended(self, outcome, note):
        pass


X = coarse(np.random.default_rng(0).normal(size=(3, 5)))
ONES = np.ones(5)
TABLE = [
    Exercise("relu", "usual", Call("relu"), {"x": X}, ("x",)),
    Exercise("relu", "integers", Call("relu"), {"x": np.rint(X)}, exact=True),
    Exercise(
        "layer_norm", "usual", Call("layer_norm", {"epsilon": 1e-5}),
        {"x": X, "scale": ONES, "offset": ONES},
    ),
]  # fmt: skip


def case(subject, adapter, precision="fp64", mode="infer"):
    return Case("operations", mode, subject, "tiny", adapter, "cpu", precision, 1)


def judged(pool, of, floors=()):
    examiner = Examiner(pool, Memo(None, {}))
    own = [e for e in TABLE if e.subject == of.model and (of.mode == "infer" or e.by)]
    examiner.learn({of: own})
    answers = examiner.answers(of, lambda: pool.client(Role(of.adapter, "judge")))
    return examiner.judge(of, answers, dict(floors))


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_a_right_adapter_is_right(toys, precision):
    rows = judged(toys, case("relu", "backend", precision))
    assert {row.verdict for row in rows} <= {"identical", "bitwise", "rounding-equal"}
    assert [(row.quantity, row.tensor) for row in rows] == [
        ("output", "usual"),
        ("output", "integers"),
    ]


def test_a_wrong_epsilon_is_found(toys):
    (row,) = judged(toys, case("layer_norm", "wrong_epsilon"))
    assert row.verdict == "divergent"
    assert 1e-7 < row.error < 1e-4


def test_what_an_adapter_lacks_is_unsupported_with_its_reason(toys):
    rows = judged(toys, case("relu", "backend", "bf16"))
    assert {row.verdict for row in rows} == {"unsupported"}
    assert rows[0].reason == "unsupported: the toy backend has no 16 bits"
    (row,) = judged(toys, case("relu", "backend", mode="train"))
    assert row.reason == "unsupported: this adapter computes no gradients"


def test_drawn_exercises_are_judged_without_a_table(toys):
    examiner = Examiner(toys, Memo(None, {}))
    of = case("any", "wrong_epsilon")
    client = toys.client(Role("wrong_epsilon", "judge"))
    rows = examiner.once([TABLE[0], TABLE[0]], of, client)
    assert [row.verdict for row in rows] == ["identical", "unsupported"]
    rows = examiner.once([dataclasses.replace(TABLE[2], by=("x",))], of, client)
    assert rows[0].verdict == "divergent"


def test_an_exercise_that_crashes_costs_itself_alone(toys):
    usual, integers = judged(toys, case("relu", "crashes_on_integers"))
    assert (usual.tensor, usual.verdict) == ("usual", "identical")
    assert (integers.tensor, integers.verdict) == ("integers", "divergent")
    assert integers.reason.startswith("crashed: the worker was killed by SIGSEGV")


def test_a_case_of_which_every_divergence_is_a_crash_has_crashed(toys):
    of, records = case("relu", "crashes_on_integers"), Records()
    runner = Runner(toys, records, records)
    runner.referee.examiner.learn({of: [e for e in TABLE if e.subject == "relu"]})
    try:
        with pytest.raises(Ended), runner.case(of, reproduce="") as attempt:
            attempt.examine()
    finally:
        runner.close()
    (outcome,) = runner.outcomes
    assert outcome.status == "crashed"
    assert "output integers: crashed: the worker was killed by SIGSEGV" in outcome.reason


@pytest.mark.parametrize(("framework", "status"), [("toy", "unsupported"), ("torch", "crashed")])
def test_a_case_that_is_known_to_crash_is_told_and_fails_nothing(toys, framework, status):
    of, records = case("relu", "crashes_on_integers"), Records()
    runner = Runner(toys, records, records)
    runner.referee.examiner.learn({of: [TABLE[1]]})
    runner.referee.deviations = [
        Deviation(
            framework, {}, "operations", "*", ("fp64",), ("outcome crashed",), "it aborts", "x"
        )
    ]
    try:
        with pytest.raises(Ended), runner.case(of, reproduce="") as attempt:
            attempt.examine()
    finally:
        runner.close()
    (outcome,) = runner.outcomes
    assert outcome.status == status
    assert "the worker was killed by SIGSEGV" in outcome.reason
    assert outcome.reason.startswith("known: it aborts (x); crashed: ") is (status == "unsupported")


def test_what_runs_a_case_is_known_while_its_worker_is_busy(toys):
    """Every case asks, to know which deviations apply; a worker of models is busy for minutes."""
    records = Records()
    runner = Runner(toys, records, records)
    runner.referee.deviations = [Deviation("toy", {}, "operations", "*", ("fp64",), ("*",), "", "")]
    busy, done = threading.Event(), threading.Event()

    def keep_busy():
        with runner.referee.lanes.worker("backend"):
            busy.set()
            done.wait()

    with ThreadPoolExecutor(2) as threads:
        try:
            threads.submit(keep_busy)
            busy.wait()
            known = threads.submit(runner.referee.explained, case("relu", "backend"), [])
            assert known.result(timeout=60).rows == []
        finally:
            done.set()
    runner.close()
