"""The vocabulary over shapes alone: derives shapes, parameter counts, FLOPs and bytes of any model.

Forward
    A contraction counts 2 FLOPs per multiply-add (the convention of PyTorch's FlopCounterMode and
    of MLPerf); everything else counts the arithmetic operations of its formula per element, with
    exp, erf, sqrt, division and comparison as 1 each. A sum of n terms counts n.

Backward
    Reverse mode (Griewank and Walther 2008), for the operands that need a gradient: parameters
    do, inputs and buffers do not, a result does if an operand does. What the forward pass computed
    is kept, not computed again. Nothing is counted for adding up the gradients of a tensor that
    several operations use. g is the gradient of the result; the numbers are per element of g.

    dense, conv2d, matmul   for each operand one product of the forward's size; 1 for the bias
    attention               likewise for both products; per score 4 of softmax and 1 of its scale
    add                     1 for each operand that was broadcast: the sum over its repetitions
    multiply                1 for each operand, g times the other; 1 more where it was broadcast
    broadcast_to            1, the sum over the repetitions
    relu, mean, max_pool2d  1: g times 0 or 1, g / n, g added to the maximum's gradient
    gelu                    7: g (Phi(x) + x phi(x)), phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
    softmax                 4: y (g - sum(g y))
    layer_norm, batch_norm  8: (h - mean(h) - n mean(h n)) / sigma, h = g scale and n = normalised
                            x (Ioffe and Szegedy 2015); 2 for the scale, sum(g n); 1 for the offset
    batch_norm, train=False 2 in place of the 8: g scale / sigma
    cross_entropy           3 per logit: (softmax - one-hot) / N
    reshape, transpose, concat, slice   0: they move values

Optimizer
    Per parameter element the operations of the formulas in `adapters.training`, constants of the
    step (1 - beta^t, the clipping factor itself) being free: sgd 4, adamw 16, clipping 3 more.

Bytes
    What one step must move between memory and processor at least once, whatever is fused: the
    compulsory traffic that bounds operational intensity (Williams, Waterman and Patterson 2009).
    infer   parameters, buffers and input are read, the output is written
    train   input and labels are read, the loss is written; parameters, buffers and optimizer
            slots are read and written
    Activations and gradients could stay on the chip and are not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from adapters.model import Model
from adapters.ops import Array, Ops, Unsupported
from adapters.training import RECIPES

ELEMENT_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}
LABEL_BYTES = 4  # of an int32
OPTIMIZER_FLOPS = {"sgd": 4, "adamw": 16}  # per parameter element
CLIP_FLOPS = 3  # g^2, its sum, the scaled g
OPTIMIZER_SLOTS = {"sgd": 1, "adamw": 2}  # tensors of the parameter's size: m; m and v


@dataclass(frozen=True)
class Shaped:
    """A tensor of which only the shape is known, and whether the loss is differentiated by it."""

    shape: tuple[int, ...]
    needs_gradient: bool = field(default=False, kw_only=True)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class CountingOps(Ops):
    """Propagates shapes and adds up FLOPs by operation, of the forward pass in `flops` and of the
    backward pass in `backward`; those of both passes' contractions also in `contraction_flops`."""

    def __init__(self) -> None:
        self.flops: Counter[str] = Counter()
        self.backward: Counter[str] = Counter()
        self.contraction_flops = 0

    def _made(
        self, op: str, shape: Sequence[int], *operands: Array, flops: int = 0, backward: int = 0
    ) -> Shaped:
        """The result. `backward` are FLOPs that are needed if any operand needs a gradient."""
        needed = _needing(*operands) > 0
        self.flops += Counter({op: flops})  # drops operations that take none
        self.backward += Counter({op: backward * needed})
        return Shaped(tuple(int(n) for n in shape), needs_gradient=needed)

    def _contract(self, op: str, flops: int, *operands: Array) -> None:
        """Counts one product forward and one for each operand that needs a gradient."""
        backward = flops * _needing(*operands)
        self.flops += Counter({op: flops})
        self.backward += Counter({op: backward})
        self.contraction_flops += flops + backward

    def constant(self, value: np.ndarray) -> Array:
        return Shaped(np.shape(value))

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        known = math.prod(n for n in shape if n != -1)
        wanted = tuple(x.size // known if n == -1 else n for n in shape)
        if math.prod(wanted) != x.size:
            raise ValueError(f"reshape of {x.shape} to {tuple(shape)} changes the element count")
        return self._made("reshape", wanted, x)

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return self._made("transpose", [x.shape[a] for a in axes], x)

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self._made("concat", shape, *xs)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        shape = list(x.shape)
        shape[axis] = len(range(*slice(start, stop).indices(shape[axis])))
        return self._made("slice", shape, x)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        wanted = np.broadcast_shapes(x.shape, tuple(shape))
        return self._made("broadcast_to", wanted, x, backward=_repeated(wanted, x))

    def add(self, a: Array, b: Array) -> Array:
        shape = np.broadcast_shapes(a.shape, b.shape)
        backward = _repeated(shape, a, b)
        return self._made("add", shape, a, b, flops=math.prod(shape), backward=backward)

    def multiply(self, a: Array, b: Array) -> Array:
        shape = np.broadcast_shapes(a.shape, b.shape)
        size = math.prod(shape)
        backward = size * _needing(a, b) + _repeated(shape, a, b)
        return self._made("multiply", shape, a, b, flops=size, backward=backward)

    def relu(self, x: Array) -> Array:
        return self._made("relu", x.shape, x, flops=x.size, backward=x.size)

    def gelu(self, x: Array) -> Array:
        return self._made("gelu", x.shape, x, flops=5 * x.size, backward=7 * x.size)

    def matmul(self, a: Array, b: Array) -> Array:
        shape = (*a.shape[:-1], b.shape[-1])
        self._contract("matmul", 2 * math.prod(shape) * a.shape[-1], a, b)
        return self._made("matmul", shape, a, b)

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        if x.shape[-1] != w.shape[0]:
            raise ValueError(f"dense of {x.shape} with weights {w.shape}: inner sizes differ")
        return self._weighted("dense", (*x.shape[:-1], w.shape[1]), x, w, b)

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        h, width, c, out = w.shape
        if x.shape[-1] != c:
            raise ValueError(f"conv2d of {x.shape} with weights {w.shape}: channels differ")
        rows, columns = (
            (n + 2 * padding - k) // stride + 1
            for n, k in zip(x.shape[1:3], (h, width), strict=True)
        )
        return self._weighted("conv2d", (x.shape[0], rows, columns, out), x, w, b)

    def _weighted(
        self, op: str, shape: Sequence[int], x: Array, w: Array, b: Array | None
    ) -> Array:
        """A contraction whose every result sums over all axes of `w` but the last, and a bias."""
        size = math.prod(shape)
        self._contract(op, 2 * size * math.prod(w.shape[:-1]), x, w)
        if b is None:
            return self._made(op, shape, x, w)
        return self._made(op, shape, x, w, b, flops=size, backward=size * _needing(b))

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        n, s, heads, d = q.shape
        scores = self._made("attention", (n, heads, s, k.shape[1]), q, k)
        self._contract("attention", 2 * scores.size * d, q, k)
        self._contract("attention", 2 * scores.size * v.shape[-1], scores, v)
        flops, backward = 6 * scores.size, 5 * scores.size  # softmax and scale
        self._made("attention", scores.shape, scores, flops=flops, backward=backward)
        return self._made("attention", (n, s, heads, v.shape[-1]), scores, v)

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        axes = {axis} if isinstance(axis, int) else set(axis)
        kept = [n for i, n in enumerate(x.shape) if i not in {a % len(x.shape) for a in axes}]
        return self._made("mean", kept, x, flops=x.size, backward=math.prod(kept))

    def softmax(self, x: Array) -> Array:
        return self._made("softmax", x.shape, x, flops=5 * x.size, backward=4 * x.size)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        n, h, w, c = x.shape
        shape = (n, (h - window) // stride + 1, (w - window) // stride + 1, c)
        size = math.prod(shape)
        return self._made("max_pool2d", shape, x, flops=size * (window * window - 1), backward=size)

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        backward = _normalisation_gradient(x, scale, offset, of_x=8)
        shape, flops = x.shape, 8 * x.size
        return self._made("layer_norm", shape, x, scale, offset, flops=flops, backward=backward)

    def batch_norm(
        self, x: Array, scale: Array, offset: Array, mean: Array, var: Array, *,
        train: bool, momentum: float, epsilon: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        flops = (8 if train else 4) * x.size
        backward = _normalisation_gradient(x, scale, offset, of_x=8 if train else 2)
        y = self._made("batch_norm", x.shape, x, scale, offset, flops=flops, backward=backward)
        return y, mean, var

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        n = logits.size
        return self._made("cross_entropy", (), logits, flops=5 * n, backward=3 * n)


def _needing(*operands: Array) -> int:
    """How many of the operands need a gradient."""
    return sum(x.needs_gradient for x in operands)


def _repeated(shape: Sequence[int], *operands: Array) -> int:
    """FLOPs that sum the gradients of the operands that were broadcast to `shape`."""
    return math.prod(shape) * _needing(*(x for x in operands if x.shape != tuple(shape)))


def _normalisation_gradient(x: Array, scale: Array, offset: Array, *, of_x: int) -> int:
    return x.size * (of_x * _needing(x) + 2 * _needing(scale) + _needing(offset))


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

    mode        infer | train
    length      of the input sequence; 0: the model's own
    recipe      a name in `adapters.training.RECIPES`, of effect for train only; "": the model's
    precision   what every floating-point tensor is stored in. Raises Unsupported for others
                than those in `ELEMENT_BYTES`.
    """
    if precision not in ELEMENT_BYTES:
        raise Unsupported(f"precision {precision!r}; there are {', '.join(ELEMENT_BYTES)}")
    train = mode == "train"
    config = model.config(size, length)
    params, buffers = model.initial(config, np.random.default_rng(0))
    tensors = {name: Shaped(value.shape) for name, value in buffers.items()}
    tensors |= {name: Shaped(v.shape, needs_gradient=train) for name, v in params.items()}
    x = Shaped((batch, *model.example(config, 1)["x"].shape[1:]))

    ops = CountingOps()
    output, _ = model.forward(ops, tensors, x, config=config, train=train)
    by_op = dict(ops.flops)
    parts = {"forward": ops.flops.total()}
    parameters, state = (sum(v.size for v in group.values()) for group in (params, buffers))
    if train:
        training = RECIPES[recipe or model.recipe]
        ops.cross_entropy(output, Shaped((batch,)))
        per_element = OPTIMIZER_FLOPS[training.optimizer]
        if training.clip_norm is not None:
            per_element += CLIP_FLOPS
        parts["loss"] = ops.flops.total() - parts["forward"]
        parts["backward"] = ops.backward.total()
        parts["optimizer"] = per_element * parameters
        slots = OPTIMIZER_SLOTS[training.optimizer]
        elements = x.size + 2 * (parameters * (1 + slots) + state) + 1  # 1: the loss
    else:
        elements = parameters + state + x.size + output.size
    return Counts(
        parameters=parameters,
        flops_per_example=parts["forward"] / batch,
        flops_by_op=by_op,
        flops=sum(parts.values()),
        flops_by_part=parts,
        contraction_flops=ops.contraction_flops,
        bytes=elements * ELEMENT_BYTES[precision] + (batch * LABEL_BYTES if train else 0),
    )
