"""Traps 35 to 49: optimizers, initial values, chance and numeric conditions."""

from __future__ import annotations

import numpy as np

from adapters.model import weight
from suites.conformance.trap import FLOATS, FP64, SIXTEEN, Maker, Trap


def traps() -> list[Trap]:
    return [*_training_traps(), *_conditions()]


# -- 35 to 43: training ------------------------------------------------------------------------


def _training_traps() -> list[Trap]:
    rows: list[tuple[str, str, str, tuple[str, ...]]] = [
        ("adam_epsilon", "Adam epsilon", "1e-8, outside of the corrected root", ("adam",)),
        ("adamw_decay", "AdamW weight decay", "decoupled, times the learning rate; here 0.01",
         ("adamw",)),
        ("nadam_amsgrad", "NAdam, AMSGrad", "PyTorch's forms", ("nadam", "amsgrad")),
        ("rmsprop", "RMSprop", "smoothing 0.99, epsilon outside of the root",
         ("rmsprop", "rmsprop_momentum")),
        ("learning_rate_dtype", "Keras learning rate", "float64 on the host, as every constant",
         ("sgd",)),
        ("adagrad_accumulator", "Adagrad initial accumulator", "an argument: here 0.01",
         ("adagrad",)),
        ("clip_by_global_norm", "clip by global norm", "no epsilon beside the norm",
         ("sgd_momentum_clip", "adamw_clip")),
        ("adam_bias_correction", "Adam bias correction", "1 - beta^t in float64 on the host",
         ("adam", "adamw_warmup")),
    ]  # fmt: skip
    made = [
        Trap(number, slug, title, pinned, recipes=recipes, single=slug == "adam_bias_correction")
        for number, (slug, title, pinned, recipes) in enumerate(rows, 35)
    ]
    spread = float(np.std(weight(np.random.default_rng(43), 400, 100)))
    made.append(
        Trap(43, "initialisers", "initialisers",
             "weights come from NumPy, the same bytes for all: a layer (400, 100) has this spread",
             recipes=("sgd",), numbers=(spread,))
    )  # fmt: skip
    return made


# -- 44 to 49 ----------------------------------------------------------------------------------

DROPOUT = {
    "scale": "dropout_scale",
    "one seed, one mask": "dropout_again",
    "gradient": "dropout_gradient",
    "rate": "dropout_rate",
    "mean": "dropout_mean",
    "neighbours": "dropout_neighbours",
    "another seed": "dropout_seeds",
}


def _conditions() -> list[Trap]:
    made = []
    make = Maker(44, "dropout")
    # no 0 in it, integers so that sums are exact, and a mean that a wrong scale would move
    values = np.tile([1.0, 2.0, 3.0, -1.0], 2048)
    made.append(make.trap(
        "dropout", "zeros with probability rate, else x / (1 - rate); a seed is a mask",
        *(make(name, f"traps:{body}", {"x": values}, exact=True, precisions=FLOATS, rate=0.75)
          for name, body in DROPOUT.items()),
        numbers=(4.0,),
    ))  # fmt: skip
    make = Maker(45, "float64")
    tiny = {"x": 1.0 + np.array([1.0, -3.0, 5.0, 7.0]) * 2.0**-40}
    made.append(make.trap(
        "JAX x64", "fp64 is float64 throughout, fp32 float32: no dtype is changed silently",
        make("1 + 2^-40", "traps:above_one", tiny, by=("x",), exact=True, precisions=FP64),
    ))  # fmt: skip
    made.append(_tf32())
    made.append(_accumulation())
    make = Maker(48, "naming")
    layers = {"x": make.drawn(3, 4), "fc2": make.drawn(4, 4), "fc10": make.drawn(4, 4)}
    made.append(make.trap(
        "flax module naming", "a parameter is known by its name, in whatever order it was made",
        make("fc2 before fc10", "traps:named_layers", layers, by=tuple(layers)),
    ))  # fmt: skip
    make = Maker(49, "formulas")
    losses = {
        "x": make.drawn(4, 3), "target": make.drawn(4, 3), "labels": np.array([0, 2, 1, 2]),
    }  # fmt: skip
    image = {"x": make.drawn(1, 3, 5, 2), "w": make.drawn(2, 3, 2, 3)}
    made.append(make.trap(
        "Nesterov, dampening; mean or sum; NHWC or NCHW",
        "Nesterov and dampening in PyTorch's form; losses are means; images are NHWC",
        make("means", "traps:reductions", losses, by=("x",)),
        make("layouts", "conv2d", image, by=("x", "w"), padding=1),
        recipes=("sgd_nesterov", "sgd_dampening"), shown="output0",
    ))  # fmt: skip
    return made


def _tf32() -> Trap:
    """Products with powers of two are exact in float32, but TF32 has 11 bits of their factors."""
    make = Maker(46, "tf32")
    fine = 1.0 + np.arange(1, 17).reshape(4, 4) * 2.0**-20
    image = 1.0 + np.arange(1, 33).reshape(1, 4, 4, 2) * 2.0**-20
    kernel = np.zeros((3, 3, 2, 2))
    kernel[0, 1, 0, 0], kernel[2, 0, 1, 1], kernel[1, 1, 1, 0] = 1.0, 2.0, 0.0
    return make.trap(
        "TF32", "fp32 is float32: no factor is rounded to fewer bits",
        make("matmul", "matmul", {"a": fine, "b": np.eye(4)[::-1] * 2.0}, by=("a",), exact=True,
             precisions=FLOATS),
        make("convolution", "conv2d", {"x": image, "w": kernel}, by=("x",), exact=True,
             precisions=FLOATS, padding=1),
        numbers=(24.0, 24.0),
    )  # fmt: skip


def _accumulation() -> Trap:
    """4096 ones: added one by one, bfloat16 stays at 256 and float16 at 2048."""
    make = Maker(47, "accumulation")
    ones = {"a": np.ones((2, 4096)), "b": np.ones((4096, 2))}
    return make.trap(
        "reduced-precision reduction in bf16/fp16 matmul", "sums are accumulated in float32",
        make("4096 ones", "matmul", ones, exact=True, precisions=SIXTEEN),
    )  # fmt: skip
