"""PyTorch as its users write it: nn.Module, torch.optim, clip_grad_norm_."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from adapters import model as models
from adapters import torch_eager
from adapters.base import Gradients, Probe, Spec, Unsupported, require
from adapters.models import convnet, vit


def mlp(config: Any) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(config.side**2, config.hidden), nn.ReLU(),
        nn.Linear(config.hidden, 10),
    )  # fmt: skip


def conv_net(config: Any) -> nn.Module:
    first, second = config.channels
    norm = {"eps": convnet.EPSILON, "momentum": convnet.MOMENTUM}
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first, **norm),
        nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1, bias=False), nn.BatchNorm2d(second, **norm),
        nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear((config.side // 4) ** 2 * second, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, s, d = x.shape
        qkv = self.qkv(x).reshape(n, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(n, s, d))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=vit.EPSILON)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=vit.EPSILON)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        d = config.width
        self.patch = nn.Conv2d(1, d, config.patch, stride=config.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, d))
        self.position = nn.Parameter(torch.empty(1, config.tokens, d))
        self.blocks = nn.Sequential(*(Block(d, config.heads) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(d, eps=vit.EPSILON)
        self.head = nn.Linear(d, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)  # (N, S - 1, D)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


NETWORKS = {"mlp": mlp, "convnet": conv_net, "vit": VisionTransformer}


class Adapter(torch_eager.Adapter):
    def program(self, spec: Spec) -> Program:
        require(spec.model in NETWORKS, f"there is no native PyTorch control of {spec.model}")
        return Program(spec)

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through torch_eager")


class Program(torch_eager.Program):
    """Runs a module. Names, layouts and the optimizer's constants are those of `torch_eager`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._config = models.get(spec.model).sizes[spec.size]
        self._module = NETWORKS[spec.model](self._config).to(**self._like)
        self._module.train(spec.mode == "train")

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        """A module declares its parameters and buffers in the order in which the model lists
        them."""
        own = [b for name, b in self._module.named_buffers() if "num_batches" not in name]
        self._params = dict(zip(params, self._module.parameters(), strict=True))
        self._buffers = dict(zip(buffers, own, strict=True))
        with torch.no_grad():
            for name, value in {**params, **buffers}.items():
                target = self._params[name] if name in params else self._buffers[name]
                target.copy_(self._native(name, torch.tensor(value, **self._like)))
        if self._spec.mode == "train":
            self._optimizer = self._make_optimizer()

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        x, y = super().put(batch)
        return x.permute(0, 3, 1, 2), y  # NCHW, in channels_last order

    def step(self, batch: Any) -> Any:
        if self._spec.mode == "train":
            return super().step(batch)
        with torch.inference_mode():
            output = self._module(batch[0])
        self._output_dtype = output.dtype
        return output

    def _add_gradients(
        self, x: torch.Tensor, y: torch.Tensor, parts: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        output = self._module(x)
        loss = F.cross_entropy(output, y)
        (loss if parts == 1 else loss / parts).backward()
        self._output_dtype = output.dtype
        return loss.detach(), output

    def _clip(self) -> None:
        recipe = self._spec.training
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._module.parameters(), recipe.clip_norm)
        if recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self._module.parameters(), recipe.clip_value)

    def gradients(self, batch: Any) -> Gradients:
        before = {name: b.clone() for name, b in self._buffers.items()}
        loss, output = self._backward(*batch)
        for name, value in before.items():
            self._buffers[name].copy_(value)
        gradients = {n: self.fetch(self._boundary(n, p.grad)) for n, p in self._params.items()}
        return Gradients(self.fetch(loss), self.fetch(output), gradients)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        params = {n: self.fetch(self._boundary(n, p)) for n, p in self._params.items()}
        return params, {n: self.fetch(b) for n, b in self._buffers.items()}

    def _native(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """From the boundary's layout to the module's."""
        if self._is_flattened_image(name):
            side, channels = self._config.side // 4, self._config.channels[1]
            tensor = tensor.reshape(side, side, channels, -1).permute(2, 0, 1, 3).flatten(0, 2)
        if name.endswith("/w"):
            return tensor.t() if tensor.ndim == 2 else tensor.permute(3, 2, 0, 1)
        return tensor

    def _boundary(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The way back."""
        if name.endswith("/w"):
            tensor = tensor.t() if tensor.ndim == 2 else tensor.permute(2, 3, 1, 0)
        if self._is_flattened_image(name):
            side, channels = self._config.side // 4, self._config.channels[1]
            tensor = tensor.reshape(channels, side, side, -1).permute(1, 2, 0, 3).flatten(0, 2)
        return tensor

    def _is_flattened_image(self, name: str) -> bool:
        """Weights whose inputs are a flattened image: (h, w, C) here, (C, h, w) in a module."""
        return self._spec.model == "convnet" and name == "head/w"
