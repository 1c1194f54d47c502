"""Every silent fallback is found and named."""

import pytest

from harness import proof
from harness.client import WorkerFailure
from results.records import Case

CASE = Case("performance", "infer", "mlp", "tiny", "backend", "cpu", "fp32", 4)
RIGHT = {
    "parameter_dtypes": ["float32"],
    "output_dtype": "float32",
    "device_kind": "cpu",
    "threads": 2,
    "compilations": 1,
    "graph_breaks": 0,
    "compiled_share": 1.0,
    "foreign_nodes": {},
}


def test_what_was_asked_is_no_fallback():
    assert proof.fallbacks(CASE, RIGHT, threads=2) == []
    bare = {name: RIGHT[name] for name in proof.REQUIRED} | {"threads": None}
    assert proof.fallbacks(CASE, bare, threads=2) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parameter_dtypes": ["bfloat16", "float32"]}, "parameters are bfloat16, float32, but"),
        ({"parameter_dtypes": []}, "parameters are , but should be float32"),
        ({"output_dtype": "float64"}, "the output is float64, but should be float32"),
        ({"device_kind": "cuda"}, "it ran on cuda, but should run on cpu"),
        ({"threads": 8}, "it had 8 threads, but should have 2"),
        ({"graph_breaks": 3}, "3 graph breaks, but should be none"),
        ({"compiled_share": 0.5}, "50% was compiled, but should be all of it"),
        ({"foreign_nodes": {"CPUExecutionProvider": 4}}, "4 nodes ran on CPUExecutionProvider"),
    ],
)
def test_each_fallback_is_named(changes, told):
    (found,) = proof.fallbacks(CASE, RIGHT | changes, threads=2)
    assert told in found
    with pytest.raises(WorkerFailure, match="silent fallback: ") as caught:
        proof.require(CASE, RIGHT | changes, threads=2)
    assert caught.value.status == "failed"


def test_float32_where_another_precision_was_asked():
    asked = Case("performance", "infer", "mlp", "tiny", "backend", "cpu", "bf16", 4)
    assert len(proof.fallbacks(asked, RIGHT, threads=2)) == 2


def test_facts_that_say_too_little_are_a_failure():
    with pytest.raises(WorkerFailure, match="lacks parameter_dtypes, output_dtype, device_kind"):
        proof.require(CASE, {"threads": 2}, threads=2)


def test_a_retrace_between_two_readings_is_told():
    before = {"compilations": 1, "graph_breaks": 0}
    assert proof.recompiled(before, before) == ""
    assert proof.recompiled({}, before) == ""
    after = {"compilations": 3, "graph_breaks": 0}
    assert proof.recompiled(before, after) == "compilations went from 1 to 3"


QUANTIZED = {
    **RIGHT,
    "parameter_dtypes": ["float32", "int8"],
    "weight_dtypes": {"fc1/w": "int8"},
    "integer_kernels": ["QGemm"],
}
IN_INTEGERS = Case("performance", "infer", "mlp", "tiny", "backend", "cpu", "int8_dynamic", 4)


def test_integers_are_no_fallback():
    assert proof.fallbacks(IN_INTEGERS, QUANTIZED, threads=2) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weight_dtypes": {}}, "no weight is quantized"),
        ({"weight_dtypes": {"fc1/w": "float32"}}, "the weight fc1/w is float32, but should be int"),
        ({"integer_kernels": []}, "no kernel multiplies integers"),
    ],
)
def test_silent_float32_is_found(changes, told):
    (found,) = proof.fallbacks(IN_INTEGERS, QUANTIZED | changes, threads=2)
    assert told in found


def test_weights_alone_may_be_multiplied_as_real_numbers():
    case = Case("performance", "infer", "mlp", "tiny", "backend", "cpu", "int8_weight_only", 4)
    assert proof.fallbacks(case, QUANTIZED | {"integer_kernels": []}, threads=2) == []
