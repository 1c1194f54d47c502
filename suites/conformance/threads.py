"""The table of threads: operations on tensors that are large enough for kernels to divide them
between threads (PyTorch's elementwise ones do from 2^15 elements on), with two threads. All others
are judged with one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from numerics.exercises import Exercise
from suites.conformance.tables.making import case, labels, shuffled

THREADS = 2
PRECISIONS = ("fp32",)
#: Nothing is a multiple of the other threads' share.
_ELEMENTS = (257, 513)
_PARTS = (257, 257)
_UNARY = ("gelu", "gelu_tanh", "exp", "tanh", "sigmoid", "relu")


@cache
def exercises() -> tuple[Exercise, ...]:
    """All of them; gradients by the first operand alone."""
    return tuple(_all())


def _all() -> Iterator[Exercise]:
    def of(subject: str, tensors: dict, *, by: tuple[str, ...] = ("x",), **arguments) -> Exercise:
        return case(subject, "divided", tensors, by=by, precisions=PRECISIONS, **arguments)

    for op in _UNARY:
        yield of(op, {"x": _ELEMENTS})
    for op in ("add", "divide"):
        b = np.random.default_rng(5).uniform(0.5, 2, _ELEMENTS)
        yield of(op, {"a": _ELEMENTS, "b": b}, by=("a",))
    yield of("matmul", {"a": (193, 257), "b": (257, 131)}, by=("a",))
    yield of("dense", {"x": (193, 257), "w": (257, 131), "b": (131,)}, by=("w",))
    image = {"x": (3, 17, 19, 16)}
    yield of("conv2d", image | {"w": (3, 3, 16, 24), "b": (24,)}, by=("w",), padding=1)
    yield of("max_pool2d", {"x": (3, 33, 35, 17)}, window=2, stride=2)
    yield of("avg_pool2d", {"x": (3, 33, 35, 17)}, window=2, stride=2)
    affine = {"scale": (257,), "offset": (257,)}
    yield of("layer_norm", {"x": _PARTS} | affine, epsilon=1e-5)
    yield of("rms_norm", {"x": _PARTS, "scale": (257,)}, epsilon=1e-5)
    channels = {"scale": (16,), "offset": (16,)}
    yield of("group_norm", {"x": (5, 31, 33, 16)} | channels, groups=4, epsilon=1e-5)
    running = {"mean": (16,), "var": np.linspace(0.5, 2, 16)}
    yield of("batch_norm", {"x": (5, 31, 33, 16)} | channels | running, body="batch_norm_output",
             train=True, momentum=0.1, epsilon=1e-5)  # fmt: skip
    yield of("softmax", {"x": _PARTS})
    yield of("cross_entropy", {"logits": (513, 129), "labels": labels(129, 513)}, by=("logits",))
    for op in ("sum", "mean", "variance", "max"):
        for axis in (0, 1):
            yield case(op, f"divided, axis {axis}", {"x": _ELEMENTS}, axis=axis,
                       precisions=PRECISIONS)  # fmt: skip
    yield of("argmax", {"x": shuffled(*_ELEMENTS)}, by=(), axis=1)
    rows = np.arange(601) * 7 % 257
    yield of("embedding", {"table": (257, 129), "ids": rows}, by=("table",))
    yield of("take", {"x": (257, 129), "indices": rows}, axis=0)
    yield of("transpose", {"x": _ELEMENTS}, axes=[1, 0])
    heads = (2, 35, 4, 17)
    yield of("attention", {"q": heads, "k": heads, "v": heads}, by=("q",))
    state = {"h": (16, 48), "w": (32, 192), "u": (48, 192), "b": (192,)}
    yield of("lstm", {"x": (16, 7, 32), "c": (16, 48)} | state)
    state = {"h": (16, 48), "w": (32, 144), "u": (48, 144), "b": (144,), "b_recurrent": (144,)}
    yield of("gru", {"x": (16, 7, 32)} | state)
