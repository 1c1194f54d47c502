"""Normalisations and losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numerics.exercises import Exercise
from suites.conformance.tables.making import (
    INF,
    NAN,
    WIDE,
    Given,
    case,
    floats,
    integers,
    labels,
)

Tensors = dict[str, Given]
AFFINE = ("scale", "offset")
EPSILON: dict[str, Any] = {"epsilon": 1e-5}
SPOILT = floats([1.0, NAN, 2.0, 3.0], [8.0, 9.0, 10.0, 12.0])


def exercises() -> Iterator[Exercise]:
    yield from _rms_norm()
    yield from _layer_norm()
    yield from _group_norm()
    yield from _batch_norm()
    yield from _cross_entropy()
    yield from _cross_entropy_options()
    yield from _bce_with_logits()
    yield from _mse()
    yield from _smooth_l1()


def _scaled(*shape: int) -> Tensors:
    return {"x": shape, "scale": shape[-1:]}


def _normalised(*shape: int) -> Tensors:
    return {"x": shape, "scale": shape[-1:], "offset": shape[-1:]}


def _rms_norm() -> Iterator[Exercise]:
    op, e = "rms_norm", EPSILON
    yield case(op, "usual", _scaled(3, 4), **e)
    yield case(op, "odd sizes", _scaled(2, 3, 7), **e)
    yield case(op, "batch of 33", _scaled(33, 7), by=(), **e)
    # x / |x| is a sign: the gradient by x is what epsilon leaves of a difference.
    yield case(op, "size one", _scaled(1, 1), by=("scale",), **e)
    yield case(op, "empty", _scaled(0, 4), **e)
    yield case(op, "non-contiguous", _scaled(3, 2, 4), layout="reversed", **e)
    yield case(op, "large reduction", _scaled(2, 4096), by=(), **e)
    yield case(op, "large epsilon", _scaled(3, 4), epsilon=0.1)
    yield case(op, "zeros", _scaled(2, 4) | {"x": np.zeros((2, 4))}, epsilon=0.25)
    yield case(op, "NaN", _scaled(2, 4) | {"x": SPOILT}, by=(), **e)
    far = _scaled(1, 4) | {"x": floats([1e15, -2e15, 3e14, 1e15])}
    yield case(op, "extreme values", far, by=("scale",), precisions=WIDE, **e)


def _layer_norm() -> Iterator[Exercise]:
    op, e = "layer_norm", EPSILON
    yield case(op, "usual", _normalised(3, 4), **e)
    yield case(op, "odd sizes", _normalised(2, 3, 7), **e)
    yield case(op, "batch of 33", _normalised(33, 7), by=(), **e)
    # One number is its own mean: it becomes 0, and all gradients but that by the offset are 0, or
    # what rounding leaves.
    yield case(op, "size one", _normalised(1, 1), by=("offset",), **e)
    yield case(op, "empty", _normalised(0, 4), **e)
    yield case(op, "non-contiguous", _normalised(3, 2, 4), layout="reversed", **e)
    yield case(op, "large reduction", _normalised(2, 4096), by=(), **e)
    yield case(op, "large epsilon", _normalised(3, 4), epsilon=0.1)
    equal = _normalised(2, 4) | {"x": np.full((2, 4), 3.0)}
    yield case(op, "all equal", equal, by=("x", "offset"), epsilon=0.25)
    far = _normalised(1, 4) | {"x": floats([100.0, 101.0, 103.0, 102.0])}
    yield case(op, "far from 0", far, **e)
    yield case(op, "NaN", _normalised(2, 4) | {"x": SPOILT}, by=(), **e)


def _group_norm() -> Iterator[Exercise]:
    op, e = "group_norm", EPSILON
    image = _normalised(2, 3, 2, 4)
    yield case(op, "usual", image, groups=2, **e)
    yield case(op, "one group", image, groups=1, **e)
    yield case(op, "a group for each channel", image, groups=4, **e)
    yield case(op, "odd sizes", _normalised(1, 5, 3, 9), groups=3, **e)
    yield case(op, "no space", _normalised(3, 6), groups=2, **e)
    yield case(op, "batch of 33", _normalised(33, 2, 2, 6), by=(), groups=2, **e)
    yield case(op, "a sequence", _normalised(2, 5, 4), groups=2, **e)
    yield case(op, "size one", _normalised(1, 1, 1, 1), by=("offset",), groups=1, **e)
    yield case(op, "empty", _normalised(0, 3, 2, 4), groups=2, **e)
    yield case(op, "non-contiguous", image, layout="reversed", groups=2, **e)
    yield case(op, "large reduction", _normalised(1, 32, 32, 8), by=(), groups=2, **e)
    yield case(op, "large epsilon", image, groups=2, epsilon=0.1)


def _batch_norm() -> Iterator[Exercise]:
    """The running values take part in no gradient, so only the output is differentiated."""

    def both(name: str, tensors: Tensors, *, train: bool, **given: Any) -> Iterator[Exercise]:
        options = {"train": train, "momentum": 0.1, "epsilon": 1e-5} | given
        mode = "train" if train else "infer"
        yield case("batch_norm", f"{mode}, {name}", tensors, by=(), draw="positive", **options)
        yield case(
            "batch_norm", f"{mode}, {name}, gradient", tensors, body="batch_norm_output",
            by=("x", *AFFINE), draw="positive", **options,
        )  # fmt: skip

    def tensors(*shape: int) -> Tensors:
        return _normalised(*shape) | {"mean": shape[-1:], "var": shape[-1:]}

    def one(name: str, tensors: Tensors, **given: Any) -> Exercise:
        options = {"train": True, "momentum": 0.25, "epsilon": 1e-3} | given
        return case("batch_norm", name, tensors, by=(), draw="positive", **options)

    for train in (True, False):
        yield from both("usual", tensors(2, 3, 2, 3), train=train)
        yield from both("odd sizes", tensors(3, 5, 1, 7), train=train)
        yield from both("no space", tensors(7, 3), train=train, epsilon=0.1)
        yield from both("non-contiguous", tensors(2, 3, 2, 3), train=train, layout="reversed")
    yield one("a sequence", tensors(2, 4, 3))
    yield one("batch of 33", tensors(33, 2, 2, 3))
    yield one("large reduction", tensors(4, 32, 32, 2))
    yield one("momentum 1", tensors(5, 3), momentum=1.0)
    yield one("momentum 0", tensors(5, 3), momentum=0.0)
    yield one("NaN", tensors(2, 4) | {"x": SPOILT})
    yield one("empty", tensors(0, 3), train=False)
    yield one("size one", tensors(1, 1), train=False)


def _logits(n: int, classes: int) -> Tensors:
    return {"logits": (n, classes), "labels": labels(classes, n)}


def _cross_entropy() -> Iterator[Exercise]:
    op = "cross_entropy"
    yield case(op, "usual", _logits(4, 3))
    yield case(op, "odd sizes", _logits(7, 5))
    yield case(op, "one example", _logits(1, 3))
    yield case(op, "batch of 33", _logits(33, 7), by=())
    yield case(op, "size one", _logits(1, 1), by=())  # the loss is 0, and so is its gradient
    yield case(op, "non-contiguous", _logits(4, 3), layout="reversed")
    yield case(op, "large reduction", _logits(2, 4096), by=())
    yield case(op, "all equal", {"logits": np.full((2, 4), 3.0), "labels": integers(0, 3)})
    far = floats([1e4, -1e4, 0.0], [-1e4, -1e4, 1e4], [5e3, 1e4, 1e4])
    wrong = {"logits": far, "labels": integers(1, 2, 0)}
    yield case(op, "extreme values", wrong, precisions=WIDE)
    spoilt = {"logits": floats([1.0, NAN, 2.0], [1.0, 2.0, 3.0]), "labels": integers(0, 1)}
    yield case(op, "NaN", spoilt, by=())
    excluded = {"logits": floats([1.0, -INF, 2.0], [1.0, 2.0, 3.0]), "labels": integers(0, 1)}
    yield case(op, "minus infinity", excluded, by=())
    impossible = {"logits": floats([1.0, -INF, 2.0], [1.0, 2.0, 3.0]), "labels": integers(1, 1)}
    yield case(op, "label of minus infinity", impossible, by=())


def _cross_entropy_options() -> Iterator[Exercise]:
    op, given = "cross_entropy", _logits(5, 4)
    weights = {"weights": floats(0.5, 1.0, 2.0, 0.25)}
    ignored = given | {"labels": integers(2, 0, 3, 0, 1)}
    # Weights are given, not learned: the loss is differentiated by the logits alone.
    by = ("logits",)
    yield case(op, "weights", given | weights, by=by)
    no_weight = {"weights": floats(0.0, 1.0, 2.0, 0.0)}
    yield case(op, "weights of 0", ignored | no_weight, by=by)
    yield case(op, "smoothing", given, smoothing=0.125)
    yield case(op, "smoothing of 1", given, smoothing=1.0)
    yield case(op, "ignored label", ignored, ignore=0)
    yield case(op, "nothing to ignore", ignored | {"labels": integers(2, 1, 3, 1, 1)}, ignore=0)
    outside = given | {"labels": integers(2, -100, 3, -100, 1)}
    yield case(op, "ignored label outside of the classes", outside, ignore=-100)
    yield case(op, "weights and smoothing", given | weights, by=by, smoothing=0.25)
    yield case(op, "weights and ignored label", outside | weights, by=by, ignore=-100)
    yield case(op, "smoothing and ignored label", outside, smoothing=0.25, ignore=-100)
    yield case(
        op, "weights, smoothing, ignored label", outside | weights, by=by,
        smoothing=0.25, ignore=-100,
    )  # fmt: skip


def _bce_with_logits() -> Iterator[Exercise]:
    op, by = "bce_with_logits", ("logits",)
    share = floats([0.0, 1.0, 0.25], [1.0, 0.5, 0.0])
    yield case(op, "usual", {"logits": (2, 3), "targets": share}, by=by)
    yield case(op, "gradient by targets", {"logits": (2, 3), "targets": share})
    odd = (np.arange(35) % 2).astype(np.float64).reshape(5, 7)
    yield case(op, "odd sizes", {"logits": (5, 7), "targets": odd}, by=by)
    yield case(op, "size one", {"logits": (1,), "targets": floats(1.0)}, by=by)
    yield case(op, "non-contiguous", {"logits": (2, 3), "targets": share}, layout="reversed", by=by)
    long = (np.arange(4096) % 3 == 0).astype(np.float64)
    yield case(op, "large reduction", {"logits": (4096,), "targets": long}, by=())
    zeros = {"logits": floats(0.0, -0.0, 0.0), "targets": floats(0.0, 1.0, 0.5)}
    yield case(op, "logits of 0", zeros, by=by)
    far = {"logits": floats(1e4, -1e4, 1e4, -1e4), "targets": floats(0.0, 1.0, 1.0, 0.0)}
    yield case(op, "extreme values", far, by=by, precisions=WIDE)
    sure = {"logits": floats(15.0, -15.0, 30.0), "targets": floats(1.0, 0.0, 1.0)}
    # Smaller than the rounding error of a sum of 1 and something in float32.
    yield case(op, "nearly sure", sure, by=(), precisions=("fp64",))
    yield case(op, "NaN", {"logits": floats(NAN, 1.0), "targets": floats(0.0, 1.0)}, by=())


def _pairs(op: str, **given: Any) -> Iterator[Exercise]:
    yield case(op, "usual", {"x": (3, 4), "target": (3, 4)}, **given)
    yield case(op, "odd sizes", {"x": (5, 7), "target": (5, 7)}, **given)
    yield case(op, "size one", {"x": (1,), "target": (1,)}, **given)
    yield case(op, "scalar", {"x": (), "target": ()}, **given)
    yield case(op, "non-contiguous", {"x": (3, 5), "target": (3, 5)}, layout="reversed", **given)
    yield case(op, "large reduction", {"x": (4096,), "target": (4096,)}, by=(), **given)
    spoilt = {"x": floats(1.0, NAN), "target": floats(0.0, 1.0)}
    yield case(op, "NaN", spoilt, by=(), **given)
    endless = {"x": floats(1.0, INF), "target": floats(0.0, 1.0)}
    yield case(op, "infinity", endless, by=(), **given)
    same = {"x": floats(1.0, -2.0), "target": floats(1.0, -2.0)}
    yield case(op, "no difference", same, exact=True, **given)
    far = {"x": floats(1e15, -1e15, 1e-15), "target": floats(-1e15, 1.0, 0.0)}
    yield case(op, "extreme values", far, precisions=WIDE, **given)


def _mse() -> Iterator[Exercise]:
    yield from _pairs("mse")
    small = {"x": floats(1.0, 2.0, -1.0, 0.0), "target": floats(0.0, -1.0, 1.0, 3.0)}
    yield case("mse", "integers", small, exact=True)


def _smooth_l1() -> Iterator[Exercise]:
    op = "smooth_l1"
    yield from _pairs(op, beta=1.0)
    edge = {"x": floats(1.0, -1.0, 2.0, 0.5, 0.0), "target": np.zeros(5)}
    yield case(op, "at beta", edge, beta=1.0)
    yield case(op, "small beta", {"x": (3, 4), "target": (3, 4)}, beta=0.125)
    yield case(op, "large beta", {"x": (3, 4), "target": (3, 4)}, beta=8.0)
    whole = {"x": floats(1.0, 3.0, -1.0, 0.0), "target": floats(0.0, -1.0, 1.0, 0.5)}
    yield case(op, "dyadic", whole, exact=True, beta=1.0)
