"""The table of differentiation: `adapters/exercises/autodiff.py` with inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from adapters import model as models
from adapters.exercise import Call
from adapters.exercises.autodiff import convnet_logit
from adapters.numpy_reference import NumpyOps
from numerics.exercises import Exercise

PRECISIONS = ("fp64", "fp32")
POINTS = 128  # of the midpoint rule


def _exercise(subject: str, name: str, body: str, **inputs: Any) -> Exercise:
    call = Call(f"autodiff:{body}")
    return Exercise(subject, name, call, inputs, precisions=PRECISIONS)


@cache
def exercises() -> tuple[Exercise, ...]:
    """One subject per thing that differentiation is asked."""
    rng = np.random.default_rng(7)

    def drawn(*shape: int) -> np.ndarray:
        return np.asarray(rng.normal(size=shape))

    net: dict[str, Any] = {"x": drawn(3, 4), "w": drawn(4, 5), "b": drawn(5), "u": drawn(5)}
    vector, edges = drawn(5), np.array([-2.0, -1.0, 0.25, 1.0, 3.0])
    return (
        _exercise("gradient", "every argument", "first_order", **net),
        _exercise("gradient", "one example", "first_order", **{**net, "x": drawn(1, 4)}),
        _exercise("second_order", "norm of a gradient", "second_order", x=vector),
        _exercise("second_order", "full Hessian", "hessian", x=vector),
        _exercise("third_order", "of a quartic", "third_order", x=vector),
        _exercise("hessian_vector", "perceptron", "hessian_vector", **net, v=drawn(4, 5)),
        _exercise("per_example_gradients", "perceptron", "per_example_gradients", **net),
        _exercise("stop_gradient", "product", "stopped", x=vector),
        _exercise("custom_gradient", "straight through", "straight_through", x=edges),
        _exercise("custom_gradient", "uses its input", "custom_uses_input", x=vector),
        _exercise("used_twice", "three uses", "used_twice", x=vector),
        _exercise("unused_parameter", "zero, not missing", "unused", x=vector, w=drawn(2, 3)),
        _exercise("through_branch", "positive", "through_branch", x=np.array([1.0, -0.5, 2.0])),
        _exercise("through_branch", "negative", "through_branch", x=np.array([-1.0, 0.5, -2.0])),
        _exercise("through_loop", "five steps", "through_loop", x=drawn(5, 3), w=drawn(3, 3)),
        _exercise("through_loop", "64 steps", "through_loop", x=drawn(64, 3), w=drawn(3, 3)),
        _exercise("through_loop", "one step", "through_loop", x=drawn(1, 3), w=drawn(3, 3)),
        *_integrated_gradients(),
    )


def _integrated_gradients() -> list[Exercise]:
    """On the convnet in inference and one real digit: the attribution with 4 points, pixel by pixel
    against NumPy; and with 128 points whether it is complete."""
    network = models.get("convnet")
    config = network.config("tiny", 0)
    params, buffers = network.initial(config, np.random.default_rng(0))
    batch = network.example(config, 1)
    p = {name.replace("/", "|"): value for name, value in {**params, **buffers}.items()}
    x, target = batch["x"], int(batch["y"][0])
    inputs = {**p, "x": x}

    def logit(scale: complex) -> np.complexfloating:
        return convnet_logit(NumpyOps(), scale * x, target=target, **p)

    difference = np.real(logit(1.0) - logit(0.0))
    return [
        Exercise(
            "integrated_gradients",
            "4 points",
            Call("autodiff:integrated_gradients", {"steps": 4, "target": target}),
            inputs,
            precisions=PRECISIONS,
        ),
        Exercise(
            "integrated_gradients",
            "completeness",
            Call("autodiff:completeness", {"steps": POINTS, "target": target}),
            inputs,
            precisions=("fp64",),
            bound=_quadrature_error(logit) / abs(difference),
            reference=lambda: {"output": np.asarray(difference)},
        ),
    ]


def _quadrature_error(logit: Callable[[complex], np.complexfloating]) -> float:
    """The midpoint rule's error on a piecewise linear function. It is exact on a cell without a
    kink, and on one with kinks wrong by at most half a cell's width times what the slope jumps: in
    all V / 2n, V the total variation of the slope along the path, sampled 8 times per cell."""
    points = (np.arange(8 * POINTS) + 0.5) / (8 * POINTS)
    slopes = np.array([np.imag(logit(point + 1e-30j)) / 1e-30 for point in points])
    return float(np.abs(np.diff(slopes)).sum() / (2 * POINTS))
