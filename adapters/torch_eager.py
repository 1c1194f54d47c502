"""PyTorch, eager."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from adapters import base
from adapters.base import Gradients, Spec, require
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


def _views(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: viewed(name, tensor) for name, tensor in tensors.items()}


class Adapter(base.Adapter):
    framework = "torch"
    ops = TorchOps

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def is_out_of_memory(self, error: BaseException) -> bool:
        allocator = isinstance(error, RuntimeError) and "not enough memory" in str(error)
        return allocator or isinstance(error, torch.OutOfMemoryError)

    def program(self, spec: Spec) -> Program:
        """A program without its state; `torch_compile` overrides this."""
        return Program(spec)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        if spec.device == "cuda":
            require(torch.cuda.is_available(), "no CUDA device: torch.cuda.is_available() is False")
        torch.set_num_threads(spec.threads)
        # fp32 means float32: no TF32 in matrix products or convolutions
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        program = self.program(spec)
        program.load(params, buffers)
        return program


class Program(base.Program):
    untimed = ""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._like = {"dtype": getattr(torch, spec.dtype), "device": spec.device}
        network = spec.network(TorchOps(**self._like))
        self._infer = self.compiled(lambda p, x: network.forward(_views(p), x)[0])
        self._loss = self.compiled(lambda p, x, y: network.loss(_views(p), x, y))
        self._output_dtype = ""

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as this program runs it; `torch_compile` overrides this."""
        return function

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        training = self._spec.mode == "train"
        self._params = {
            name: stored(name, torch.tensor(value, **self._like)).requires_grad_(training)
            for name, value in params.items()
        }
        self._buffers = {name: torch.tensor(v, **self._like) for name, v in buffers.items()}
        if training:
            self._optimizer = self._make_optimizer()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        recipe, params = self._spec.training, list(self._params.values())
        if recipe.optimizer == "sgd":
            return torch.optim.SGD(
                params, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True
            )
        return torch.optim.AdamW(
            params,
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        x = torch.tensor(batch["x"], **self._like)
        return x, torch.tensor(batch["y"], dtype=torch.int64, device=self._spec.device)

    def step(self, batch: Any) -> Any:
        x, y = batch
        if self._spec.mode == "infer":
            with torch.inference_mode():
                output = self._infer({**self._params, **self._buffers}, x)
            self._output_dtype = str(output.dtype)
            return output
        loss, output = self._backward(x, y)
        self._clip()
        self._optimizer.step()
        return loss.detach()

    def _backward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._optimizer.zero_grad(set_to_none=True)
        loss, output, buffers = self._loss({**self._params, **self._buffers}, x, y)
        loss.backward()
        self._buffers = self._buffers | {name: b.detach() for name, b in buffers.items()}
        self._output_dtype = str(output.dtype)
        return loss, output

    def _clip(self) -> None:
        max_norm = self._spec.training.clip_norm
        if max_norm is None:
            return
        # torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm; the pinned formula does not
        gradients = [p.grad for p in self._params.values()]
        norm = torch.nn.utils.get_total_norm(gradients)
        torch._foreach_mul_(gradients, torch.clamp(max_norm / norm, max=1.0))

    def wait(self, value: Any) -> None:
        if self._spec.device == "cuda":
            torch.cuda.synchronize()

    def fetch(self, value: Any) -> np.ndarray:
        return value.detach().cpu().numpy().copy()

    def gradients(self, batch: Any) -> Gradients:
        buffers = self._buffers
        loss, output = self._backward(*batch)
        self._buffers = buffers
        gradients = {n: self.fetch(viewed(n, p.grad)) for n, p in self._params.items()}
        return Gradients(self.fetch(loss), self.fetch(output), gradients)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return tuple(  # type: ignore[return-value]
            {name: self.fetch(viewed(name, t)) for name, t in tensors.items()}
            for tensors in (self._params, self._buffers)
        )

    def facts(self) -> dict[str, Any]:
        return {
            "parameter_dtypes": sorted({str(p.dtype) for p in self._params.values()}),
            "output_dtype": self._output_dtype,
            "device": str(next(iter(self._params.values())).device),
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "mkldnn": torch.backends.mkldnn.is_available(),
            "mkl": torch.backends.mkl.is_available(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "sdpa_flash": torch.backends.cuda.flash_sdp_enabled(),
        }
