"""What a model is and what one step of it takes: parameters, FLOPs and bytes, from shapes alone.

The FLOPs of the forward and the backward pass are those of `adapters.counting_ops`.

Optimizer
    Per parameter element the operations of the formulas in `adapters.training`, constants of the
    step (the rate, 1 - beta^t, the clipping factor itself) being free:

    sgd 2, adam and adamw 14, nadam 16, amsgrad 15, rmsprop 9, adagrad 7
    momentum 2 more; dampening 1, (1 - dampening) g; nesterov 2, g + momentum m
    weight decay 2, coupled or not; clipping by norm 3: g^2, its sum, the scaled g; by value 2
    an average 3, d a + (1 - d) p
    accumulation over k micro-batches k, the mean of k gradients

Bytes
    What one step must move between memory and processor at least once, whatever is fused: the
    compulsory traffic that bounds operational intensity (Williams, Waterman and Patterson 2009).
    infer   parameters, buffers and input are read, the output is written
    train   input and labels are read, the loss is written; parameters, buffers and optimizer
            slots are read and written. Slots have the parameter's size: m and v of adam, say;
            momentum is one more, and an average another. A frozen parameter is only read
    Activations and gradients could stay on the chip and are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapters import trees
from adapters.base import Network
from adapters.counting_ops import CountingOps, Shaped
from adapters.model import Model, one
from adapters.ops import Unsupported
from adapters.precisions import PRECISIONS
from adapters.training import RECIPES, Recipe

__all__ = ["ELEMENT_BYTES", "CountingOps", "Counts", "Shaped", "count"]

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
#: Precision -> bytes of an element of a parameter.
ELEMENT_BYTES = {name: _BYTES[p.dtype] for name, p in PRECISIONS.items()}
INTEGER_BYTES = 4  # an int32

#: Per parameter element, without momentum, decay and clipping.
OPTIMIZER_FLOPS = {
    "sgd": 2, "adam": 14, "adamw": 14, "nadam": 16, "amsgrad": 15, "rmsprop": 9, "adagrad": 7,
}  # fmt: skip
#: Tensors of the parameter's size, without that of momentum.
OPTIMIZER_SLOTS = {
    "sgd": 0, "adam": 2, "adamw": 2, "nadam": 2, "amsgrad": 3, "rmsprop": 1, "adagrad": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """What a model is and what one step of it takes, counted.

    parameters          elements
    flops_per_example   FLOPs of the forward pass, without the loss, divided by the batch
    flops_by_op         the same for the whole batch, operation -> FLOPs
    flops               of one step; infer: forward; train: loss, backward and optimizer as well
    flops_by_part       forward, loss, backward, optimizer -> FLOPs; they add up to `flops`
    contraction_flops   those of `flops` that are multiply-adds of contractions, without biases
    bytes               compulsory traffic of one step
    """

    parameters: int
    flops_per_example: float
    flops_by_op: Mapping[str, int]
    flops: int
    flops_by_part: Mapping[str, int]
    contraction_flops: int
    bytes: int


def count(
    model: Model, size: str, *, batch: int = 1, mode: str = "infer", length: int = 0,
    recipe: str = "", precision: str = "fp32",
) -> Counts:  # fmt: skip
    """Counts one step of `model` at `size`, which is what `adapters.base.Spec` describes.

    mode        infer | train | generate
    length      of the input sequence; 0: the model's own
    recipe      a name in `adapters.training.RECIPES`, of effect for train only; "": the model's
    precision   what every floating-point tensor is stored in. Raises Unsupported for others
                than those in `ELEMENT_BYTES`.
    """
    if precision not in ELEMENT_BYTES:
        raise Unsupported(f"precision {precision!r}; there are {', '.join(ELEMENT_BYTES)}")
    train = mode == "train"
    training = RECIPES[recipe or model.recipe]
    config = model.config(size, length)
    params, buffers = model.initial(config, _Nothing())  # type: ignore[arg-type]
    tensors = {name: Shaped(value.shape) for name, value in buffers.items()}
    tensors |= {
        name: Shaped(v.shape, needs_gradient=train and training.trains(name))
        for name, v in params.items()
    }
    example = one(model, size, length)
    shaped = {name: Shaped((batch, *v.shape[1:])) for name, v in example.items()}
    element, width = ELEMENT_BYTES[precision], {"i": INTEGER_BYTES, "b": 1}
    sizes = {n: s.size * width.get(example[n].dtype.kind, element) for n, s in shaped.items()}

    ops = CountingOps()
    network = Network(ops, model, config, mode)
    output, _ = network.forward(tensors, trees.part(shaped, "x"))
    by_op = dict(ops.flops)
    parts = {"forward": ops.flops.total()}
    parameters, state = (sum(v.size for v in group.values()) for group in (params, buffers))
    inputs = sum(size for name, size in sizes.items() if name.split("/")[0] == "x")
    if train:
        trained = sum(v.size for v in training.trained(params).values())
        model.loss(ops, output, trees.part(shaped, "y"))
        parts["loss"] = ops.flops.total() - parts["forward"]
        parts["backward"] = ops.backward.total()
        parts["optimizer"] = optimizer_flops(training) * trained
        slots = optimizer_slots(training)
        # frozen parameters are read; 1: the loss
        elements = 2 * (trained * (1 + slots) + state) + (parameters - trained) + 1
        moved = sum(sizes.values())
    else:
        elements = parameters + state + sum(tensor.size for tensor in trees.leaves(output))
        moved = inputs
    return Counts(
        parameters=parameters,
        flops_per_example=parts["forward"] / batch,
        flops_by_op=by_op,
        flops=sum(parts.values()),
        flops_by_part=parts,
        contraction_flops=ops.contraction_flops,
        bytes=elements * element + moved,
    )


class _Nothing:
    """In place of a generator of random numbers where shapes are wanted alone: a hundred million
    parameters then take neither time nor memory."""

    def normal(self, mean: float, deviation: float, shape: Sequence[int]) -> np.ndarray:
        return np.broadcast_to(0.0, shape)

    uniform = normal


def optimizer_flops(recipe: Recipe) -> int:
    """FLOPs of one step per parameter element."""
    flops = OPTIMIZER_FLOPS[recipe.optimizer]
    flops += 2 * (recipe.momentum != 0) + (recipe.dampening != 0) + 2 * recipe.nesterov
    flops += 2 * (recipe.weight_decay != 0)
    flops += 3 * (recipe.clip_norm is not None) + 2 * (recipe.clip_value is not None)
    flops += 3 * (recipe.average != 0)
    return flops + (recipe.accumulation if recipe.accumulation > 1 else 0)


def optimizer_slots(recipe: Recipe) -> int:
    """Tensors of the parameter's size that are kept between steps."""
    slots = OPTIMIZER_SLOTS[recipe.optimizer] + (recipe.momentum != 0)
    return slots + (recipe.average != 0)
