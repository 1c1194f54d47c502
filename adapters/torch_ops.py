"""The vocabulary in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapters import resizing
from adapters.ops import Array, Ops
from adapters.torch_forms import TorchForms

#: Floating-point dtypes by their names.
DTYPES = {
    "float16": torch.float16, "bfloat16": torch.bfloat16,
    "float32": torch.float32, "float64": torch.float64,
}  # fmt: skip


_NAMES = {dtype: name for name, dtype in DTYPES.items()}  # a policy asks for them all the time


def dtype_name(dtype: torch.dtype) -> str:
    return _NAMES.get(dtype) or str(dtype).removeprefix("torch.")


class TorchOps(TorchForms, Ops):
    """Shapes are those of the vocabulary (NHWC, HWIO, (in, out)). Weights lie in memory in the
    order that PyTorch's kernels want (`stored`), so every transposition here is a view."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self._dtype, self._device = dtype, device

    def constant(self, value: np.ndarray) -> Array:
        return torch.as_tensor(value, dtype=self._dtype, device=self._device)

    def dtype_of(self, x: Array) -> str:
        return dtype_name(x.dtype)

    def cast(self, x: Array, dtype: str) -> Array:
        known = getattr(x, "nchw", None)
        if known is not None:  # stays between two convolutions what they want
            return _nhwc(known.to(DTYPES[dtype]))
        return x.to(getattr(torch, dtype))

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return x.reshape(tuple(shape))

    def transpose(self, x: Array, axes: Sequence[int]) -> Array:
        return x.permute(tuple(axes))

    def concat(self, xs: Sequence[Array], *, axis: int) -> Array:
        return torch.cat(list(xs), dim=axis)

    def slice(self, x: Array, *, axis: int, start: int, stop: int) -> Array:
        return x.narrow(axis, start, stop - start)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return x.expand(tuple(shape))

    def pad(self, x: Array, widths: Sequence[Sequence[int]]) -> Array:
        return F.pad(x, [width for pair in reversed(widths) for width in pair])  # last axis first

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        # an index out of range raises in PyTorch, and one below 0 counts from the end
        rows = x.index_select(axis, indices.clamp(0, x.shape[axis] - 1).reshape(-1))
        return rows.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    def gather(self, x: Array, indices: Array) -> Array:
        # rows of one table: three times as fast as x.gather, which looks up every element
        first = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
        rows = x.flatten(0, 1).index_select(0, (first + indices).reshape(-1))
        return rows.reshape(*indices.shape, *x.shape[2:])

    def embedding(self, table: Array, ids: Array, *, padding_index: int | None = None) -> Array:
        return F.embedding(ids, table, padding_idx=padding_index)

    def one_hot(self, ids: Array, classes: int) -> Array:
        # F.one_hot raises for an id out of range
        return (ids[..., None] == torch.arange(classes, device=ids.device)).to(self._dtype)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return torch.where(condition, a, b)

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def subtract(self, a: Array, b: Array) -> Array:
        return a - b

    def divide(self, a: Array, b: Array) -> Array:
        return a / b

    def floor_divide(self, a: Array, b: Array) -> Array:
        return a // b

    def greater(self, a: Array, b: Array) -> Array:
        return a > b

    def maximum(self, a: Array, b: Array) -> Array:
        return torch.maximum(a, b)

    def minimum(self, a: Array, b: Array) -> Array:
        return torch.minimum(a, b)

    def clip(self, x: Array, low: float, high: float) -> Array:
        return x.clamp(low, high)

    def absolute(self, x: Array) -> Array:
        return x.abs()

    def exp(self, x: Array) -> Array:
        return x.exp()

    def log(self, x: Array) -> Array:
        return x.log()

    def sqrt(self, x: Array) -> Array:
        return x.sqrt()

    def sin(self, x: Array) -> Array:
        return x.sin()

    def cos(self, x: Array) -> Array:
        return x.cos()

    def tanh(self, x: Array) -> Array:
        return x.tanh()

    def sigmoid(self, x: Array) -> Array:
        return x.sigmoid()

    def silu(self, x: Array) -> Array:
        return F.silu(x)

    def softplus(self, x: Array) -> Array:
        return -F.logsigmoid(-x)  # F.softplus has a threshold

    def relu(self, x: Array) -> Array:
        known = getattr(x, "nchw", None)  # stays between two convolutions what they want
        return F.relu(x) if known is None else _nhwc(F.relu(known))

    def leaky_relu(self, x: Array, *, slope: float) -> Array:
        return F.leaky_relu(x, slope)

    def gelu(self, x: Array) -> Array:
        return F.gelu(x)

    def gelu_tanh(self, x: Array) -> Array:
        return F.gelu(x, approximate="tanh")

    def to_int8(self, x: Array) -> Array:
        return x.clamp(-128, 127).to(torch.int8)

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        return F.linear(x, w.t(), b)

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
        kernel = _oihw(w)
        if len(kernel) == 1:  # in float64 PyTorch wants the gradient of one channel contiguous
            kernel = kernel.contiguous()
        return _nhwc(F.conv2d(_nchw(x), kernel, b, stride, padding, dilation, groups))

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
        w = w.permute(2, 3, 0, 1)  # (C, O, h, w)
        return _nhwc(F.conv_transpose2d(_nchw(x), w, b, stride, padding, output_padding))

    def conv3d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> Array:
        y = F.conv3d(x.movedim(-1, 1), w.permute(4, 3, 0, 1, 2), b, _each(stride), _each(padding))
        return y.movedim(1, -1)

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
        w = w.permute(3, 4, 0, 1, 2)  # (C, O, d, h, w)
        y = F.conv_transpose3d(x.movedim(-1, 1), w, b, stride, padding, output_padding)
        return y.movedim(1, -1)

    def attention(
        self, q: Array, k: Array, v: Array, *, mask: Array | None = None, causal: bool = False
    ) -> Array:
        if causal and mask is not None:  # PyTorch takes one of them
            mask, causal = mask & mask.new_ones(q.shape[1], k.shape[1]).tril(), False
        if mask is not None:
            mask = torch.atleast_2d(mask)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (N, heads, S, D)
        with _kernel(q):
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return y.transpose(1, 2)

    def lstm(
        self, x: Array, h: Array, c: Array, w: Array, u: Array, b: Array
    ) -> tuple[Array, Array, Array]:
        weights = [w.t(), u.t(), b, torch.zeros_like(b)]  # it has two biases
        if torch.compiler.is_compiling() and w.requires_grad and not x.requires_grad:
            # Inductor cannot compile oneDNN's LSTM where its input needs no gradient
            x = torch.where(torch.ones((), dtype=torch.bool, device=x.device), x, b[0])
        y, h, c = torch.lstm(x, (h[None], c[None]), weights, *_ONE_LAYER)
        return y, h[0], c[0]

    def gru(
        self, x: Array, h: Array, w: Array, u: Array, b: Array, b_recurrent: Array
    ) -> tuple[Array, Array]:
        y, h = torch.gru(x, h[None], [w.t(), u.t(), b, b_recurrent], *_ONE_LAYER)
        return y, h[0]

    def sum(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return x.sum(dim=_axes(axis))

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return x.mean(dim=_axes(axis))

    def variance(self, x: Array, *, axis: int | Sequence[int], correction: int = 0) -> Array:
        return x.var(dim=_axes(axis), correction=correction)

    def max(self, x: Array, *, axis: int) -> Array:
        return x.amax(dim=axis)  # x.max would give one of those that tie the whole gradient

    def argmax(self, x: Array, *, axis: int) -> Array:
        return x.argmax(dim=axis)

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        # x.topk does not say which of those that tie it takes
        values, indices = x.sort(dim=-1, descending=True, stable=True)
        return values.narrow(-1, 0, k), indices.narrow(-1, 0, k)

    def median(self, x: Array) -> Array:
        # x.median along an axis gives one of those that tie the whole gradient, amax its share
        middle = x.detach().median(dim=-1, keepdim=True).values
        return torch.where((x == middle) | x.isnan(), x, -torch.inf).amax(dim=-1)

    def norm(self, x: Array, *, axis: int) -> Array:
        return torch.linalg.vector_norm(x, dim=axis)

    def softmax(self, x: Array) -> Array:
        return F.softmax(x, dim=-1)

    def max_pool2d(self, x: Array, *, window: int, stride: int, padding: int = 0) -> Array:
        return _nhwc(F.max_pool2d(_nchw(x), window, stride, padding))

    def avg_pool2d(
        self, x: Array, *, window: int, stride: int, padding: int = 0, include_padding: bool = True
    ) -> Array:
        y = F.avg_pool2d(_nchw(x), window, stride, padding, count_include_pad=include_padding)
        return _nhwc(y)

    def resize(
        self, x: Array, size: Sequence[int], *, method: str, antialias: bool = False
    ) -> Array:
        new, old = tuple(size), x.shape[1:3]
        if method == "nearest":
            # "nearest-exact" computes the positions in float32 and misses some: 6 to 37, say
            return x.index_select(1, _nearest(old[0], new[0], x)).index_select(
                2, _nearest(old[1], new[1], x)
            )
        stretched = antialias and any(n < o for n, o in zip(new, old, strict=True))
        grows = all(n >= o for n, o in zip(new, old, strict=True))
        if method == "bilinear" and not stretched:
            return _nhwc(F.interpolate(_nchw(x), new, mode="bilinear"))
        # Without antialias, bicubic has another coefficient and another border in PyTorch; with it
        # it has the vocabulary's, but no kernel for the short types.
        if (antialias or grows) and x.dtype in (torch.float32, torch.float64):
            return _nhwc(F.interpolate(_nchw(x), new, mode=method, antialias=True))
        rows, columns = (
            self.constant(resizing.matrix(o, n, method=method, antialias=antialias))
            for o, n in zip(old, new, strict=True)
        )
        return torch.einsum("ph,nhwc,qw->npqc", rows, x, columns)

    def rms_norm(self, x: Array, scale: Array, *, epsilon: float) -> Array:
        return F.rms_norm(x, x.shape[-1:], scale, epsilon)

    def group_norm(
        self, x: Array, scale: Array, offset: Array, *, groups: int, epsilon: float
    ) -> Array:
        # F.group_norm is this, behind a check that refuses groups of one value
        return torch.group_norm(x.movedim(-1, 1), groups, scale, offset, epsilon).movedim(1, -1)

    def layer_norm(self, x: Array, scale: Array, offset: Array, *, epsilon: float) -> Array:
        return F.layer_norm(x, x.shape[-1:], scale, offset, epsilon)

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
        if train:
            mean, var = mean.clone(), var.clone()  # F.batch_norm updates these in place
        image = x.ndim == 4
        y = F.batch_norm(
            _nchw(x) if image else x.movedim(-1, 1),
            mean,
            var,
            scale,
            offset,
            train,
            momentum=momentum,
            eps=epsilon,
        )
        return _nhwc(y) if image else y.movedim(1, -1), mean, var

    def cross_entropy(
        self,
        logits: Array,
        labels: Array,
        *,
        weights: Array | None = None,
        smoothing: float = 0.0,
        ignore: int | None = None,
    ) -> Array:
        none = -100 if ignore is None else ignore  # F's own default; no label is negative
        return F.cross_entropy(
            logits, labels, weights, ignore_index=none, label_smoothing=smoothing
        )

    def bce_with_logits(self, logits: Array, targets: Array) -> Array:
        return F.binary_cross_entropy_with_logits(logits, targets)

    def mse(self, x: Array, target: Array) -> Array:
        return F.mse_loss(x, target)

    def smooth_l1(self, x: Array, target: Array, *, beta: float) -> Array:
        return F.smooth_l1_loss(x, target, beta=beta)

    def dropout(self, x: Array, *, rate: float, seed: int) -> Array:
        # of a tensor that nothing is differentiated by: the operation has no gradient
        kept = _draw(torch.empty(x.shape, device=x.device), seed) >= rate
        return torch.where(kept, x / (1 - rate), 0.0)


#: has_biases, num_layers, dropout, train, bidirectional, batch_first
_ONE_LAYER = (True, 1, 0.0, False, False, True)


@torch.library.custom_op("assay::draw", mutates_args=())
def _draw(like: torch.Tensor, seed: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), float32. An operation of its own, because TorchDynamo cannot trace
    a generator; F.dropout would draw from the global one, whose state no seed of ours is."""
    generator = torch.Generator(like.device).manual_seed(seed)
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float32)


@_draw.register_fake
def _(like: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.empty(like.shape, device=like.device, dtype=torch.float32)


def _kernel(q: torch.Tensor) -> AbstractContextManager[None]:
    """On a CPU, the fused kernel's gradient takes six times as long in 16 bits as in float32; that
    of attention from its parts does not."""
    low = q.dtype in (torch.bfloat16, torch.float16)
    slow = low and q.device.type == "cpu" and q.requires_grad
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def _axes(axis: int | Sequence[int]) -> int | tuple[int, ...]:
    return axis if isinstance(axis, int) else tuple(axis)


def _each(n: int | Sequence[int]) -> int | tuple[int, ...]:
    """One number for all axes, or one for each."""
    return n if isinstance(n, int) else tuple(n)


def _nearest(old: int, new: int, like: torch.Tensor) -> torch.Tensor:
    """The input of every output pixel: floor((i + 1/2) old / new), in integers."""
    return (2 * torch.arange(new, device=like.device) + 1) * old // (2 * new)


def _nchw(x: Array) -> Array:
    """Of a contiguous NHWC tensor: PyTorch's channels_last. What `_nhwc` made is not turned back by
    another view: views and their gradients were 5% of a training step of resnet50."""
    known = getattr(x, "nchw", None)
    return x.permute(0, 3, 1, 2) if known is None else known


def _nhwc(x: Array) -> Array:
    y = x.permute(0, 2, 3, 1)
    y.nchw = x
    return y


def _oihw(w: Array) -> Array:
    """Of a kernel (h, w, I, O); `views` knows that of a parameter."""
    known = getattr(w, "oihw", None)
    return w.permute(3, 2, 0, 1) if known is None else known


def stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the vocabulary as PyTorch's own modules store it: a weight has its output axis
    first, so a dense one is (out, in) and a convolution's (O, h, w, I), in channels_last order."""
    return tensor.movedim(-1, 0).contiguous() if _is_weight(name, tensor) else tensor


def viewed(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The vocabulary's view of a stored tensor."""
    return tensor.movedim(0, -1) if _is_weight(name, tensor) else tensor


def _is_weight(name: str, tensor: torch.Tensor) -> bool:
    return name.endswith("/w") and tensor.ndim >= 2


def views(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {name: viewed(name, tensor) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.ndim == 4 and _is_weight(name, tensor):
            found[name].oihw = tensor.permute(0, 3, 1, 2)
    return found
