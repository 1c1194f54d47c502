"""The vocabulary in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from adapters.ops import Array, Ops


class TorchOps(Ops):
    """Shapes are those of the vocabulary (NHWC, HWIO, (in, out)). Weights lie in memory in the
    order that PyTorch's kernels want (`stored`), so every transposition here is a view."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self._dtype, self._device = dtype, device

    def constant(self, value: np.ndarray) -> Array:
        return torch.as_tensor(value, dtype=self._dtype, device=self._device)

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

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def relu(self, x: Array) -> Array:
        return F.relu(x)

    def gelu(self, x: Array) -> Array:
        return F.gelu(x)

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        return F.linear(x, w.t(), b)

    def conv2d(
        self, x: Array, w: Array, b: Array | None = None, *, stride: int = 1, padding: int = 0
    ) -> Array:
        y = F.conv2d(_nchw(x), w.permute(3, 2, 0, 1), b, stride=stride, padding=padding)
        return _nhwc(y)

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (N, heads, S, D)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def mean(self, x: Array, *, axis: int | Sequence[int]) -> Array:
        return x.mean(dim=axis if isinstance(axis, int) else tuple(axis))

    def softmax(self, x: Array) -> Array:
        return F.softmax(x, dim=-1)

    def max_pool2d(self, x: Array, *, window: int, stride: int) -> Array:
        return _nhwc(F.max_pool2d(_nchw(x), window, stride))

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
        y = F.batch_norm(
            x.movedim(-1, 1), mean, var, scale, offset, train, momentum=momentum, eps=epsilon
        )
        return y.movedim(1, -1), mean, var

    def cross_entropy(self, logits: Array, labels: Array) -> Array:
        return F.cross_entropy(logits, labels)


def _nchw(x: Array) -> Array:
    return x.permute(0, 3, 1, 2)  # of a contiguous NHWC tensor: PyTorch's channels_last


def _nhwc(x: Array) -> Array:
    return x.permute(0, 2, 3, 1)


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
    return {name: viewed(name, tensor) for name, tensor in tensors.items()}
