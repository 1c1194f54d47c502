"""Exercises in a worker: together where that works, one by one where it does not."""

import numpy as np
import pytest

from adapters.base import Setting, Unsupported
from adapters.exercise import Call
from adapters.numpy_reference import NumpyOps
from harness import exercising
from harness.errors import explained
from tests.toys import backend

SETTING = Setting("cpu", "fp64", 1)
X = np.array([[1.0, -2.0], [3.0, -4.0]])


class Ops(NumpyOps):
    def gelu(self, x):
        raise Unsupported("no gelu here")

    def exp(self, x):
        raise RuntimeError("exp is broken")


class Adapter(backend.Adapter):
    ops = Ops
    runs = 0

    def function(self, body, setting):
        self.runs += 1
        return super().function(body, setting)


def run(calls, tensors, by=None):
    adapter = Adapter()
    found, failed = exercising.run(
        adapter, calls, by or {}, SETTING, tensors, explain=lambda e: explained(e, adapter)
    )
    return found, failed, adapter.runs


def test_calls_that_work_are_one_program():
    calls = {"a": Call("relu"), "b": Call("transpose", {"axes": [1, 0]})}
    found, failed, runs = run(calls, {"a:x": X, "b:x": X})
    np.testing.assert_array_equal(found["a:output"], np.maximum(X, 0))
    np.testing.assert_array_equal(found["b:output"], X.T)
    assert (failed, runs) == ({}, 1)


def test_what_fails_is_found_and_does_not_take_the_others_along():
    calls = {"a": Call("relu"), "b": Call("gelu"), "c": Call("exp")}
    found, failed, runs = run(calls, {f"{key}:x": X for key in calls})
    assert list(found) == ["a:output"]
    assert failed["b"] == {"status": "unsupported", "reason": "no gelu here"}
    assert failed["c"]["status"] == "failed"
    first, *frames = failed["c"]["reason"].splitlines()
    assert first == "RuntimeError: exp is broken"
    assert frames[-1].startswith("  tests/test_exercising.py:")
    assert frames[-1].endswith('in exp: raise RuntimeError("exp is broken")')
    assert runs == 4


def test_a_missing_kernel_is_unsupported():
    told = explained(NotImplementedError("no such dtype"), Adapter())
    assert told["status"] == "unsupported"
    assert "no kernel" in told["reason"]


def test_inputs_by_number_are_a_sequence_and_strided_ones_are_put_right():
    calls = {"a": Call("concat", {"axis": 0}), "b": Call("relu", views={"x": ("reversed", (2, 3))})}
    found, _, _ = run(calls, {"a:xs/0": X, "a:xs/1": -X, "b:x": X.T.copy()})
    np.testing.assert_array_equal(found["a:output"], np.concatenate([X, -X]))
    np.testing.assert_array_equal(found["b:output"], np.maximum(X, 0))


def test_several_results_have_numbers():
    zeros = np.zeros(2)
    tensors = {"x": X, "scale": zeros, "offset": zeros, "mean": zeros, "var": zeros}
    call = Call("batch_norm", {"train": False, "momentum": 0.1, "epsilon": 0.5})
    found, _, _ = run({"a": call}, {f"a:{n}": v for n, v in tensors.items()})
    assert sorted(found) == ["a:output0", "a:output1", "a:output2"]


def test_gradients_need_an_adapter_that_has_them():
    _, failed, _ = run({"a": Call("relu")}, {"a:x": X, "cotangent:a:output": X}, {"a": ["x"]})
    assert failed["a"]["reason"] == "this adapter computes no gradients"
    _, failed, _ = run({"a": Call("argmax", {"axis": 0})}, {"a:x": X}, {"a": ["x"]})
    assert "nothing to differentiate" in failed["a"]["reason"]


def test_a_body_may_be_a_function_of_a_file():
    found, _, _ = run({"a": Call("control:plain")}, {"a:x": X})
    np.testing.assert_allclose(found["a:output"], np.tanh(X * X))


def test_one_function_sees_several_inputs_in_turn():
    calls = {"a": Call("control:plain"), "b": Call("control:plain")}
    found, counts = exercising.run_in_turn(Adapter(), calls, SETTING, {"a:x": X, "b:x": X[:1]})
    assert found["b:output"].shape == (1, 2)
    assert counts["a"] == {"traces": None, "compilations": None, "graph_breaks": None}


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_results_have_the_precision_s_dtype(precision):
    found, _ = exercising.run(
        Adapter(), {"a": Call("relu")}, {}, Setting("cpu", precision, 1), {"a:x": X}, explain=str
    )
    assert found["a:output"].dtype == {"fp64": np.float64, "fp32": np.float32}[precision]


class Careless(NumpyOps):
    """Its maximum is one over memory that nobody wrote, too."""

    def relu(self, x):
        return super().relu(x) + max(np.empty(2**16, np.float32).max(), 0)


def test_what_differs_over_other_free_memory_comes_beside_the_result():
    adapter = Adapter()
    adapter.ops = Careless
    calls = {"a": Call("relu"), "b": Call("transpose", {"axes": [1, 0]})}
    found, _ = exercising.run(adapter, calls, {}, SETTING, {"a:x": X, "b:x": X}, explain=str)
    np.testing.assert_array_equal(found["a:output"], np.maximum(X, 0))
    assert (found["a:again:output"] > 1e38).all()
    assert not [name for name in found if name.startswith("b:again")]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fault_of_threads_shows_with_several(threads):
    adapter = Adapter()
    adapter.ops = NumpyOps
    found, _ = exercising.run(
        adapter, {"a": Call("gelu")}, {}, Setting("cpu", "fp64", threads), {"a:x": X},
        explain=str, fault="two_threads_gelu",
    )  # fmt: skip
    right = np.array_equal(found["a:output"], NumpyOps().gelu(X))
    assert right == (threads == 1)
