"""Traps 1 to 13: normalisations and images."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerics.exercises import Exercise, coarse
from suites.conformance.trap import FLOATS, FP64, Maker, Tensors, Trap


def traps() -> list[Trap]:
    return [*_normalisations(), *_images()]


# -- 1 to 6 ------------------------------------------------------------------------------------


def _batch(make: Maker, *, scale: float) -> dict[str, np.ndarray]:
    """Input of batch normalisation: 8 values per channel, so that n and n - 1 can be told apart."""
    return {
        "x": make.drawn(2, 2, 2, 3, scale=scale),
        "scale": make.drawn(3, mean=1.0, scale=0.25),
        "offset": make.drawn(3),
        "mean": make.drawn(3, scale=scale),
        "var": coarse(np.array([0.5, 2.0, 1.0]) * scale**2),
    }


def _batch_norm(
    make: Maker, name: str, inputs: Tensors, *, momentum: float = 0.1, **more: Any
) -> list[Exercise]:
    """All three results; and the gradient of the first, as the running values need none."""
    more |= {"momentum": momentum, "epsilon": 1e-5}
    by = ("x", "scale", "offset")
    return [
        make(name, "batch_norm", inputs, **more),
        make(f"{name}, gradient", "batch_norm_output", inputs, by=by, **more),
    ]


def _normalisations() -> list[Trap]:
    made = []
    make = Maker(1, "batch_norm_epsilon")
    small = _batch(make, scale=2.0**-6)
    made.append(make.trap(
        "BatchNorm epsilon", "1e-5 is added to the variance",
        *_batch_norm(make, "inference", small, precisions=FLOATS, train=False),
        *_batch_norm(make, "training", small, precisions=FLOATS, train=True),
        shown="output0",
    ))  # fmt: skip
    make = Maker(2, "batch_norm_momentum")
    made.append(make.trap(
        "BatchNorm momentum", "new = 0.9 old + 0.1 batch for momentum 0.1",
        *_batch_norm(make, "training", _batch(make, scale=1.0), train=True),
        shown="output1",
    ))  # fmt: skip
    make = Maker(3, "batch_norm_running_variance")
    made.append(make.trap(
        "BatchNorm running variance", "the running variance takes the unbiased one, of n - 1",
        *_batch_norm(make, "training", _batch(make, scale=4.0), train=True),
        shown="output2",
    ))  # fmt: skip
    make = Maker(4, "batch_norm_returned_variance")
    made.append(make.trap(
        "TensorFlow fused BatchNorm's returned variance",
        "the batch's variance normalises biased and is returned unbiased",
        *_batch_norm(make, "momentum 1", _batch(make, scale=1.0), train=True, momentum=1.0),
        shown="output2",
    ))  # fmt: skip
    by = ("x", "scale", "offset")
    make = Maker(5, "layer_norm_epsilon")
    rows = {"x": make.drawn(3, 8, scale=2.0**-6), "scale": make.drawn(8), "offset": make.drawn(8)}
    made.append(make.trap(
        "LayerNorm epsilon; RMSNorm", "epsilon is an argument: here 1e-5, of both",
        make("layer norm", "layer_norm", rows, by=by, precisions=FLOATS, epsilon=1e-5),
        make(
            "RMS norm", "rms_norm", {n: rows[n] for n in ("x", "scale")}, by=("x", "scale"),
            precisions=FLOATS, epsilon=1e-5,
        ),
    ))  # fmt: skip
    make = Maker(6, "gelu")
    both = {"x": coarse(np.linspace(-3.0, 3.0, 25))}
    made.append(make.trap(
        "GELU", "x Phi(x) through erf; the tanh approximation has a name of its own",
        make("erf", "gelu", both, by=("x",), precisions=FLOATS),
        make("tanh", "gelu_tanh", both, by=("x",), precisions=FLOATS),
    ))  # fmt: skip
    return made


# -- 7 to 13 -----------------------------------------------------------------------------------


def _images() -> list[Trap]:
    made = []
    make = Maker(7, "same_padding")
    image = {"x": make.drawn(1, 4, 4, 2), "w": make.drawn(3, 3, 2, 3)}
    by = ("x", "w")
    made.append(make.trap(
        "SAME padding, stride 2, even size", "padding is explicit and symmetric",
        make("1 on all sides", "conv2d", image, by=by, stride=2, padding=1),
        make("TensorFlow's (0, 1)", "traps:same_convolution", image, by=by),
    ))  # fmt: skip
    make = Maker(8, "transposed_convolution")
    image = {"x": make.drawn(1, 3, 3, 2), "w": make.drawn(3, 3, 2, 3)}
    made.append(make.trap(
        "transposed convolution", "the adjoint of a convolution: the kernel is not flipped",
        make(
            "stride 2", "conv_transpose2d", image, by=by, stride=2, padding=1, output_padding=1
        ),
    ))  # fmt: skip
    make = Maker(9, "average_pool_border")
    window: dict[str, Any] = {"window": 3, "stride": 1, "padding": 1}
    image = {"x": make.drawn(1, 4, 4, 2, mean=2.0)}
    made.append(make.trap(
        "average pool at a padded border", "an argument says whether padding counts",
        make("counts", "avg_pool2d", image, by=("x",), include_padding=True, **window),
        make("does not", "avg_pool2d", image, by=("x",), include_padding=False, **window),
    ))  # fmt: skip
    for number, slug, title, pinned, old, new, method in (
        (10, "bilinear_down", "bilinear down-sampling", "no antialiasing unless asked for",
         9, 4, "bilinear"),
        (11, "bicubic_coefficient", "bicubic coefficient", "Keys's kernel with -1/2",
         5, 8, "bicubic"),
        (12, "nearest", "nearest resize", "input floor((i + 1/2) old / new)", 5, 3, "nearest"),
    ):  # fmt: skip
        make = Maker(number, slug)
        image = {"x": make.drawn(1, old, old, 2)}
        arguments: dict[str, Any] = {"size": [new, new], "method": method}
        both = [make("plain", "resize", image, by=("x",), exact=method == "nearest", **arguments)]
        if method != "nearest":
            both.append(
                make("antialiased", "resize", {"x": make.drawn(1, 8, 8, 1)}, by=("x",),
                     size=[3, 3], method=method, antialias=True)
            )  # fmt: skip
        made.append(make.trap(title, pinned, *both))
    make = Maker(13, "resize_dtype")
    fine = {"x": make.drawn(1, 4, 4, 1) / 3}  # which float32 rounds
    made.append(make.trap(
        "result type of tf.image.resize", "the result has the input's dtype",
        make("float64", "resize", fine, by=("x",), precisions=FP64,
             size=[6, 6], method="bilinear"),
    ))  # fmt: skip
    return made
