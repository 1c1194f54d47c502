"""A scorecard counts what the records say, and nothing wrong passes."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from results import scorecard
from results.records import Agreement, Case, Facts, Outcome
from results.store import Run


def case(suite="operations", mode="infer", model="relu", adapter="mine", precision="fp32", **more):
    return Case(suite, mode, model, "tiny", adapter, "cpu", precision, 1, **more)


def outcome(of, status="ok"):
    return Outcome(of, status, "" if status == "ok" else "because", 1.0, "pytest")


def agreement(of, verdict, quantity="output"):
    return Agreement(of, quantity, "t", math.inf, None, None, verdict, "numpy")


def written(cards, records=(), **environment):
    """What `scorecard.json` of a run holds."""
    return json.loads(scorecard.to_json(cards, Run("r", Path("r"), environment, tuple(records))))


def section(records, name):
    (card,) = scorecard.cards(records)
    return card.sections[name]


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        (("ok", "ok"), "passed"),
        (("ok", "unsupported"), "passed"),
        (("unsupported", "unsupported"), "unsupported"),
        (("ok", "divergent"), "wrong"),
        (("ok", "crashed"), "wrong"),
        (("unsupported", "timeout"), "wrong"),
        (("ok", "out_of_memory"), "wrong"),
        (("ok", "failed"), "wrong"),
        (("ok", "mistrusted"), "undecided"),
        (("ok", "interrupted"), "undecided"),
        (("mistrusted", "divergent"), "wrong"),
    ],
)
def test_an_operation_is_as_good_as_its_worst_precision(statuses, state):
    records = [
        outcome(case(precision=p), s) for p, s in zip(("fp64", "fp32"), statuses, strict=True)
    ]
    found = section(records, "operations")
    assert getattr(found, state) == found.total == 1
    assert found.wrong_items == (("relu",) if state == "wrong" else ())


def test_gradients_and_training_are_told_apart_by_their_comparisons():
    trained = case("conformance", "train", "mlp", recipe="adam")
    for quantity, gradients, training in (("gradient", "wrong", "passed"),
                                          ("update@10", "passed", "wrong")):  # fmt: skip
        records = [agreement(trained, "divergent", quantity), outcome(trained, "divergent")]
        assert getattr(section(records, "model gradients"), gradients) == 1
        assert getattr(section(records, "training"), training) == 1


def test_deviations_are_counted_and_pass():
    records = [agreement(case(), "deviation"), outcome(case())]
    (card,) = scorecard.cards(records)
    assert (card.deviations, card.passed, card.score) == (1, 1, 1.0)


def test_adapters_are_counted_apart_and_measurements_not_at_all():
    records = [
        outcome(case(adapter="a")),
        outcome(case(adapter="b"), "divergent"),
        outcome(case("latency", model="mlp", adapter="c")),
    ]
    assert [(card.adapter, card.score) for card in scorecard.cards(records)] == [
        ("a", 1.0),
        ("b", 0.0),
    ]


def test_the_table_names_what_is_wrong():
    lines = scorecard.table(
        scorecard.cards([outcome(case()), outcome(case(model="gelu"), "divergent")])
    )
    assert lines[2].split() == ["mine", "1/0/1", "50.0%"]
    assert lines[3] == "mine, operations, wrong: gelu"
    assert scorecard.table([]) == []


def test_json_and_badge_say_the_same_and_escape_names():
    (card,) = scorecard.cards([outcome(case(adapter='<b>"&'))])
    assert written([card])["adapters"]['<b>"&']["passed"] == 1
    picture = ElementTree.fromstring(scorecard.badge(card))
    assert picture.attrib["aria-label"] == '<b>"&: 1 of 1 passed, 0 wrong'
    assert "100.0% of a part" in scorecard.badge(card)


def test_json_says_what_the_scores_are_true_of():
    """Kernels are right on one processor and wrong on another, and so are releases."""
    cpu = {"model": "EPYC", "vendor": "AuthenticAMD", "architecture": "x86_64", "cores": 8,
           "instruction_sets": ["avx2", "avx512_bf16"], "governor": "performance"}  # fmt: skip
    records = [
        Facts(case(), {"ran_on": {"host": "far", "id": "b"}, "versions": {"torch": "2.13.0"}}),
        outcome(case()),
    ]
    found = written(
        scorecard.cards(records), records, cpu=cpu, isa="avx2", threads=2, python="3.11.7",
        fingerprint={"id": "a"}, versions={"numpy": "2.4.6"}, started="2026-11-21",
    )  # fmt: skip
    machine = found["machine"]
    assert machine["processor"] == {name: cpu[name] for name in scorecard.PROCESSOR}
    assert [machine[name] for name in ("id", "isa", "threads")] == ["a", "avx2", 2]
    assert machine["also_ran_on"] == ["far b"]
    assert found["versions"] == {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"}
    assert (found["run"], found["started"]) == ("r", "2026-11-21")
    assert found["adapters"]["mine"]["total"] == 1


@pytest.mark.parametrize("environment", [{}, {"cpu": "8086", "fingerprint": "x", "versions": 3}])
def test_json_of_a_run_that_does_not_know_its_machine_says_so(environment):
    found = written(scorecard.cards([outcome(case())]), **environment)
    assert found["machine"]["id"] == ""
    assert set(found["machine"]["processor"].values()) == {None}


def test_a_quantized_precision_is_as_good_as_its_worst_model():
    """What the others are compared with is no item."""
    ends = {("mlp", "fp32"): "ok",
            ("mlp", "int8_static"): "ok", ("vit", "int8_static"): "divergent",
            ("mlp", "int8_dynamic"): "ok", ("vit", "int8_dynamic"): "unsupported",
            ("mlp", "int8_qat"): "unsupported"}  # fmt: skip
    records = [
        outcome(case("quantization", model=model, precision=precision), status)
        for (model, precision), status in ends.items()
    ]
    found = section(records, "quantization")
    assert (found.passed, found.wrong, found.unsupported, found.total) == (1, 1, 1, 3)
    assert found.wrong_items == ("int8_static",)


def test_a_badge_of_everything_is_not_of_a_part():
    suites = [
        ("operations", "infer"), ("operations", "train"), ("conformance", "infer"),
        ("conformance", "train"), ("autodiff", "infer"), ("control", "infer"),
        ("traps", "infer"), ("determinism", "infer"), ("convergence", "train"),
        ("travel", "train"), ("precision", "train"), ("compositions", "infer"), ("sizes", "infer"),
        ("threads", "infer"), ("integers", "infer"),
    ]  # fmt: skip
    ran = [case(suite, mode) for suite, mode in suites]
    ran.append(case("quantization", precision="int8_static"))
    (card,) = scorecard.cards(map(outcome, ran))
    assert card.complete
    assert "of a part" not in scorecard.badge(card)
