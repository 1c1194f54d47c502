"""What an author of a backend reads when something about it is wrong."""

import dataclasses

import numpy as np
import pytest

from adapters import base
from adapters.base import Spec, Unsupported
from harness import proof
from harness.client import WorkerFailure
from harness.errors import explained
from harness.verdicts import divergence
from numerics import judge
from numerics.judge import Judgement, Reference
from results.records import Case

CASE = Case("conformance", "train", "mlp", "tiny", "mine", "cpu", "fp32", 8)
SPEC = Spec("mlp", "tiny", "train", "cpu", "fp32", "sgd_momentum", 1)


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_a_transposed_output_is_told_by_its_shapes(precision):
    wanted = np.random.default_rng(0).normal(size=(4, 10))
    reference = Reference({"output": wanted}, "consensus", {"output": 1e-7})
    judged = judge.identity if precision == "fp64" else lambda *a: judge.precision(*a, precision)
    rows = judged({"output": wanted.T}, reference)
    told = divergence(rows, rows)
    assert told.splitlines()[0] == "output output: the shape is (10, 4), but should be (4, 10)"
    assert "inf" not in told


def row(quantity, ratio):
    return Judgement(quantity, "fc1/w", ratio * 1e-7, 1e-7, ratio, "divergent", "consensus")


def test_the_headline_is_where_a_fault_shows_first():
    rows = [row("loss@100", 9e5), row("update@10", 5e3), row("update@1", 30), row("loss@10", 1e3)]
    assert divergence(rows, rows).startswith("update@1 fc1/w: normwise error 3.00e-06")
    rows += [row("gradient", 40), row("gradient", 50)]
    assert "50 times" in divergence(rows, rows).splitlines()[0]


def silent(own):
    """Rows of tensors whose noise floor is 1e-7 in float32 and 1e-2 in bfloat16."""
    rng = np.random.default_rng(0)
    exact = {name: rng.normal(size=1000) for name in own}
    off = {}
    for name, error in own.items():
        noise = rng.normal(size=1000)
        scale = error * np.linalg.norm(exact[name]) / np.linalg.norm(noise)
        off[name] = exact[name] + scale * noise
    reference = Reference(exact, "consensus", dict.fromkeys(own, 1e-7))
    rows = judge.precision(off, reference, "fp32")
    floors = {"bf16": dict.fromkeys(own, 1e-2)}
    return [r.reason for r in judge.silent_precision(off, reference, floors, rows)]


def test_a_coarser_precision_is_named_only_where_no_row_contradicts():
    """A causal mask that is off by one may err as much as bfloat16, but leaves other rows right."""
    assert all("silent bf16" in reason for reason in silent({"output": 1e-2, "gradient:w": 2e-2}))
    assert silent({"output": 1e-2, "gradient:w": 1e-7}) == ["", ""]


def test_one_tensor_does_not_tell_a_coarser_precision_from_a_wrong_formula():
    """Of an inference there is only the output, of several batches. A causal mask that is off by
    one has errors of one size in all of them, which may be that of bfloat16."""
    for names in (("output",), ("output", "output@2", "unseen:output")):
        for reason in silent(dict.fromkeys(names, 1e-2)):
            assert "silent" not in reason
            assert reason.startswith("the error has the size of bf16's rounding")
            assert "does not tell that from a wrong formula" in reason
    assert all("silent bf16" in r for r in silent({"output:a": 1e-2, "output:b": 1e-2}))


def raised(call):
    try:
        call()
    except Exception as error:
        return explained(error, base.Adapter())
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", ["step", "wait", "fetch", "put"])
def test_a_method_that_an_adapter_lacks_is_named(name):
    told = raised(lambda: getattr(base.Program(), name)(None))
    assert told["status"] == "failed"
    assert told["reason"].startswith(f"the adapter has no Program.{name}, which it has to define")


def test_a_missing_state_is_no_missing_kernel():
    told = raised(base.Program().state)
    assert told == {
        "status": "unsupported", "reason": "this adapter does not train: it has no Program.state",
    }  # fmt: skip


def test_a_framework_s_own_missing_kernel_is_still_one():
    def kernel():
        raise NotImplementedError("no such dtype")

    assert raised(kernel)["reason"].startswith("no kernel: ")
    with pytest.raises(Unsupported):
        base.Adapter().function(None, None)


def test_a_fact_that_is_missing_is_no_silent_fallback():
    with pytest.raises(WorkerFailure) as caught:
        proof.require(CASE, {"output_dtype": "float32", "threads": 1}, threads=1)
    assert "lacks parameter_dtypes, device_kind" in caught.value.reason
    assert "silent fallback" not in caught.value.reason
    whole = {"parameter_dtypes": ["float32"], "output_dtype": "float64", "device_kind": "cpu",
             "threads": 1}  # fmt: skip
    with pytest.raises(WorkerFailure, match="silent fallback: the output is float64"):
        proof.require(dataclasses.replace(CASE), whole, threads=1)
