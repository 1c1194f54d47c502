"""The vocabulary over shapes alone: derives the shapes and FLOPs of any model.

Forward
    A contraction counts 2 FLOPs per multiply-add (the convention of PyTorch's FlopCounterMode and
    of MLPerf); everything else counts the floating-point operations of its formula per element,
    with exp, log, log1p, erf, tanh, sqrt, division, rounding, |x| and comparison as 1 each. A sum
    of n terms counts n, the largest of n counts n - 1. Operations on integers count nothing.
    Numbers are per element of the result unless it says otherwise. A branch counts as the larger of
    the two, a scan as all of its steps.

    softplus 6, sigmoid 4, silu 5, gelu 5, gelu_tanh 9, leaky_relu 2, clip 2, to_int8 3
    softmax                 5; per score of attention 1 more for its scale; a mask selects: 0
    lstm                    26 per unit and step: 8 for z, 12 for three sigmoids, 6 for c' and h'
    gru                     23 per unit and step: 6 for a and s, 10 for r and z, 3 for n, 4 for h'
    conv_transpose2d        every input value times every weight, also what falls on the padding;
                            conv_transpose3d likewise
    variance                4 per element of x: mean, distance, square, sum
    median                  3 per element of x: what is known to suffice (Schoenhage, Paterson and
                            Pippenger 1976)
    top_k                   n - k + sum(ceil(log2 j), j = n + 2 - k .. n) for k of n values: what
                            is known to suffice (Knuth 1998, section 5.3.3)
    norm                    2 per element of x, and 1
    avg_pool2d              1 per element of the window
    resize                  2 for every weight that is not 0, rows first; nearest 0
    layer_norm, group_norm, batch_norm   8; rms_norm 4; batch_norm, train=False 4
    cross_entropy           5 per logit; smoothing 2 more, or 3 with weights; weights 2 per example
    bce_with_logits 9, mse 3, smooth_l1 7, per element of x

Backward
    Reverse mode (Griewank and Walther 2008), for the operands that need a gradient: parameters
    do, inputs and buffers do not, a result does if an operand does. What the forward pass computed
    is kept, not computed again. Nothing is counted for adding up the gradients of a tensor that
    several operations use. g is the gradient of the result; the numbers are per element of g.

    dense, conv2d, conv_transpose2d, conv3d, conv_transpose3d, matmul
                            for each operand one product of the forward's size; 1 for the bias
    attention               likewise for both products; per score 4 of softmax and 1 of its scale
    lstm, gru               likewise for x w and h u of every step; lstm 21 per unit and step, and 4
                            for b; gru 15, and 3 for b and for b_recurrent each
    add                     1 for each operand that was broadcast: the sum over its repetitions
    subtract                likewise; 1 more for b, -g
    multiply                1 for each operand, g times the other; 1 more where it was broadcast
    divide                  1 for a, g / b; 3 for b, -g y / b; 1 more where one was broadcast
    maximum, minimum        1 for each operand, g times 0, 1/2 or 1; 1 more where it was broadcast
    where                   0, it selects; 1 for each operand that was broadcast
    broadcast_to            1, the sum over the repetitions
    take, gather, embedding 1, added to the row that was taken
    relu, leaky_relu, clip, absolute, dropout    1: g times a number that is known
    exp, log                1: g y, g / x; sqrt 2: g / (2 y); tanh 3: g (1 - y^2)
    sin                     2: g cos(x); cos 3: -g sin(x)
    sigmoid                 3: g y (1 - y)
    silu                    5: g s (1 + x (1 - s)), s = sigmoid(x)
    softplus                5: g sigmoid(x)
    gelu                    7: g (Phi(x) + x phi(x)), phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
    gelu_tanh               9: g ((1 + t) / 2 + x / 2 (1 - t^2) (a + b x^2)), t = tanh(...)
    sum                     0; mean 1: g / n
    variance                1: 2 g / (n - correction); 1 per element of x: that times x - mean
    max, median             1: g / ties; 3 per element of x: x == y, the ties, g times 0 or 1
    norm                    1: g / y; 1 per element of x: that times x
    max_pool2d, top_k       1: g added to the gradient of what was chosen
    avg_pool2d              1: g / n; 1 per element of the window, added to its gradient
    resize                  as forward, the matrices transposed; nearest 1
    softmax                 4: y (g - sum(g y))
    layer_norm, group_norm, batch_norm
                            8: (h - mean(h) - n mean(h n)) / sigma, h = g scale and n = normalised
                            x (Ioffe and Szegedy 2015); 2 for the scale, sum(g n); 1 for the offset
    rms_norm                6: the same without mean(h); 2 for the scale
    batch_norm, train=False 2 in place of the 8: g scale / sigma
    cross_entropy           3 per logit: (softmax - target) / N; 1 more with weights
    bce_with_logits         6 per element of x: (sigmoid(x) - t) g / N; 1 for the targets
    mse                     1 per element of x: 2 g / N d; 1 more for the target
    smooth_l1               4 per element of x: g / N clip(d / beta, -1, 1); 1 more for the target
    to_int8, greater, floor_divide, argmax, one_hot      have no gradient
    reshape, transpose, concat, slice, pad, cast 0: they move values
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from adapters import resizing
from adapters.forms import State
from adapters.ops import Array, Ops


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

    def _elementwise(self, op: str, x: Array, *, forward: int, backward: int) -> Shaped:
        """The result of the shape of `x`, with FLOPs per element."""
        return self._made(op, x.shape, x, flops=forward * x.size, backward=backward * x.size)

    def _binary(self, op: str, a: Array, b: Array, *, by_a: int = 0, by_b: int = 0) -> Shaped:
        """The result of one FLOP per element, with the backward FLOPs per element by operand."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        size = math.prod(shape)
        backward = size * (by_a * _needing(a) + by_b * _needing(b)) + _repeated(shape, a, b)
        return self._made(op, shape, a, b, flops=size, backward=backward)

    def _contract(self, op: str, flops: int, *operands: Array) -> None:
        """Counts one product forward and one for each operand that needs a gradient."""
        backward = flops * _needing(*operands)
        self.flops += Counter({op: flops})
        self.backward += Counter({op: backward})
        self.contraction_flops += flops + backward

    def constant(self, value: np.ndarray) -> Array:
        return Shaped(np.shape(value))

    def dtype_of(self, x: Array) -> str:
        return "float32"  # the counts are the same in every dtype

    def cast(self, x: Array, dtype: str) -> Array:
        return x

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

    def pad(self, x: Array, widths: Sequence[Sequence[int]]) -> Array:
        shape = [before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)]
        return self._made("pad", shape, x)

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self._made("take", shape, x, backward=math.prod(shape))

    def gather(self, x: Array, indices: Array) -> Array:
        shape = (*indices.shape, *x.shape[2:])
        return self._made("gather", shape, x, backward=math.prod(shape))

    def embedding(self, table: Array, ids: Array, *, padding_index: int | None = None) -> Array:
        shape = (*ids.shape, table.shape[1])
        return self._made("embedding", shape, table, backward=math.prod(shape))

    def one_hot(self, ids: Array, classes: int) -> Array:
        return self._made("one_hot", (*ids.shape, classes))

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
        return self._made("where", shape, a, b, backward=_repeated(shape, a, b))

    def add(self, a: Array, b: Array) -> Array:
        return self._binary("add", a, b)

    def multiply(self, a: Array, b: Array) -> Array:
        return self._binary("multiply", a, b, by_a=1, by_b=1)

    def subtract(self, a: Array, b: Array) -> Array:
        return self._binary("subtract", a, b, by_b=1)

    def divide(self, a: Array, b: Array) -> Array:
        return self._binary("divide", a, b, by_a=1, by_b=3)

    def floor_divide(self, a: Array, b: Array) -> Array:
        return Shaped(np.broadcast_shapes(a.shape, b.shape))

    def greater(self, a: Array, b: Array) -> Array:
        shape = np.broadcast_shapes(a.shape, b.shape)
        return self._made("greater", shape, flops=math.prod(shape))

    def maximum(self, a: Array, b: Array) -> Array:
        return self._binary("maximum", a, b, by_a=1, by_b=1)

    def minimum(self, a: Array, b: Array) -> Array:
        return self._binary("minimum", a, b, by_a=1, by_b=1)

    def clip(self, x: Array, low: float, high: float) -> Array:
        return self._elementwise("clip", x, forward=2, backward=1)

    def absolute(self, x: Array) -> Array:
        return self._elementwise("absolute", x, forward=1, backward=1)

    def exp(self, x: Array) -> Array:
        return self._elementwise("exp", x, forward=1, backward=1)

    def log(self, x: Array) -> Array:
        return self._elementwise("log", x, forward=1, backward=1)

    def sqrt(self, x: Array) -> Array:
        return self._elementwise("sqrt", x, forward=1, backward=2)

    def sin(self, x: Array) -> Array:
        return self._elementwise("sin", x, forward=1, backward=2)

    def cos(self, x: Array) -> Array:
        return self._elementwise("cos", x, forward=1, backward=3)

    def tanh(self, x: Array) -> Array:
        return self._elementwise("tanh", x, forward=1, backward=3)

    def sigmoid(self, x: Array) -> Array:
        return self._elementwise("sigmoid", x, forward=4, backward=3)

    def silu(self, x: Array) -> Array:
        return self._elementwise("silu", x, forward=5, backward=5)

    def softplus(self, x: Array) -> Array:
        return self._elementwise("softplus", x, forward=6, backward=5)

    def relu(self, x: Array) -> Array:
        return self._elementwise("relu", x, forward=1, backward=1)

    def leaky_relu(self, x: Array, *, slope: float) -> Array:
        return self._elementwise("leaky_relu", x, forward=2, backward=1)

    def gelu(self, x: Array) -> Array:
        return self._elementwise("gelu", x, forward=5, backward=7)

    def gelu_tanh(self, x: Array) -> Array:
        return self._elementwise("gelu_tanh", x, forward=9, backward=9)

    def to_int8(self, x: Array) -> Array:
        return self._made("to_int8", x.shape, flops=3 * x.size)

    def matmul(self, a: Array, b: Array) -> Array:
        shape = (*a.shape[:-1], b.shape[-1])
        self._contract("matmul", 2 * math.prod(shape) * a.shape[-1], a, b)
        return self._made("matmul", shape, a, b)

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        if x.shape[-1] != w.shape[0]:
            raise ValueError(f"dense of {x.shape} with weights {w.shape}: inner sizes differ")
        return self._weighted("dense", (*x.shape[:-1], w.shape[1]), x, w, b)

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> Array:
        if x.shape[-1] != w.shape[2] * groups:
            raise ValueError(f"conv2d of {x.shape} with weights {w.shape}: channels differ")
        extents = [
            (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1
            for n, k in zip(x.shape[1:3], w.shape[:2], strict=True)
        ]
        return self._weighted("conv2d", (x.shape[0], *extents, w.shape[-1]), x, w, b)

    def conv_transpose2d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> Array:
        sizes = {"stride": stride, "padding": padding, "output_padding": output_padding}
        return self._transposed("conv_transpose2d", x, w, b, **sizes)

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        if x.shape[-1] != w.shape[3]:
            raise ValueError(f"conv3d of {x.shape} with weights {w.shape}: channels differ")
        sizes = zip(x.shape[1:4], w.shape[:3], _three(stride), _three(padding), strict=True)
        extents = [(n + 2 * around - k) // step + 1 for n, k, step, around in sizes]
        return self._weighted("conv3d", (x.shape[0], *extents, w.shape[-1]), x, w, b)

    def conv_transpose3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> Array:
        sizes = {"stride": stride, "padding": padding, "output_padding": output_padding}
        return self._transposed("conv_transpose3d", x, w, b, **sizes)

    def _transposed(
        self, op: str, x: Array, w: Array, b: Array | None,
        *, stride: int, padding: int, output_padding: int,
    ) -> Array:  # fmt: skip
        if x.shape[-1] != w.shape[-2]:
            raise ValueError(f"{op} of {x.shape} with weights {w.shape}: channels differ")
        extents = [
            (n - 1) * stride - 2 * padding + k + output_padding
            for n, k in zip(x.shape[1:-1], w.shape[:-2], strict=True)
        ]
        products = math.prod(x.shape[:-1]) * w.size
        shape = (x.shape[0], *extents, w.shape[-1])
        return self._biased(op, shape, x, w, b, flops=2 * products)

    def _weighted(
        self, op: str, shape: Sequence[int], x: Array, w: Array, b: Array | None
    ) -> Array:
        """A contraction whose every result sums over all axes of `w` but the last, and a bias."""
        flops = 2 * math.prod(shape) * math.prod(w.shape[:-1])
        return self._biased(op, shape, x, w, b, flops=flops)

    def _biased(
        self, op: str, shape: Sequence[int], x: Array, w: Array, b: Array | None, *, flops: int
    ) -> Array:
        """A contraction of `flops`, and a bias."""
        self._contract(op, flops, x, w)
        if b is None:
            return self._made(op, shape, x, w)
        size = math.prod(shape)
        return self._made(op, shape, x, w, b, flops=size, backward=size * _needing(b))

    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        n, s, heads, d = q.shape
        scores = self._made("attention", (n, heads, s, k.shape[1]), q, k)
        self._contract("attention", 2 * scores.size * d, q, k)
        self._contract("attention", 2 * scores.size * v.shape[-1], scores, v)
        flops, backward = 6 * scores.size, 5 * scores.size  # softmax and scale
        self._made("attention", scores.shape, scores, flops=flops, backward=backward)
        return self._made("attention", (n, s, heads, v.shape[-1]), scores, v)

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        y, last = self._recurrence("lstm", x, (h, c), (w, u, b), flops=26, backward=21)
        n, s, features = y.shape
        self._made("lstm", y.shape, b, backward=4 * n * s * features)
        return y, last, last

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        y, last = self._recurrence("gru", x, (h,), (w, u, b, b_recurrent), flops=23, backward=15)
        for bias in (b, b_recurrent):
            self._made("gru", y.shape, bias, backward=3 * y.size)
        return y, last

    def _recurrence(
        self,
        op: str,
        x: Array,
        state: Sequence[Array],
        weights: Sequence[Array],
        *,
        flops: int,
        backward: int,
    ) -> tuple[Array, Array]:
        """(every h, the last h), without the gradient of biases; `flops` and `backward` are those
        per unit and step beside the products."""
        (n, s), h = x.shape[:2], state[0]
        w, u = weights[:2]
        y = self._made(op, (n, s, h.shape[1]), x, *state, *weights)
        last = Shaped(h.shape, needs_gradient=y.needs_gradient)
        self._contract(op, 2 * n * s * w.size, x, w)
        self._contract(op, 2 * n * u.size, h, u)  # the first step's h was given
        self._contract(op, 2 * n * (s - 1) * u.size, last, u)
        self._made(op, y.shape, y, flops=flops * y.size, backward=backward * y.size)
        return y, last

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return self._made("sum", _kept(x, axis), x, flops=x.size)

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        kept = _kept(x, axis)
        return self._made("mean", kept, x, flops=x.size, backward=math.prod(kept))

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        kept = _kept(x, axis)
        backward = x.size + math.prod(kept)
        return self._made("variance", kept, x, flops=4 * x.size, backward=backward)

    def max(self, x: Array, *, axis: int) -> Array:
        kept = _kept(x, axis)
        results = math.prod(kept)
        return self._made("max", kept, x, flops=x.size - results, backward=3 * x.size + results)

    def argmax(self, x: Array, *, axis: int) -> Array:
        kept = _kept(x, axis)
        return self._made("argmax", kept, flops=x.size - math.prod(kept))

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        n, shape = x.shape[-1], (*x.shape[:-1], k)
        if k > n:
            raise ValueError(f"top_k of {x.shape}: there are no {k} values")
        compared = n - k + sum(math.ceil(math.log2(j)) for j in range(n + 2 - k, n + 1))
        flops = math.prod(x.shape[:-1]) * compared
        values = self._made("top_k", shape, x, flops=flops, backward=math.prod(shape))
        return values, Shaped(shape)

    def median(self, x: Array) -> Array:
        kept = _kept(x, -1)
        backward = 3 * x.size + math.prod(kept)
        return self._made("median", kept, x, flops=3 * x.size, backward=backward)

    def norm(self, x: Array, *, axis: int) -> Array:
        kept = _kept(x, axis)
        results = math.prod(kept)
        return self._made("norm", kept, x, flops=2 * x.size + results, backward=x.size + results)

    def softmax(self, x: Array) -> Array:
        return self._elementwise("softmax", x, forward=5, backward=4)

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        shape = _pooled(x, window=window, stride=stride, padding=padding)
        size = math.prod(shape)
        return self._made("max_pool2d", shape, x, flops=size * (window * window - 1), backward=size)

    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        shape = _pooled(x, window=window, stride=stride, padding=padding)
        flops = math.prod(shape) * window * window
        return self._made("avg_pool2d", shape, x, flops=flops, backward=flops + math.prod(shape))

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        n, h, w, c = x.shape
        shape = (n, *size, c)
        if method == "nearest":
            return self._made("resize", shape, x, backward=math.prod(shape))
        rows, columns = (
            np.count_nonzero(resizing.matrix(old, new, method=method, antialias=antialias))
            for old, new in zip((h, w), size, strict=True)
        )
        flops = 2 * n * c * int(rows * w + columns * shape[1])
        return self._made("resize", shape, x, flops=flops, backward=flops)

    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        backward = x.size * (6 * _needing(x) + 2 * _needing(scale))
        return self._made("rms_norm", x.shape, x, scale, flops=4 * x.size, backward=backward)

    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        if x.shape[-1] % groups:
            raise ValueError(f"group_norm of {x.shape}: {groups} groups do not divide the channels")
        return self._normalised("group_norm", x, scale, offset)

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        return self._normalised("layer_norm", x, scale, offset)

    def batch_norm(
        self, x: Array, scale: Array, offset: Array, mean: Array, var: Array, *,
        train: bool, momentum: float, epsilon: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        flops, of_x = (8, 8) if train else (4, 2)
        return self._normalised("batch_norm", x, scale, offset, flops=flops, of_x=of_x), mean, var

    def _normalised(
        self, op: str, x: Array, scale: Array, offset: Array, *, flops: int = 8, of_x: int = 8
    ) -> Array:
        """FLOPs are per element; `of_x` those of the gradient by `x`."""
        backward = x.size * (of_x * _needing(x) + 2 * _needing(scale) + _needing(offset))
        return self._made(op, x.shape, x, scale, offset, flops=flops * x.size, backward=backward)

    def cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        weights: Array | None = None,
        smoothing: float = 0.0,
        ignore: int | None = None,
    ) -> Array:
        weighted = weights is not None
        forward = 5 + (2 + weighted if smoothing else 0)
        flops = forward * logits.size + 2 * weighted * logits.shape[0]
        backward = (3 + weighted) * logits.size
        return self._made("cross_entropy", (), logits, flops=flops, backward=backward)

    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        return self._distance("bce_with_logits", logits, targets, forward=9, by_x=6)

    def mse(self, x: Array, target: Array) -> Array:
        return self._distance("mse", x, target, forward=3, by_x=1)

    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        return self._distance("smooth_l1", x, target, forward=7, by_x=4)

    def _distance(self, op: str, x: Array, target: Array, *, forward: int, by_x: int) -> Array:
        """A mean over elements, with FLOPs per element; the target's gradient takes 1."""
        backward = x.size * (by_x * _needing(x) + _needing(target))
        return self._made(op, (), x, target, flops=forward * x.size, backward=backward)

    def dropout(self, x: Array, *, rate: float, seed: int) -> Array:
        return self._elementwise("dropout", x, forward=1, backward=1)

    def stop_gradient(self, x: Array) -> Array:
        return Shaped(x.shape)

    def cond(
        self,
        predicate: Array,
        true: Callable[..., Array],
        false: Callable[..., Array],
        *operands: Array,
    ) -> Array:
        before = self._counts()
        first = true(*operands)
        one = self._since(before)
        self._restore(before)
        second = false(*operands)
        if _total(one) > _total(self._since(before)):
            self._restore(before)
            self._add(one)
        return Shaped(first.shape, needs_gradient=_needing(first, second) > 0)

    def scan(self, body: Callable[[State, Array], State], state: State, xs: Array) -> State:
        x = Shaped(xs.shape[1:], needs_gradient=xs.needs_gradient)
        for left in reversed(range(xs.shape[0])):
            old, before = state, self._counts()
            state = body(old, x)
            if state == old:  # so that what is left are the same steps again
                self._add(self._since(before), times=left)
                break
        return state

    def _counts(self) -> _Counts:
        return Counter(self.flops), Counter(self.backward), self.contraction_flops

    def _restore(self, counts: _Counts) -> None:
        flops, backward, self.contraction_flops = counts
        self.flops, self.backward = Counter(flops), Counter(backward)

    def _since(self, before: _Counts) -> _Counts:
        """What was counted since then; counts never fall."""
        flops, backward, contractions = before
        return self.flops - flops, self.backward - backward, self.contraction_flops - contractions

    def _add(self, counts: _Counts, *, times: int = 1) -> None:
        flops, backward, contractions = counts
        self.flops += Counter({op: times * n for op, n in flops.items()})
        self.backward += Counter({op: times * n for op, n in backward.items()})
        self.contraction_flops += times * contractions


_Counts = tuple[Counter[str], Counter[str], int]  # forward, backward, contractions of both


def _total(counts: _Counts) -> int:
    flops, backward, _ = counts
    return flops.total() + backward.total()


def _needing(*operands: Array) -> int:
    """How many of the operands need a gradient."""
    return sum(x.needs_gradient for x in operands)


def _repeated(shape: Sequence[int], *operands: Array) -> int:
    """FLOPs that sum the gradients of the operands that were broadcast to `shape`."""
    return math.prod(shape) * _needing(*(x for x in operands if x.shape != tuple(shape)))


def _three(n: int | Sequence[int]) -> tuple[int, ...]:
    return (n, n, n) if isinstance(n, int) else tuple(n)


def _kept(x: Array, axis: int | Sequence[int]) -> tuple[int, ...]:
    """The shape of `x` without `axis`."""
    axes = {a % len(x.shape) for a in ((axis,) if isinstance(axis, int) else axis)}
    return tuple(n for i, n in enumerate(x.shape) if i not in axes)


def _pooled(x: Array, *, window: int, stride: int, padding: int) -> tuple[int, ...]:
    n, h, w, c = x.shape
    rows, columns = ((size + 2 * padding - window) // stride + 1 for size in (h, w))
    return n, rows, columns, c
