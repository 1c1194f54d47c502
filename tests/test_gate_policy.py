"""What a team can tell a gate, and what it is told when that makes no sense."""

import pytest

from results.policy import GATED, PolicyError, read
from results.records import Case

CASE = Case("gate", "train", "mlp", "small", "torch_eager", "cpu", "fp32", 64)


def policy(tmp_path, text):
    path = tmp_path / "gate.toml"
    path.write_text(text)
    return read(path)


def test_there_are_defaults_for_everything():
    assert {what: read(None).threshold(CASE, what) for what in GATED} == {
        "step_time": 0.05, "latency": 0.05, "memory": 0.02, "cold_start": 0.20, "artifact": 0.01,
        "conformance": 0.0, "counts": 0.0,
    }  # fmt: skip


def test_a_case_comes_before_a_model_and_a_model_before_everything(tmp_path):
    found = policy(
        tmp_path,
        """
        [thresholds]
        step_time = 0.10
        memory = 0.10
        latency = 0.10
        [model.mlp]
        step_time = 0.03
        memory = 0.04
        [model.vit]
        latency = 0.5
        [case."train/mlp/*"]
        step_time = 0.02
        [case."*/fp32/*"]
        step_time = 0.01
        [case."infer/*"]
        step_time = 0.7
        """,
    )
    thresholds = [found.threshold(CASE, what) for what in ("step_time", "memory", "latency")]
    assert thresholds == [0.01, 0.04, 0.10]


def test_false_is_not_gated(tmp_path):
    found = policy(tmp_path, "thresholds.conformance = false\nmodel.mlp.cold_start = false")
    assert found.threshold(CASE, "conformance") is None
    assert found.threshold(CASE, "cold_start") is None
    assert found.threshold(CASE, "counts") == 0.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("thresholds.step_tme = 0.1", "did you mean step_time?"),
        ("threshold.step_time = 0.1", "did you mean thresholds?"),
        ("thresholds.step_time = 0", "should be a share above 0"),
        ("thresholds.step_time = true", "should be a share above 0"),
        ("thresholds.step_time = '5%'", "should be a share above 0"),
        ("thresholds.step_time = inf", "should be a share above 0"),
        ("thresholds.step_time = nan", "should be a share above 0"),
        ("model.vit.counts = 1", "should be false"),
        ("thresholds = 3", "should be a table"),
        ("model = 3", "should be tables like"),
        ("case.x = 3", "should be a table"),
        ("[[", "is not TOML"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path, text, told):
    with pytest.raises(PolicyError, match=told) as caught:
        policy(tmp_path, text)
    assert "gate.toml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        read(tmp_path / "none.toml")
