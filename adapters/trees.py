"""What models take and give: one tensor, or a mapping from names to tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

Tree = Any  # a tensor, or {name: tensor}


def part(batch: Mapping[str, Any], name: str) -> Tree:
    """What a batch has as `name`: batch["x"], or of "x/ids" and "x/mask" {"ids": .., "mask": ..}.
    Raises KeyError where it has neither."""
    if name in batch:
        return batch[name]
    found = {n.removeprefix(f"{name}/"): v for n, v in batch.items() if n.startswith(f"{name}/")}
    if not found:
        raise KeyError(f"a batch of {', '.join(batch)} has no {name!r}")
    return found


def over(function: Callable[..., Any], *trees: Tree) -> Tree:
    """function(tensor, ...) of the tensors of trees that are alike, in such a tree."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {name: function(*(tree[name] for tree in trees)) for name in first}
    return function(*trees)


def leaves(tree: Tree) -> list[Any]:
    """The tensors of a tree."""
    return list(tree.values()) if isinstance(tree, Mapping) else [tree]


def named(tree: Tree, name: str) -> dict[str, Any]:
    """{"output": tensor}, or {"output:logits": tensor, ..} of a mapping."""
    if isinstance(tree, Mapping):
        return {f"{name}:{key}": value for key, value in tree.items()}
    return {name: tree}


def unnamed(tensors: Mapping[str, Any], name: str) -> Tree:
    """The tree whose `named` form this is."""
    if name in tensors:
        return tensors[name]
    return {key.removeprefix(f"{name}:"): value for key, value in tensors.items()}


def examples(tree: Tree) -> int:
    """N: the length of the first axis, which all tensors of a batch share."""
    return int(leaves(tree)[0].shape[0])


def split(tree: Tree, parts: int) -> list[Tree]:
    """`parts` equal consecutive parts along the first axis."""
    size = examples(tree) // parts
    return [over(lambda t, i=i: t[i * size : (i + 1) * size], tree) for i in range(parts)]


def dtypes(tree: Tree, name: Callable[[Any], str]) -> str:
    """The name of the dtype that all tensors of an output have, or the names that there are."""
    return ", ".join(sorted({name(tensor.dtype) for tensor in leaves(tree)}))


def in_dtype(value: np.ndarray, dtype: str) -> np.ndarray:
    """Floats in `dtype`, or rounded to bfloat16 in float32, since NumPy has no such dtype; integers
    and booleans as they are."""
    if value.dtype.kind != "f":
        return value
    if dtype == "bfloat16":
        return value.astype(ml_dtypes.bfloat16).astype(np.float32)
    return value.astype(dtype)
