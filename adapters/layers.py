"""What sequence models share: first of all the transformer's block, multi-head attention and a
perceptron of two layers.

A block is pre-norm (Radford et al. 2019), x + attention(norm(x)), or post-norm (Vaswani et al.
2017), norm(x + attention(x)), and the same again with the perceptron. `attend` is the attention
over (queries, keys, values), so that a model says itself what is masked or remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from adapters.model import Tensors, near, weight
from adapters.ops import Array, Ops

Parameters = Mapping[str, Array]
ROWS = 8  # of a digit of `adapters.data.digit_sequence`, each of 8 pixels
Attend = Callable[[Array, Array, Array], Array]  # queries, keys, values (N, S, heads, D / heads)


def norm_parameters(rng: np.random.Generator, name: str, width: int) -> Tensors:
    return {f"{name}/scale": near(rng, 1, width), f"{name}/offset": near(rng, 0, width)}


def dense_parameters(rng: np.random.Generator, name: str, inputs: int, outputs: int) -> Tensors:
    return {f"{name}/w": weight(rng, inputs, outputs), f"{name}/b": near(rng, 0, outputs)}


def block_parameters(rng: np.random.Generator, name: str, width: int, hidden: int) -> Tensors:
    """Of a block with `hidden` units in its perceptron."""
    return {
        **norm_parameters(rng, f"{name}/norm1", width),
        **dense_parameters(rng, f"{name}/attention/qkv", width, 3 * width),
        **dense_parameters(rng, f"{name}/attention/out", width, width),
        **norm_parameters(rng, f"{name}/norm2", width),
        **dense_parameters(rng, f"{name}/mlp/fc1", width, hidden),
        **dense_parameters(rng, f"{name}/mlp/fc2", hidden, width),
    }


def pre_norm(
    ops: Ops, p: Parameters, name: str, x: Array, *, heads: int, attend: Attend,
    activation: Callable[[Array], Array], epsilon: float,
) -> Array:  # fmt: skip
    """A block over (N, S, D)."""
    h = norm(ops, p, f"{name}/norm1", x, epsilon=epsilon)
    x = ops.add(x, attention(ops, p, f"{name}/attention", h, heads=heads, attend=attend))
    h = norm(ops, p, f"{name}/norm2", x, epsilon=epsilon)
    return ops.add(x, mlp(ops, p, f"{name}/mlp", h, activation=activation))


def post_norm(
    ops: Ops, p: Parameters, name: str, x: Array, *, heads: int, attend: Attend,
    activation: Callable[[Array], Array], epsilon: float,
) -> Array:  # fmt: skip
    """A block over (N, S, D)."""
    h = attention(ops, p, f"{name}/attention", x, heads=heads, attend=attend)
    x = norm(ops, p, f"{name}/norm1", ops.add(x, h), epsilon=epsilon)
    h = mlp(ops, p, f"{name}/mlp", x, activation=activation)
    return norm(ops, p, f"{name}/norm2", ops.add(x, h), epsilon=epsilon)


def attention(ops: Ops, p: Parameters, name: str, x: Array, *, heads: int, attend: Attend) -> Array:
    """Multi-head self-attention over (N, S, D)."""
    n, s, d = ops.shape(x)
    qkv = dense(ops, p, f"{name}/qkv", x)  # (N, S, 3D)
    q, k, v = (
        ops.reshape(
            ops.slice(qkv, axis=2, start=i * d, stop=(i + 1) * d), (n, s, heads, d // heads)
        )
        for i in range(3)
    )
    y = ops.reshape(attend(q, k, v), (n, s, d))  # (N, S, D)
    return dense(ops, p, f"{name}/out", y)


def mlp(
    ops: Ops, p: Parameters, name: str, x: Array, *, activation: Callable[[Array], Array]
) -> Array:
    h = activation(dense(ops, p, f"{name}/fc1", x))  # (N, S, hidden)
    return dense(ops, p, f"{name}/fc2", h)  # (N, S, D)


def norm(ops: Ops, p: Parameters, name: str, x: Array, *, epsilon: float) -> Array:
    return ops.layer_norm(x, p[f"{name}/scale"], p[f"{name}/offset"], epsilon=epsilon)


def dense(ops: Ops, p: Parameters, name: str, x: Array) -> Array:
    return ops.dense(x, p[f"{name}/w"], p[f"{name}/b"])


def rows_at_length(config: Any, length: int) -> Any:
    """`config` for sequences of `length` rows. Raises ValueError for a part of a digit."""
    if length % ROWS or not length:
        raise ValueError(f"{length} rows, but should be a multiple of {ROWS}")
    return replace(config, length=length)
