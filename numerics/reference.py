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
from adapters import trees
from adapters.base import Network
from adapters.numpy_optimizers import first_update
from adapters.numpy_reference import NumpyOps
from adapters.ops import Ops
from adapters.training import RECIPES, Recipe
from adapters.trees import Tree

Tensors = Mapping[str, np.ndarray]
STEP = 1e-30
#: The batches that a program sees in turn, by their names in a file of inputs, and one that it has
#: never seen when it was timed.
TURNS = ("batch", "batch@2", "batch@3")
UNSEEN = "unseen"
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
    batch: Tensors,
    *,
    ops: Ops,
    length: int = 0,
    mode: str = "infer",
) -> Tensors:
    """The tensors of an inference or a generation, computed by `ops` over NumPy arrays."""
    network = models.get(model)
    runner = Network(ops, network, network.config(size, length), mode)
    output = runner.forward({**buffers, **params}, trees.part(batch, "x"))[0]
    return trees.named(output, "output")


def output_of(batch: str) -> str:
    """What the output of a batch is called: `output`, `output@2`, ..., `unseen:output`."""
    return f"{UNSEEN}:output" if batch == UNSEEN else f"output{batch.removeprefix(TURNS[0])}"


def is_output(name: str) -> bool:
    """Whether a tensor is the output of some batch, or one of several."""
    return name.removeprefix(f"{UNSEEN}:").partition(":")[0].partition("@")[0] == "output"


def batches(inputs: Tensors) -> dict[str, dict[str, np.ndarray]]:
    """The batches in the tensors of a file of inputs, in the order in which a program sees them."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in (*TURNS, UNSEEN):
        prefix = f"{name}:"
        own = {n.removeprefix(prefix): t for n, t in inputs.items() if n.startswith(prefix)}
        found |= {name: own} if own else {}
    return found


def outputs(
    model: str,
    size: str,
    params: Tensors,
    buffers: Tensors,
    batches: Mapping[str, Tensors],
    *,
    ops: Ops,
    length: int = 0,
    mode: str = "infer",
) -> Tensors:
    """The tensors of an inference or a generation on each of `batches`, computed by `ops`."""
    found: dict[str, np.ndarray] = {}
    for name, batch in batches.items():
        tensors = forward_pass(
            model, size, params, buffers, batch, ops=ops, length=length, mode=mode
        )
        found |= {n.replace("output", output_of(name), 1): t for n, t in tensors.items()}
    return found


def compute(
    model: str,
    size: str,
    mode: str,
    params: Tensors,
    buffers: Tensors,
    batches: Mapping[str, Tensors],
    *,
    length: int = 0,
    recipe: str = "",
    slopes: bool = True,
) -> NumpyReference:
    """The reference of one case, in float64; in training, of its first step. `recipe` empty: one
    that does not accumulate. Without `slopes` there is the forward pass alone."""
    network, ops, batch = models.get(model), NumpyOps(), batches[TURNS[0]]
    runner = Network(ops, network, network.config(size, length), mode)
    training = RECIPES[recipe] if recipe else Recipe("sgd", 1.0)

    def forward(p: Tensors) -> tuple[np.ndarray, Tree, Tensors]:
        """(loss, output, updated buffers), micro-batch by micro-batch."""
        losses, outputs, state = [], [], buffers
        split = [trees.split(trees.part(batch, name), training.accumulation) for name in "xy"]
        for x, y in zip(*split, strict=True):
            loss, output, new = runner.loss({**state, **p}, x, y)
            losses.append(loss)
            outputs.append(output)
            state = {**state, **new}
        output = trees.over(lambda *parts: np.concatenate(parts), *outputs)
        return np.asarray(np.mean(losses)), output, state

    if mode != "train":
        tensors = outputs(model, size, params, buffers, batches, ops=ops, length=length, mode=mode)
        return NumpyReference(tensors, {})
    loss, output, new_buffers = forward(params)
    tensors = {**trees.named(output, "output"), "loss": loss, "loss@1": loss}
    tensors |= {f"buffer@1:{name}": value for name, value in new_buffers.items()}
    found = {}
    for group in _groups(training.trained(params)) if slopes else ():
        moved = {n: params[n] + 1j * STEP * direction(n, params[n].shape) for n in group}
        found[group] = float(np.imag(forward({**params, **moved})[0]) / STEP)
    return NumpyReference(tensors, found)


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
    params = RECIPES[recipe].trained(params)
    gradients = {name: tensors[f"gradient:{name}"].astype(np.float64) for name in params}
    updates = first_update(RECIPES[recipe], params, gradients)
    return {f"update@1:{name}": value for name, value in updates.items()}
