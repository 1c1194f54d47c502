"""The table of short compositions: `adapters/exercises/compositions.py`, each over sizes around the
vector widths and tiles of processors, and where a known fault needs it over many rows."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np

from adapters.exercise import Call
from numerics.exercises import Exercise

PRECISIONS = ("fp64", "fp32")
#: Just above 2^15, and a multiple of nothing: XLA splits longer loops between threads, from 2^14
#: elements on in float64 and from 2^15 on in float32.
MANY = 2**15 + 13
SEEN = np.tril(np.ones((33, 33)))


@cache
def exercises() -> tuple[Exercise, ...]:
    """All of them."""
    return tuple(
        exercise
        for subject, shapes, options in _TABLE
        for exercise in _of(subject, shapes, **options)
    )


def _of(
    subject: str, shapes: dict[str, Any], *, by: tuple[str, ...] | None = None, **arguments: Any
) -> list[Exercise]:
    digest = hashlib.sha256(subject.encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    inputs = {
        name: shape if isinstance(shape, np.ndarray) else _drawn(rng, name, shape)
        for name, shape in shapes.items()
    }
    floats = tuple(name for name, value in inputs.items() if value.dtype.kind == "f")
    call = Call(f"compositions:{subject}", arguments)
    by = floats if by is None else by
    return [Exercise(subject, "usual", call, inputs, by, precisions=PRECISIONS)]


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers; positive ones for a variance."""
    x = rng.normal(size=shape)
    return np.abs(x) + 0.5 if name == "var" else x


#: (composition, the shapes of its inputs, arguments and by what it is differentiated).
_TABLE: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("squares_of_product", {"w": (3, 3), "x": (MANY, 3)}, {"by": ("w",)}),
    ("product_squares_total", {"w": (3, 5), "x": (MANY, 3)}, {"by": ("w",)}),
    ("product_exp_mean", {"x": (33, 17), "w": (17, 65), "b": (65,)}, {}),
    ("product_largest", {"x": (33, 17), "w": (17, 65), "b": (65,)}, {}),
    ("convolution_scaled",
     {"x": (3, 9, 7, 5), "w": (3, 3, 5, 17), "scale": (17,), "offset": (17,), "mean": (17,),
      "var": (17,)}, {"by": ("x", "w", "scale", "offset")}),
    ("convolution_padded", {"x": (3, 9, 7, 5), "w": (3, 3, 5, 17), "b": (17,)}, {}),
    ("product_transposed", {"a": (17, 33), "b": (17, 9)}, {}),
    ("two_products_of_one", {"x": (33, 17), "v": (17, 33), "w": (17, 33)}, {}),
    ("product_of_three", {"a": (33, 17), "b": (17, 9), "c": (9, 65)}, {}),
    ("transposed_argmax", {"x": (65, 33), "scale": (65,)}, {"by": ()}),
    ("transposed_sums", {"x": (65, 257)}, {}),
    ("slices_joined", {"x": (33, 12)}, {}),
    ("joined_slices", {"x": (9, 17), "y": (9, 17)}, {}),
    ("heads_split_and_merged", {"x": (3, 33, 8), "w": (8, 16)}, {}),
    ("shuffled_pixels", {"x": (3, 9, 17, 4)}, {}),
    ("broadcast_and_reduced", {"x": (33, 9), "y": (65, 9)}, {}),
    ("looked_up_and_summed",
     {"table": (65, 9), "ids": np.arange(33 * 5).reshape(33, 5) * 7 % 65}, {}),
    ("two_reductions", {"x": (65, 257)}, {}),
    ("sum_and_sum_of_squares", {"x": (65, 1025)}, {}),
    ("masked_mean", {"x": (33, 65)}, {}),
    ("reduced_and_subtracted", {"x": (33, 65)}, {}),
    ("layer_norm_by_hand", {"x": (33, 65), "y": (33, 65), "scale": (65,), "offset": (65,)}, {}),
    ("rms_norm_by_hand", {"x": (33, 65), "scale": (65,)}, {}),
    ("batch_norm_by_hand", {"x": (5, 7, 9, 17), "scale": (17,), "offset": (17,)}, {}),
    ("normalised_rows", {"x": (33, 17), "y": (9, 17)}, {}),
    ("softmax_by_hand", {"x": (33, 65)}, {}),
    ("logsumexp_by_hand", {"x": (33, 65)}, {}),
    ("cross_entropy_by_hand", {"x": (33, 17), "labels": np.arange(33) * 5 % 17}, {}),
    ("softmax_of_biased", {"x": (33, 65), "bias": (65,)}, {}),
    ("attention_by_hand",
     {"q": (2, 3, 33, 8), "k": (2, 3, 33, 8), "v": (2, 3, 33, 8), "bias": (33, 33)}, {}),
    ("causal_attention_by_hand",
     {"q": (2, 3, 33, 8), "k": (2, 3, 33, 8), "v": (2, 3, 33, 8)}, {"seen": SEEN.tolist()}),
    ("gelu_by_hand", {"x": (33, 65), "b": (65,)}, {}),
    ("quick_gelu", {"x": (33, 65)}, {}),
    ("hard_swish", {"x": (33, 65)}, {}),
    ("undone", {"x": (33, 65)}, {}),
    ("root_of_square", {"x": (33, 65)}, {}),
    ("squared_distances", {"x": (33, 9), "y": (65, 9)}, {}),
)  # fmt: skip
