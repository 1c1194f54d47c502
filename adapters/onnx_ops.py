"""The vocabulary in ONNX: operations append nodes to a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from adapters import resizing
from adapters.base import Unsupported, require
from adapters.counting import CountingOps, Shaped
from adapters.forms import State
from adapters.onnx_graph import BOOLEAN, INTEGER, Graph, Value
from adapters.ops import Array, Ops

INFERENCE_ONLY = "ONNX Runtime runs inference only"

OIHW, IOHW = (3, 2, 0, 1), (2, 3, 0, 1)  # of HWIO, as axes
OIDHW, IODHW = (4, 3, 0, 1, 2), (3, 4, 0, 1, 2)  # of DHWIO


class OnnxOps(Graph, Ops):
    """ONNX keeps an attribute in float32: a number that must not be rounded is a constant here."""

    def __init__(self, dtype: str) -> None:
        super().__init__(dtype)
        self._shapes = CountingOps()

    def _number(self, value: float) -> Value:
        return self.constant(np.array(value))

    def _zeros(self, like: Shaped) -> Value:
        return self.constant(np.zeros(like.shape))

    def _channels_first(self, x: Value) -> Value:
        last = len(x.shape) - 1
        return self.transpose(x, (0, last, *range(1, last)))

    def _channels_last(self, x: Value) -> Value:
        return self.transpose(x, (0, *range(2, len(x.shape)), 1))

    def _spatial(
        self, kind: str, inputs: Sequence[Value | None], made: Shaped, **attributes: Any
    ) -> Value:
        """The result, of the shape of `made`, of a node that wants channels first."""
        axes = (0, len(made.shape) - 1, *range(1, len(made.shape) - 1))
        like = Shaped(tuple(made.shape[a] for a in axes))
        x, *others = inputs
        assert x is not None
        first = self._channels_first(x)
        return self._channels_last(self._node(kind, [first, *others], like, **attributes))

    # -- data and layout -----------------------------------------------------------------------

    def constant(self, value: np.ndarray) -> Array:
        return self.parameter(self._fresh("constant"), value)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        made = self._shapes.reshape(x, shape)
        empty = int(0 in made.shape)  # otherwise ONNX takes a 0 to say: as it was
        return self._node("Reshape", [x, self._integers(*made.shape)], made, allowzero=empty)

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        made = self._shapes.transpose(x, axes)
        if x.constant is not None:
            name = f"{x.name}:{''.join(map(str, axes))}"
            values = np.ascontiguousarray(x.constant.transpose(axes))
            return Value(made.shape, name, values, x.dtype)
        return self._node("Transpose", [x], made, perm=list(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return self._node("Concat", list(xs), self._shapes.concat(xs, axis=axis), axis=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        made = self._shapes.slice(x, axis=axis, start=start, stop=stop)
        bounds = [self._integers(n) for n in (start, stop, axis)]
        return self._node("Slice", [x, *bounds], made)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        made = self._shapes.broadcast_to(x, shape)
        if made.size == 0:  # ONNX Runtime removes an Expand from (1, ...) to (0, ...)
            return self._zeros(made)
        return self._node("Expand", [x, self._integers(*made.shape)], made)

    def pad(self, x: Array, widths: Sequence[Sequence[int]]) -> Array:
        made = self._shapes.pad(x, widths)
        before, after = zip(*widths, strict=True)
        return self._node("Pad", [x, self._integers(*before, *after)], made)

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        made = self._shapes.take(x, indices, axis=axis)
        bounds = (np.array(n, indices.dtype) for n in (0, x.shape[axis] - 1))
        inside = self._node("Clip", [indices, *map(self._table, bounds)], indices)
        return self._node("Gather", [x, inside], made, axis=axis)

    def gather(self, x: Array, indices: Array) -> Array:
        # rows of one table: onnx's evaluator has no GatherND of no examples
        made = self._shapes.gather(x, indices)
        n, m, *rest = x.shape
        first = self._table(m * np.arange(n, dtype=indices.dtype)[:, None])
        flat = self._node("Add", [indices, first], indices)
        return self._node("Gather", [self.reshape(x, (n * m, *rest)), flat], made, axis=0)

    def embedding(self, table: Array, ids: Array, *, padding_index: int | None = None) -> Array:
        return self._node("Gather", [table, ids], self._shapes.embedding(table, ids), axis=0)

    def one_hot(self, ids: Array, classes: int) -> Array:
        # OneHot counts ids below 0 from the end
        made = self._shapes.one_hot(ids, classes)
        column = self.reshape(ids, (*ids.shape, 1))
        each = self._table(np.arange(classes, dtype=ids.dtype))
        return self.cast(self._node("Equal", [column, each], made, dtype=BOOLEAN), self._dtype)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        made = self._shapes.where(condition, a, b)
        return self._node("Where", [condition, a, b], made, dtype=self.dtype(a))

    # -- elementwise ---------------------------------------------------------------------------

    def add(self, a: Array, b: Array) -> Array:
        return self._node("Add", [a, b], self._shapes.add(a, b))

    def multiply(self, a: Array, b: Array) -> Array:
        return self._node("Mul", [a, b], self._shapes.multiply(a, b))

    def subtract(self, a: Array, b: Array) -> Array:
        return self._node("Sub", [a, b], self._shapes.subtract(a, b))

    def divide(self, a: Array, b: Array) -> Array:
        return self._node("Div", [a, b], self._shapes.divide(a, b))

    def floor_divide(self, a: Array, b: Array) -> Array:
        # Div rounds towards zero: down where what it leaves has the sign of b, as Mod has it.
        # (a - Mod) / b may be out of range on its way
        made = self._shapes.floor_divide(a, b)
        quotient = self._node("Div", [a, b], made)
        rest = self._node("Sub", [a, self._node("Mul", [quotient, b], made)], made)
        down = self._node("Equal", [rest, self._node("Mod", [a, b], made)], made, dtype=BOOLEAN)
        one = self._table(np.array(1, self.dtype(a)))
        return self._node("Where", [down, quotient, self._node("Sub", [quotient, one], made)], made,
                          dtype=a.dtype)  # fmt: skip

    def greater(self, a: Array, b: Array) -> Array:
        return self._node("Greater", [a, b], self._shapes.greater(a, b), dtype=BOOLEAN)

    def maximum(self, a: Array, b: Array) -> Array:
        return self._node("Max", [a, b], self._shapes.maximum(a, b))

    def minimum(self, a: Array, b: Array) -> Array:
        return self._node("Min", [a, b], self._shapes.minimum(a, b))

    def clip(self, x: Array, low: float, high: float) -> Array:
        if self.dtype(x).kind in "iu":
            bounds = [self._table(np.array(n, x.dtype)) for n in (low, high)]
        else:
            bounds = [self._number(n) for n in (low, high)]
        return self._node("Clip", [x, *bounds], x)

    def absolute(self, x: Array) -> Array:
        return self._node("Abs", [x], x)

    def exp(self, x: Array) -> Array:
        return self._node("Exp", [x], x)

    def log(self, x: Array) -> Array:
        return self._node("Log", [x], x)

    def sqrt(self, x: Array) -> Array:
        return self._node("Sqrt", [x], x)

    def sin(self, x: Array) -> Array:
        return self._node("Sin", [x], x)

    def cos(self, x: Array) -> Array:
        return self._node("Cos", [x], x)

    def tanh(self, x: Array) -> Array:
        return self._node("Tanh", [x], x)

    def sigmoid(self, x: Array) -> Array:
        return self._node("Sigmoid", [x], x)

    def silu(self, x: Array) -> Array:
        return self.multiply(x, self.sigmoid(x))

    def softplus(self, x: Array) -> Array:
        return self._node("Softplus", [x], x)

    def relu(self, x: Array) -> Array:
        return self._node("Relu", [x], x)

    def leaky_relu(self, x: Array, *, slope: float) -> Array:
        return self._node("PRelu", [x, self._number(slope)], x)

    def gelu(self, x: Array) -> Array:
        # spelled out: ONNX Runtime makes its Gelu of this, and the reference evaluator sees Erf
        root, one, half = (self._number(c) for c in (math.sqrt(2.0), 1.0, 0.5))
        erf = self._node("Erf", [self._node("Div", [x, root], x)], x)
        return self.multiply(self.multiply(x, self.add(erf, one)), half)

    def gelu_tanh(self, x: Array) -> Array:
        cube = self.multiply(self.multiply(x, x), x)
        inner = self.add(x, self.multiply(cube, self._number(0.044715)))
        tanh = self.tanh(self.multiply(inner, self._number(math.sqrt(2.0 / math.pi))))
        half = self.multiply(x, self._number(0.5))
        return self.multiply(half, self.add(tanh, self._number(1.0)))

    def to_int8(self, x: Array) -> Array:
        # a Cast of what is out of range is undefined
        return self.cast(self.clip(x, -128.0, 127.0), np.dtype(np.int8))

    # -- contractions --------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        return self._node("MatMul", [a, b], self._shapes.matmul(a, b))

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        made = self._shapes.dense(x, w, b)
        if len(x.shape) == 2:
            return self._node("Gemm", [x, w, b], made)
        y = self._node("MatMul", [x, w], made)
        return y if b is None else self._node("Add", [y, b], made)

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
        sizes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return self._spatial(
            "Conv",
            [x, self.transpose(w, OIHW), b],
            self._shapes.conv2d(x, w, b, **sizes),
            strides=[stride] * 2,
            pads=[padding] * 4,
            dilations=[dilation] * 2,
            group=groups,
        )

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
        return self._spatial(
            "ConvTranspose",
            [x, self.transpose(w, IOHW), b],
            self._shapes.conv_transpose2d(x, w, b, **sizes),
            strides=[stride] * 2,
            pads=[padding] * 4,
            output_padding=[output_padding] * 2,
        )

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        return self._spatial(
            "Conv",
            [x, self.transpose(w, OIDHW), b],
            self._shapes.conv3d(x, w, b, stride=stride, padding=padding),
            strides=_three(stride),
            pads=_three(padding) * 2,
        )

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
        return self._spatial(
            "ConvTranspose",
            [x, self.transpose(w, IODHW), b],
            self._shapes.conv_transpose3d(x, w, b, **sizes),
            strides=[stride] * 3,
            pads=[padding] * 6,
            output_padding=[output_padding] * 3,
        )

    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        scale = self._number(1.0 / math.sqrt(q.shape[-1]))
        q, v = (self.transpose(t, (0, 2, 1, 3)) for t in (q, v))  # (N, heads, S, D)
        scores = self.matmul(self.multiply(q, scale), self.transpose(k, (0, 2, 3, 1)))
        if causal:
            past = self._table(np.tri(*scores.shape[-2:], dtype=np.bool_))
            mask = past if mask is None else self._all(past, mask)
        return self.transpose(self.matmul(self._seen(scores, mask), v), (0, 2, 1, 3))

    def _all(self, a: Value, b: Value) -> Value:
        return self._node("And", [a, b], Shaped(np.broadcast_shapes(a.shape, b.shape)))

    def _seen(self, scores: Value, mask: Value | None) -> Value:
        """The softmax of the scores where `mask` holds, and 0 elsewhere."""
        if mask is None:
            return self.softmax(scores)
        lowest = self.constant(_lowest(self._dtype))
        weights = self.softmax(self.where(mask, scores, lowest))
        # again, for queries that see nothing: they had one weight everywhere
        return self.where(mask, weights, self._number(0.0))

    # -- recurrence ----------------------------------------------------------------------------

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        quarters = (0, 3, 1, 2)  # i, f, g, o -> i, o, f, g
        both = self.concat([self._gates(b, quarters), self._zeros(b)], axis=0)
        inputs = [x, *(self._gates(t, quarters) for t in (w, u)), both, h, c]
        y, last_h, last_c = self._recurrence("LSTM", inputs)
        return y, last_h, last_c

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        thirds = (1, 0, 2)  # r, z, n -> z, r, n
        both = self.concat([self._gates(t, thirds) for t in (b, b_recurrent)], axis=0)
        inputs = [x, *(self._gates(t, thirds) for t in (w, u)), both, h]
        y, last = self._recurrence("GRU", inputs, linear_before_reset=1)
        return y, last

    def _recurrence(self, kind: str, inputs: Sequence[Value], **attributes: Any) -> list[Value]:
        """(every h (N, S, H), the last of each state (N, H)), for x (N, S, I), w (I, gates H),
        u (H, gates H), b and the states."""
        x, w, u, b, *states = inputs
        (n, s), units = x.shape[:2], u.shape[0]
        if n * s == 0:  # no step to make, and ONNX Runtime's kernels would abort the process
            return [self._zeros(Shaped((n, s, units))), *states]
        w, u = (self.transpose(t, (1, 0)) for t in (w, u))
        one = [self.reshape(t, (1, *t.shape)) for t in (w, u, b, *states)]  # direction
        shapes = [(s, 1, n, units), *((1, n, units) for _ in states)]
        y, *lasts = self._nodes(
            kind,
            [self.transpose(x, (1, 0, 2)), *one[:3], None, *one[3:]],
            [Shaped(shape) for shape in shapes],
            dtypes=[None] * len(shapes),
            hidden_size=units,
            **attributes,
        )
        every = self.reshape(self.transpose(y, (2, 0, 1, 3)), (n, s, units))
        return [every, *(self.reshape(last, (n, units)) for last in lasts)]

    def _gates(self, t: Value, order: Sequence[int]) -> Value:
        """The equal parts of the last axis of `t` in another order."""
        axis, size = len(t.shape) - 1, t.shape[-1] // len(order)
        parts = [self.slice(t, axis=axis, start=i * size, stop=(i + 1) * size) for i in order]
        return self.concat(parts, axis=axis)

    # -- reductions and normalisations ---------------------------------------------------------

    def _reduced(self, kind: str, x: Value, axis: int | Sequence[int], made: Shaped) -> Value:
        axes = self._integers(*([axis] if isinstance(axis, int) else axis))
        return self._node(kind, [x, axes], made, keepdims=0)

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return self._reduced("ReduceSum", x, axis, self._shapes.sum(x, axis=axis))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return self._reduced("ReduceMean", x, axis, self._shapes.mean(x, axis=axis))

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        made = self._shapes.variance(x, axis=axis)
        axes = [a % len(x.shape) for a in ([axis] if isinstance(axis, int) else axis)]
        kept = Shaped(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
        mean = self._node("ReduceMean", [x, self._integers(*axes)], kept, keepdims=1)
        distance = self.subtract(x, mean)
        biased = self._reduced("ReduceMean", self.multiply(distance, distance), axes, made)
        terms = math.prod(x.shape[a] for a in axes)
        if not correction:
            return biased
        # a ratio near 1: of many terms, float16 holds neither their number nor their sum
        ratio = terms / (terms - correction) if terms != correction else math.inf
        return self.multiply(biased, self._number(ratio))

    def max(self, x: Array, *, axis: int) -> Array:
        made = self._shapes.max(x, axis=axis)
        largest = self._reduced("ReduceMax", x, axis, made)
        if self.dtype(x).kind in "iub":
            return largest
        # ONNX Runtime's passes over NaN
        broken = self._reduced("ReduceMax", self._node("IsNaN", [x], x, dtype=BOOLEAN), axis, made)
        return self.where(broken, self._number(math.nan), largest)

    def argmax(self, x: Array, *, axis: int) -> Array:
        made = self._shapes.argmax(x, axis=axis)
        return self._node("ArgMax", [x], made, dtype=INTEGER, axis=axis, keepdims=0)

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        made = self._shapes.top_k(x, k)
        values, indices = self._nodes(
            "TopK", [x, self._integers(k)], made, dtypes=[x.dtype, INTEGER]
        )
        return values, indices

    def median(self, x: Array) -> Array:
        last, middle = len(x.shape) - 1, x.shape[-1] // 2
        largest, _ = self.top_k(x, middle + 1)
        value = self.slice(largest, axis=last, start=middle, stop=middle + 1)
        return self.reshape(value, x.shape[:-1])

    def norm(self, x: Array, *, axis: int) -> Array:
        return self._reduced("ReduceL2", x, axis, self._shapes.norm(x, axis=axis))

    def softmax(self, x: Array) -> Array:
        return self._node("Softmax", [x], x, axis=-1)

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        return self._spatial(
            "MaxPool",
            [x],
            self._shapes.max_pool2d(x, window=window, stride=stride, padding=padding),
            kernel_shape=[window] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
        )

    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        return self._spatial(
            "AveragePool",
            [x],
            self._shapes.avg_pool2d(x, window=window, stride=stride, padding=padding),
            kernel_shape=[window] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            count_include_pad=int(include_padding),
        )

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        made = self._shapes.resize(x, size, method=method, antialias=antialias)
        if made.size == 0:  # ONNX Runtime's MatMul broadcasts nothing to no matrices
            return self._zeros(made)
        for axis, new in ((1, size[0]), (2, size[1])):
            weights = resizing.matrix(x.shape[axis], new, method=method, antialias=antialias)
            if method == "nearest":
                x = self.take(x, self._table(weights.argmax(axis=1)), axis=axis)
            else:
                x = self._weighed(x, weights, axis=axis)
        return x

    def _weighed(self, x: Value, weights: np.ndarray, *, axis: int) -> Value:
        """`weights` (new, old) times `axis` of `x`."""
        old, new = x.shape[axis], len(weights)
        shape = (*x.shape[:axis], old, math.prod(x.shape[axis + 1 :]))
        rows = self.reshape(x, shape) if axis < len(x.shape) - 2 else x
        made = Shaped((*rows.shape[:axis], new, rows.shape[-1]))
        y = self._node("MatMul", [self.constant(weights), rows], made)
        return self.reshape(y, (*x.shape[:axis], new, *x.shape[axis + 1 :]))

    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        kept = Shaped((*x.shape[:-1], 1))
        square = self._node("ReduceMean", [self.multiply(x, x), self._integers(-1)], kept)
        root = self.sqrt(self.add(square, self._number(epsilon)))
        return self.multiply(self.divide(x, root), scale)

    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        # GroupNormalization is a function whose statistics are float32 unless told otherwise
        self._shapes.group_norm(x, scale, offset, groups=groups, epsilon=epsilon)
        first = self._channels_first(x)
        size = math.prod(x.shape[1:]) // groups
        rows = self.reshape(first, (x.shape[0], groups, size))
        ones = self.constant(np.ones(size))
        y = self._node("LayerNormalization", [rows, ones], rows, axis=-1, epsilon=epsilon)
        y = self._channels_last(self.reshape(y, first.shape))
        return self.add(self.multiply(y, scale), offset)

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        return self._node("LayerNormalization", [x, scale, offset], x, axis=-1, epsilon=epsilon)

    def batch_norm(
        self,
        x: Array,
        scale: Array,
        offset: Array,
        mean: Array,
        var: Array,
        *,
        train: bool,
        momentum: float,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        require(not train, INFERENCE_ONLY)
        inputs = [x, scale, offset, mean, var]
        return self._spatial("BatchNormalization", inputs, x, epsilon=epsilon), mean, var

    # -- losses --------------------------------------------------------------------------------

    def cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        weights: Array | None = None,
        smoothing: float = 0.0,
        ignore: int | None = None,
    ) -> Array:
        logs = self._node("LogSoftmax", [logits], logits, axis=-1)  # (N, classes)
        nothing = self._number(0.0)
        share: Value | None = None  # of an example in the mean; None: all have the same
        hit = None if ignore is None else self._equal(labels, ignore)
        if hit is not None:
            labels = self.where(hit, self._table(np.zeros((), labels.dtype)), labels)
        loss = self._picked(logs, labels)
        if weights is not None:
            logs = self.multiply(logs, weights)
            share = self._node("Gather", [weights, labels], labels, dtype=self.dtype(weights))
            loss = self.multiply(loss, share)
        if smoothing:
            mixed = ((loss, 1.0 - smoothing), (self.mean(logs, axis=1), smoothing))
            loss = self.add(*(self.multiply(t, self._number(part)) for t, part in mixed))
        if hit is not None:
            loss = self.where(hit, nothing, loss)
            share = self.where(hit, nothing, share or self._number(1.0))
        if share is None:
            mean = self.mean(loss, axis=0)
        else:
            mean = self.divide(self.sum(loss, axis=0), self.sum(share, axis=0))
        return self._node("Neg", [mean], mean)

    def _picked(self, rows: Value, labels: Value) -> Value:
        """The element of each row that its label names. (N, classes), (N,) -> (N,)"""
        column = self.reshape(labels, (-1, 1))
        picked = self._node("GatherElements", [rows, column], column, dtype=rows.dtype, axis=1)
        return self.reshape(picked, labels.shape)

    def _equal(self, x: Value, number: int) -> Value:
        other = self._table(np.array(number, x.dtype))
        return self._node("Equal", [x, other], x, dtype=BOOLEAN)

    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        linear = self.subtract(self.relu(logits), self.multiply(logits, targets))
        magnitude = self._node("Neg", [self.absolute(logits)], logits)
        return self._averaged(self.add(linear, self.softplus(magnitude)))

    def mse(self, x: Array, target: Array) -> Array:
        distance = self.subtract(x, target)
        return self._averaged(self.multiply(distance, distance))

    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        distance = self.subtract(x, target)
        size, edge = self.absolute(distance), self._number(beta)
        near = self.multiply(self.multiply(distance, distance), self._number(0.5 / beta))
        far = self.subtract(size, self._number(beta / 2))
        return self._averaged(self.where(self.greater(edge, size), near, far))

    def _averaged(self, x: Value) -> Value:
        return self.mean(x, axis=range(len(x.shape)))

    # -- chance --------------------------------------------------------------------------------

    def dropout(self, x: Array, *, rate: float, seed: int) -> Array:
        raise Unsupported(INFERENCE_ONLY)

    # -- forms ---------------------------------------------------------------------------------

    def gradient(self, function: Callable[..., Array], *xs: Array) -> tuple[Array, ...]:
        raise Unsupported(INFERENCE_ONLY)

    def stop_gradient(self, x: Array) -> Array:
        return x

    def custom_gradient(
        self,
        function: Callable[[Array], Array],
        backward: Callable[[Array, Array], Array],
        x: Array,
    ) -> Array:
        raise Unsupported(INFERENCE_ONLY)

    def per_example(self, function: Callable[..., Array], *xs: Array) -> Array:
        raise Unsupported("ONNX has no vectorising map")

    def cond(
        self,
        predicate: Array,
        true: Callable[..., Array],
        false: Callable[..., Array],
        *operands: Array,
    ) -> Array:
        (then, made), (otherwise, _) = (
            self._subgraph([], lambda branch=branch: [branch(*operands)])
            for branch in (true, false)
        )
        return self._node(
            "If", [predicate], made[0], dtype=self.dtype(made[0]),
            then_branch=then, else_branch=otherwise,
        )  # fmt: skip

    def while_loop(
        self,
        condition: Callable[[Array], Array],
        body: Callable[[Array], Array],
        state: Array,
    ) -> Array:
        def step(turn: Value, go_on: Value, state: Value) -> list[Value]:
            state = body(state)
            return [condition(state), state]

        inputs = [
            Value((), self._fresh("turn"), dtype=INTEGER),
            Value((), self._fresh("go_on"), dtype=BOOLEAN),
            Value(state.shape, self._fresh("state"), dtype=state.dtype),
        ]
        graph, _ = self._subgraph(inputs, step)
        first = condition(state)
        dtype = self.dtype(state)
        return self._node("Loop", [None, first, state], state, dtype=dtype, body=graph)

    def scan(self, body: Callable[[State, Array], State], state: State, xs: Array) -> State:
        states = state if isinstance(state, tuple) else (state,)

        def step(*values: Value) -> tuple[Value, ...]:
            *old, x = values
            new = body(tuple(old) if isinstance(state, tuple) else old[0], x)
            return new if isinstance(new, tuple) else (new,)

        inputs = [Value(s.shape, self._fresh("state"), dtype=s.dtype) for s in states]
        inputs.append(Value(xs.shape[1:], self._fresh("x"), dtype=xs.dtype))
        graph, _ = self._subgraph(inputs, step)
        dtypes = [s.dtype for s in states]
        last = self._nodes(
            "Scan", [*states, xs], states, dtypes=dtypes, body=graph, num_scan_inputs=1
        )
        return tuple(last) if isinstance(state, tuple) else last[0]


def _three(n: int | Sequence[int]) -> list[int]:
    return [n] * 3 if isinstance(n, int) else list(n)


def _lowest(dtype: np.dtype) -> np.ndarray:
    """The most negative number of a floating-point dtype."""
    return np.array(ml_dtypes.finfo(dtype).min, dtype)
