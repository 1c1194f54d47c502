"""Values far from 0, of many scales, all equal, or with one outlier, for whatever subtracts what is
nearly equal or squares: normalisations, variances, norms, softmax and losses.

Far from 0 rounding counts for more, in every algorithm: the noise floor grows with it, because it
is measured on the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numerics.exercises import STEP, Exercise
from suites.conformance.tables.making import WIDE, case

FINE = ("fp64",)
OFFSETS = {"offset 100": 1e2, "offset 1e4": 1e4, "offset 1e6": 1e6}
#: Whose cubes, which gradients have, are in the range of float32, and of float64 alone.
SCALES = {"scale 1e-10": 1e-10, "scale 1e10": 1e10}
EXTREME = {"scale 1e-30": 1e-30, "scale 1e30": 1e30}
#: Rows of the first are normalised; images by their last axis.
ROWS, IMAGES = (9, 17), (5, 3, 3, 7)


def exercises() -> Iterator[Exercise]:
    scaled = {"scale": (ROWS[1],), "offset": (ROWS[1],)}
    yield from _of("layer_norm", "x", ROWS, scaled, epsilon=1e-5)
    yield from _of("rms_norm", "x", ROWS, {"scale": (ROWS[1],)}, epsilon=1e-5)
    channels = (IMAGES[-1],)
    scaled = {"scale": channels, "offset": channels}
    grouped: dict[str, Any] = {"groups": 7, "epsilon": 1e-5}
    yield from _of("group_norm", "x", IMAGES, scaled, **grouped)
    running = scaled | {"mean": channels, "var": channels}
    training: dict[str, Any] = {"train": True, "momentum": 0.1, "epsilon": 1e-5}
    yield from _of("batch_norm", "x", IMAGES, running, by=(), **training)
    # running values are constants to differentiation
    by = ("x", "scale", "offset")
    yield from _of(
        "batch_norm", "x", IMAGES, running, by=by, body="batch_norm_output", end=", gradient",
        **training,
    )  # fmt: skip
    for op in ("variance", "mean", "sum", "norm"):
        yield from _of(op, "x", ROWS, {}, axis=1)
    yield from _of("softmax", "x", ROWS, {})
    labels = {"labels": np.arange(ROWS[0]) * 5 % ROWS[1]}
    yield from _of("cross_entropy", "logits", ROWS, labels)
    yield from _of("mse", "x", ROWS, {}, target="target")
    targets = {"targets": np.linspace(0.0, 1.0, ROWS[0] * ROWS[1]).reshape(ROWS)}
    yield from _of("bce_with_logits", "logits", ROWS, targets, by=("logits",))
    yield from _of("smooth_l1", "x", ROWS, {}, target="target", beta=1.0)


def _of(
    op: str,
    name: str,
    shape: tuple[int, ...],
    others: dict[str, Any],
    target: str = "",
    by: tuple[str, ...] | None = None,
    body: str = "",
    end: str = "",
    **given: Any,
) -> Iterator[Exercise]:
    """Exercises of `op`, or of `body`, by the values of its input `name`; `target` is another like
    it. `by` is what they are differentiated by where that has a meaning, `end` of their names."""
    rng = np.random.default_rng(len(op) + shape[0])
    normal = rng.normal(size=(2, *shape))
    more = {n: _drawn(rng, n, s) if isinstance(s, tuple) else s for n, s in others.items()}

    def exercise(
        what: str, x: np.ndarray, *, differentiable: bool = True,
        precisions: tuple[str, ...] = WIDE,
    ) -> Exercise:  # fmt: skip
        values, beside = x
        tensors = {name: values} | ({target: beside} if target else {}) | more
        return case(
            op, what + end, tensors, by=by if differentiable else (), body=body,
            precisions=precisions, **given,
        )  # fmt: skip

    for what, offset in OFFSETS.items():
        yield exercise(what, normal + offset)
    saturated = op in ("softmax", "cross_entropy")  # where gradients are 0
    for what, scale in (SCALES | EXTREME).items():
        # the complex step of the reference is 2^-100, which is not small beside 1e-30
        curved = op == "norm" and scale < STEP**0.9
        yield exercise(
            what, scale * normal, differentiable=not (curved or (saturated and scale > 1)),
            precisions=FINE if what in EXTREME else WIDE,
        )  # fmt: skip
    if op not in ("variance", "mse", "smooth_l1"):  # which are 0 there
        yield exercise("all equal, far from 0", np.full_like(normal, 12345.0), differentiable=False)
    outlier = normal.copy()
    outlier[0].flat[shape[-1] // 2] = 1e4
    yield exercise("one outlier", outlier, differentiable=not saturated)


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.normal(size=shape)
    return np.abs(x) + 0.5 if name == "var" else x
