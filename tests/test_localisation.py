"""The first wrong operation is found, forward and backward."""

import numpy as np
import pytest

from adapters.exercises import capture
from adapters.numpy_reference import NumpyOps
from numerics import determinism, judge
from numerics.judge import Reference
from numerics.localisation import Step, first_wrong


def chain(*outside):
    """dense -> relu -> dense -> loss with (forward, backward) distances."""
    names = ("dense", "relu", "dense", "cross_entropy")
    origins = [["fc1/w"], [0], [1, "fc2/w"], [2]]
    return [Step(n, o, *away) for n, o, away in zip(names, origins, outside, strict=True)]


FINE = (0.1, 0.1)


def test_the_first_operation_outside_whose_inputs_are_inside():
    found = first_wrong(chain(FINE, (5.0, 0.1), (9.0, 0.1), (2.0, 0.1)), {})
    assert found == "operation 1, relu: 5 times what is allowed"


def test_a_backward_pass_is_found_from_the_loss_down():
    found = first_wrong(chain((0.1, 8.0), (0.1, 7.0), FINE, FINE), {"fc1/w": 9.0})
    assert found.startswith("the gradient through operation 2, dense by its input 1, relu: 7")


def test_a_parameter_s_gradient_alone_is_found():
    found = first_wrong(chain(FINE, FINE, FINE, FINE), {"fc1/w": 0.2, "fc2/w": 3.0})
    assert found.startswith("the gradient of operation 2, dense by its parameter fc2/w: 3")


def test_nothing_wrong_is_nothing():
    assert first_wrong(chain(FINE, FINE, FINE, FINE), {"fc1/w": 0.2}) is None
    inference = [Step("dense", [], 0.5, None)]
    assert first_wrong(inference, {}) is None


@pytest.fixture
def mlp():
    from adapters import model as models

    network = models.get("mlp")
    config = network.config("tiny", 0)
    params, _ = network.initial(config, np.random.default_rng(0))
    batch = network.example(config, 4)
    return {n.replace("/", "|"): v for n, v in params.items()}, batch


ARGUMENTS = {"model": "mlp", "size": "tiny", "length": 0, "mode": "train"}


def test_capturing_returns_every_operation_and_where_it_came_from(mlp):
    params, batch = mlp
    found = capture.capture(NumpyOps(), x=batch["x"], y=batch["y"], **params, **ARGUMENTS)
    assert found.names == ["reshape", "dense", "relu", "dense", "cross_entropy"]
    assert found.origins[1] == [0, "fc1/w", "fc1/b"]
    assert found.origins[4] == [3]
    np.testing.assert_array_equal(found.results[2], np.maximum(found.results[1], 0))


def test_a_tap_moves_everything_behind_it(mlp):
    params, batch = mlp
    tap = {"tap2": np.ones((4, 32))}
    plain = capture.captured(NumpyOps(), x=batch["x"], y=batch["y"], **params, **ARGUMENTS)
    moved = capture.captured(NumpyOps(), x=batch["x"], y=batch["y"], **params, **tap, **ARGUMENTS)
    assert [np.array_equal(a, b) for a, b in zip(plain, moved, strict=True)] == [
        True, True, False, False, False,
    ]  # fmt: skip


# -- what else explains a divergence -----------------------------------------------------------


def reference():
    rng = np.random.default_rng(0)
    return {f"gradient:{name}": rng.normal(size=200) for name in "abc"}


def precision(tensors, floors):
    found = Reference(reference(), "r", dict.fromkeys(reference(), 1e-7))
    rows = judge.precision(tensors, found, "fp32")
    return [row.reason for row in judge.silent_precision(tensors, found, floors, rows)]


FLOORS = {
    "tf32": dict.fromkeys(reference(), 3e-4),
    "bf16": dict.fromkeys(reference(), 4e-3),
}


@pytest.mark.parametrize(("size", "named"), [(4e-4, "silent tf32"), (3e-3, "silent bf16")])
def test_errors_of_a_coarser_precision_s_size_are_called_by_its_name(size, named):
    rng = np.random.default_rng(1)
    tensors = {n: v * (1 + size * rng.normal(size=v.shape)) for n, v in reference().items()}
    assert all(reason.startswith(named) for reason in precision(tensors, FLOORS))


@pytest.mark.parametrize("size", [5e-6, 0.3])
def test_a_wrong_formula_is_no_silent_precision(size):
    tensors = {n: v * (1 + size) for n, v in reference().items()}
    assert precision(tensors, FLOORS) == [""] * 3


def test_one_tensor_far_away_is_no_silent_precision():
    tensors = {n: v * (1 + 4e-4) for n, v in reference().items()}
    tensors["gradient:a"] = -tensors["gradient:a"]
    assert precision(tensors, FLOORS) == [""] * 3


# -- determinism -----------------------------------------------------------------------------------


def test_repetitions_are_bitwise_or_judged_by_the_floor():
    first = {"output": np.array([1.0, 2.0], np.float32)}

    def of(factor):
        again = {"output": first["output"] * np.float32(factor)}
        return determinism.row("process", again, first, {"output": 1e-6})

    assert of(1).verdict == "bitwise"
    assert of(1 + 2e-6).verdict == "rounding-equal"
    assert of(1 + 1e-4).verdict == "divergent"
    assert "1 of 1 tensors differ, most output" in of(1 + 2e-6).reason
    assert not determinism.is_deterministic({"again": of(1), "process": of(1 + 2e-6)})
    assert determinism.is_deterministic({"again": of(1), "threads": of(1 + 2e-6)})
