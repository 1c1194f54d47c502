"""Traps 14 to 34: slopes at kinks, selections, losses, recurrence."""

from __future__ import annotations

import numpy as np

from numerics.exercises import coarse
from suites.conformance.trap import ALL, FP64, Maker, Trap


def traps() -> list[Trap]:
    return [*_slopes(), *_elements(), *_losses(), *_recurrences()]


# -- 14 to 23: slopes --------------------------------------------------------------------------


def _slopes() -> list[Trap]:
    made = []
    make = Maker(14, "leaky_relu_slope")
    made.append(make.trap(
        "leaky ReLU slope", "the slope is an argument: here 0.0078125",
        # a power of two, so that every precision has it
        make("2^-7", "leaky_relu", {"x": coarse(np.linspace(-8, 1, 10))}, by=("x",),
             slope=2.0**-7),
    ))  # fmt: skip
    make = Maker(15, "softplus")
    made.append(make.trap(
        "softplus", "log1p(e^x) everywhere: no threshold above which it is linear",
        # the difference to x: a relative error of 1e-5 is 1e-14 of the function, its rounding
        make("above 20", "traps:softplus_above", {"x": np.linspace(20.5, 24.0, 8)},
             by=("x",), precisions=FP64, bound=1e-4),
    ))  # fmt: skip
    make = Maker(16, "maximum_tie")
    pair = {"a": np.array([-1.0, 0.0, 2.0, 3.0, 1.0]), "b": np.array([0.0, 0.0, 2.0, 1.0, 1.0])}
    made.append(make.trap(
        "gradient of maximum(x, constant) at a tie", "each of two equal arguments gets half",
        make("ties", "maximum", pair, by=("a", "b"), exact=True), shown="gradient:a",
    ))  # fmt: skip
    make = Maker(17, "max_zero")
    edge = np.array([-2.0, 0.0, 0.0, 0.0, 3.0])
    made.append(make.trap(
        "gradient of max(x, 0) at 0", "relu 0, maximum 1/2, clip 1",
        make("maximum", "maximum", {"a": edge, "b": np.array(0.0)}, by=("a",), exact=True),
        make("relu", "relu", {"x": edge}, by=("x",), exact=True),
        make("clip", "clip", {"x": edge}, by=("x",), exact=True, low=0.0, high=8.0),
        shown="gradient:a",
    ))  # fmt: skip
    make = Maker(18, "clip_edge")
    made.append(make.trap(
        "gradient of clip at its edge", "1 at both edges",
        make("edges", "clip", {"x": np.array([-2.0, -1.0, 0.5, 1.0, 3.0])}, by=("x",), exact=True,
             low=-1.0, high=1.0),
        shown="gradient:x",
    ))  # fmt: skip
    make = Maker(19, "absolute_at_zero")
    made.append(make.trap(
        "abs'(0), leaky'(0)", "0 of the absolute value, the slope of leaky ReLU",
        make("absolute", "absolute", {"x": edge}, by=("x",), exact=True),
        make("leaky", "leaky_relu", {"x": edge}, by=("x",), exact=True, slope=0.25),
        shown="gradient:x",
    ))  # fmt: skip
    make = Maker(20, "norm_at_zero")
    made.append(make.trap(
        "gradient of a norm at 0", "0",
        make("a row of zeros", "norm", {"x": np.array([[0.0, 0.0], [3.0, 4.0]])}, by=("x",),
             axis=1),
        shown="gradient:x",
    ))  # fmt: skip
    make = Maker(21, "max_pool_tie")
    tied = np.array([[1, 1, 0, 2], [1, 0, 2, 2], [0, 0, 3, 1], [0, 0, 1, 3]], float)
    made.append(make.trap(
        "max pool tie", "the first element in row-major order gets the gradient",
        make("ties", "max_pool2d", {"x": tied.reshape(1, 4, 4, 1)}, by=("x",), exact=True,
             window=2, stride=2),
        shown="gradient:x",
    ))  # fmt: skip
    make = Maker(22, "median_tie")
    made.append(make.trap(
        "median tie gradient", "elements that equal the median share evenly",
        make("three and two", "median",
             {"x": np.array([[1.0, 2.0, 2.0, 2.0, 5.0], [0.0, 3.0, 3.0, 7.0, 1.0]])}, by=("x",)),
        shown="gradient:x",
    ))  # fmt: skip
    make = Maker(23, "argmax_tie")
    made.append(make.trap(
        "argmax tie", "the first index",
        make("ties", "argmax",
             {"x": np.array([[1.0, 3.0, 3.0, 0.0, 3.0], [2.0, 2.0, 2.0, 2.0, 2.0]])}, exact=True,
             axis=1),
    ))  # fmt: skip
    return made


# -- 24 to 29 ----------------------------------------------------------------------------------


def _elements() -> list[Trap]:
    made = []
    make = Maker(24, "gather_out_of_range")
    made.append(make.trap(
        "gather out of range", "an index below 0 or behind the end is clamped",
        make("both sides", "take",
             {"x": make.drawn(4, 3), "indices": np.array([0, -1, 3, 4, 9, -7])}, by=("x",),
             precisions=ALL, axis=0),
    ))  # fmt: skip
    make = Maker(25, "to_int8")
    far = [-1000, -300, -130, -129, -128, -1.75, -0.5, 0.5, 1.75, 127, 128, 129, 200, 300, 1000]
    made.append(make.trap(
        "float to int8 overflow", "rounded towards zero, saturated at -128 and 127",
        make("out of range", "to_int8", {"x": np.array(far, float)}, exact=True),
        # TensorFlow's cast of 32 elements and more is another one
        make("longer", "to_int8", {"x": np.tile(np.array(far, float), 9)}, exact=True),
    ))  # fmt: skip
    make = Maker(26, "integer_division")
    made.append(make.trap(
        "integer division", "rounded towards minus infinity",
        make("signs", "floor_divide",
             {"a": np.array([7, -7, 7, -7, 6, -8]), "b": np.array([2, 2, -2, -2, 3, 3])},
             exact=True),
    ))  # fmt: skip
    make = Maker(27, "variance")
    made.append(make.trap(
        "variance", "a sum divided by n - correction, correction 0 unless asked for",
        make("biased", "variance", {"x": make.drawn(4, 5)}, by=("x",), axis=1),
        make("unbiased", "variance", {"x": make.drawn(4, 5)}, by=("x",), axis=1, correction=1),
    ))  # fmt: skip
    make = Maker(28, "masked_attention")
    mask = np.array([[True, True, False], [False, False, False], [True, True, True]])
    tensors = {name: make.drawn(1, 3, 2, 4) for name in "qkv"}
    made.append(make.trap(
        "attention row masked entirely", "zeros, with gradients 0",
        make("second row", "attention", {**tensors, "mask": mask.reshape(1, 1, 3, 3)},
             by=("q", "k", "v")),
    ))  # fmt: skip
    make = Maker(29, "embedding_padding")
    made.append(make.trap(
        "embedding padding index", "its row is looked up and gets no gradient",
        make("index 1", "embedding",
             {"table": make.drawn(4, 3), "ids": np.array([[1, 2, 1], [0, 1, 3]])}, by=("table",),
             padding_index=1),
        shown="gradient:table",
    ))  # fmt: skip
    return made


# -- 30 to 34 ----------------------------------------------------------------------------------


def _losses() -> list[Trap]:
    made = []
    make = Maker(30, "weighted_cross_entropy")
    labels = np.array([0, 2, 1, 2])
    made.append(make.trap(
        "weighted cross-entropy mean", "divided by the sum of the labels' weights",
        make("weights", "cross_entropy",
             {"logits": make.drawn(4, 3), "labels": labels, "weights": np.array([0.5, 4.0, 2.0])},
             by=("logits",)),
    ))  # fmt: skip
    make = Maker(31, "cross_entropy_on_probabilities")
    made.append(make.trap(
        "cross-entropy on probabilities", "of logits, without clipping probabilities",
        make("far out", "bce_with_logits",
             {"logits": np.array([-120.0, 160.0, -18.0, 24.0]),
              "targets": np.array([1.0, 0.0, 1.0, 0.0])}, by=("logits",)),
    ))  # fmt: skip
    make = Maker(32, "label_smoothing")
    logits = {"logits": make.drawn(4, 3), "labels": labels}
    made.append(make.trap(
        "label smoothing", "mixed with the uniform distribution; ignored labels do not count",
        make("smoothing", "cross_entropy", logits, by=("logits",), smoothing=0.125),
        make("and ignored", "cross_entropy", logits, by=("logits",), smoothing=0.125, ignore=2),
    ))  # fmt: skip
    return made


def _recurrences() -> list[Trap]:
    made = []
    make = Maker(33, "lstm")
    inputs = {
        "x": make.drawn(2, 3, 4), "h": make.drawn(2, 3), "c": make.drawn(2, 3),
        "w": make.drawn(4, 12, scale=0.5), "u": make.drawn(3, 12, scale=0.5), "b": make.drawn(12),
    }  # fmt: skip
    made.append(make.trap(
        "LSTM", "gates i, f, g, o; one bias",
        make("three steps", "lstm", inputs, by=tuple(inputs)), shown="output0",
    ))  # fmt: skip
    make = Maker(34, "gru")
    inputs = {
        "x": make.drawn(2, 3, 4), "h": make.drawn(2, 3), "w": make.drawn(4, 9, scale=0.5),
        "u": make.drawn(3, 9, scale=0.5), "b": make.drawn(9), "b_recurrent": make.drawn(9),
    }  # fmt: skip
    made.append(make.trap(
        "GRU", "gates r, z, n; reset after the product; two biases",
        make("three steps", "gru", inputs, by=tuple(inputs)), shown="output0",
    ))  # fmt: skip
    return made
