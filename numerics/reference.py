"""What NumPy alone can say about a case: the forward pass, slopes of the loss, the first update.

No framework and no automatic differentiation is involved. A slope is the derivative of the loss
along a random direction v, by the complex step (Squire and Trapp 1998): Im L(p + i h v) / h with
h = 1e-30, exact to rounding. A small model has one direction per parameter; a larger one, where
each costs a forward pass of seconds, has one through all of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adapters import model as models
from adapters.numpy_optimizers import first_update
from adapters.numpy_reference import NumpyOps
from adapters.ops import Ops
from adapters.training import RECIPES

Tensors = Mapping[str, np.ndarray]
STEP = 1e-30
PER_PARAMETER = 20_000  # elements of a model up to which every parameter has a slope of its own


@dataclass(frozen=True)
class NumpyReference:
    """`tensors` are those of a judged program that NumPy can compute; `slopes` maps groups of
    parameters to the derivative of the loss along their directions together."""

    tensors: Tensors
    slopes: Mapping[tuple[str, ...], float]


def forward_pass(
    model: str,
    size: str,
    params: Tensors,
    buffers: Tensors,
    x: np.ndarray,
    *,
    ops: Ops,
    length: int = 0,
) -> Tensors:
    """The tensors of an inference, computed by `ops` over NumPy arrays."""
    network = models.get(model)
    config = network.config(size, length)
    return {"output": network.forward(ops, {**buffers, **params}, x, config=config, train=False)[0]}


def compute(
    model: str,
    size: str,
    mode: str,
    params: Tensors,
    buffers: Tensors,
    batch: Tensors,
    *,
    length: int = 0,
    recipe: str = "",
) -> NumpyReference:
    """The reference of one case, in float64. `recipe` empty: one that does not accumulate."""
    network, ops = models.get(model), NumpyOps()
    config = network.config(size, length)
    parts = RECIPES[recipe].accumulation if recipe else 1

    def forward(p: Tensors) -> tuple[np.ndarray, np.ndarray, Tensors]:
        """(loss, output, updated buffers), micro-batch by micro-batch."""
        losses, outputs, state = [], [], buffers
        for x, y in zip(*(np.split(batch[name], parts) for name in ("x", "y")), strict=True):
            output, new = network.forward(ops, {**state, **p}, x, config=config, train=True)
            losses.append(ops.cross_entropy(output, y))
            outputs.append(output)
            state = {**state, **new}
        return np.asarray(np.mean(losses)), np.concatenate(outputs), state

    if mode != "train":
        x = batch["x"]
        tensors = forward_pass(model, size, params, buffers, x, ops=ops, length=length)
        return NumpyReference(tensors, {})
    loss, output, new_buffers = forward(params)
    tensors = {"output": output, "loss": loss, "loss@1": loss}
    tensors |= {f"buffer@1:{name}": value for name, value in new_buffers.items()}
    slopes = {}
    for group in _groups(params):
        moved = {n: params[n] + 1j * STEP * direction(n, params[n].shape) for n in group}
        slopes[group] = float(np.imag(forward({**params, **moved})[0]) / STEP)
    return NumpyReference(tensors, slopes)


def _groups(params: Tensors) -> list[tuple[str, ...]]:
    if sum(value.size for value in params.values()) > PER_PARAMETER:
        return [tuple(params)]
    return [(name,) for name in params]


def direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A random direction that depends on the name and shape alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=shape)


def slope_error(gradients: Tensors, slope: float) -> float:
    """|<g, v> - slope| relative to ||g||, which is the size that <g, v> has for a random v
    with independent standard normal entries; g is all `gradients` together."""
    exact = {name: g.astype(np.float64) for name, g in gradients.items()}
    projected = float(sum(np.sum(g * direction(name, g.shape)) for name, g in exact.items()))
    norm = math.sqrt(sum(float(np.sum(g * g)) for g in exact.values()))
    if not math.isfinite(projected):
        return math.inf
    if norm == 0:
        return 0.0 if slope == 0 else math.inf
    return abs(projected - slope) / norm


def update_from(recipe: str, params: Tensors, tensors: Tensors) -> dict[str, np.ndarray]:
    """`update@1:` tensors that the recipe's formula gives for the gradients in `tensors`."""
    gradients = {name: tensors[f"gradient:{name}"].astype(np.float64) for name in params}
    updates = first_update(RECIPES[recipe], params, gradients)
    return {f"update@1:{name}": value for name, value in updates.items()}
