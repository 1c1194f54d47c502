"""PyTorch as its users write it: nn.Module, torch.optim, clip_grad_norm_."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from adapters import model as models
from adapters import torch_eager, trees
from adapters.base import Gradients, Probe, Spec, State, Unsupported, require
from adapters.models import convnet, gpt, vit
from adapters.trees import Tree


def sequential(**layers: nn.Module) -> nn.Sequential:
    """Layers under their names."""
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    return network


def mlp(config: Any) -> nn.Module:
    return sequential(
        flatten=nn.Flatten(), fc1=nn.Linear(config.side**2, config.hidden), relu=nn.ReLU(),
        fc2=nn.Linear(config.hidden, 10),
    )  # fmt: skip


def conv_net(config: Any) -> nn.Module:
    first, second = config.channels
    norm = {"eps": convnet.EPSILON, "momentum": convnet.MOMENTUM}
    return sequential(
        conv1=nn.Conv2d(1, first, 3, padding=1, bias=False), norm1=nn.BatchNorm2d(first, **norm),
        relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(first, second, 3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(second, **norm), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(), head=nn.Linear((config.side // 4) ** 2 * second, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, s, d = x.shape
        qkv = self.qkv(x).reshape(n, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(x.transpose(1, 2).reshape(n, s, d))


class Block(nn.Module):
    def __init__(
        self, width: int, heads: int, *, epsilon: float, activation: nn.Module, causal: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = sequential(
            fc1=nn.Linear(width, 4 * width), activation=activation, fc2=nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        d = config.width
        self.patch = nn.Conv2d(config.channels, d, config.patch, stride=config.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, d))
        self.position = nn.Parameter(torch.empty(1, config.tokens, d))
        self.blocks = nn.Sequential(
            *(
                Block(d, config.heads, epsilon=vit.EPSILON, activation=nn.GELU())
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(d, eps=vit.EPSILON)
        self.head = nn.Linear(d, config.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)  # (N, S - 1, D)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Gpt(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        d = config.width
        self.tokens = nn.Embedding(config.vocabulary, d)
        self.positions = nn.Embedding(config.positions, d)
        self.blocks = nn.Sequential(
            *(
                Block(d, config.heads, epsilon=gpt.EPSILON, activation=nn.GELU("tanh"), causal=True)
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(d, eps=gpt.EPSILON)
        self.head = nn.Linear(d, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.tokens(ids) + self.positions(places)  # (N, S, D)
        return self.head(self.norm(self.blocks(x)))


NETWORKS: dict[str, Callable[[Any], nn.Module]] = {
    "mlp": mlp, "convnet": conv_net, "vit": VisionTransformer, "gpt": Gpt
}  # fmt: skip

#: What a model calls a tensor of a layer -> what PyTorch calls it.
LEAVES = {
    "w": "weight", "b": "bias", "scale": "weight", "offset": "bias", "mean": "running_mean",
    "var": "running_var", "tokens": "tokens.weight", "positions": "positions.weight",
}  # fmt: skip


class Adapter(torch_eager.Adapter):
    def program(self, spec: Spec) -> Program:
        require(spec.model in NETWORKS, f"there is no native PyTorch control of {spec.model}")
        return Program(spec)

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through torch_eager")


class Program(torch_eager.Program):
    """Runs a module, whose parameters are `_params` under the module's own names. Each tensor of
    the model is one of them, or several side by side."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        recipe = spec.training
        plain = not recipe.frozen and not recipe.average
        require(plain or not spec.trains, "no native control freezes parameters or averages them")
        self._config = models.get(spec.model).config(spec.size, spec.length)
        self._module = self.network().to(**self._like)
        self._module.train(spec.trains)

    def network(self) -> nn.Module:
        """The module; its parameters may have any values."""
        return NETWORKS[self._spec.model](self._config)

    def paths(self, name: str) -> tuple[str, ...]:
        """The module's tensors that make up a tensor of the model, side by side in its last
        axis."""
        *owners, leaf = re.sub(r"^block(\d+)/", r"blocks/\1/", name).split("/")
        return (".".join((*owners, LEAVES.get(leaf, leaf))),)

    def predict(self, x: Tree) -> Tree:
        """The output of the module."""
        return self._module(x)

    def loss(self, output: Tree, y: Tree) -> torch.Tensor:
        """As PyTorch's users write it: logits (N, ..., classes) against labels (N, ...)."""
        return F.cross_entropy(output.flatten(0, -2), y.flatten())

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._params = dict(self._module.named_parameters())
        own = self._params | dict(self._module.named_buffers())
        self._shapes = {name: value.shape for name, value in {**params, **buffers}.items()}
        self._buffers = {path: own[path] for name in buffers for path in self.paths(name)}
        given = {path for name in params for path in self.paths(name)}
        require(given == set(self._params), f"no value for {sorted(given ^ set(self._params))}")
        with torch.no_grad():
            for name, value in {**params, **buffers}.items():
                paths = self.paths(name)
                parts = np.split(value, len(paths), axis=-1)
                for path, part in zip(paths, parts, strict=True):
                    tensor = torch.tensor(part, **self._like)
                    own[path].copy_(self._native(name, path, tensor).view_as(own[path]))
        if self._spec.trains:
            self._trained, self._averages = self._params, {}
            self._make_optimizer()

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        x, y = super().put(batch)
        return trees.over(_images_first, x), y

    def step(self, batch: Any) -> Any:
        if self._spec.trains:
            return super().step(batch)
        with torch.inference_mode():
            output = self.predict(batch[0])
        self._output_dtype = trees.dtypes(output, torch_eager.dtype_name)
        return output

    def _add_gradients(self, x: Tree, y: Tree, parts: int = 1) -> tuple[torch.Tensor, Tree]:
        output = self.predict(x)
        loss = self.loss(output, y)
        (loss if parts == 1 else loss / parts).backward()
        self._output_dtype = trees.dtypes(output, torch_eager.dtype_name)
        return loss.detach(), output

    def _clip(self) -> None:
        recipe = self._recipe
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._module.parameters(), recipe.clip_norm)
        if recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self._module.parameters(), recipe.clip_value)

    def gradients(self, batch: Any) -> Gradients:
        before = {path: b.clone() for path, b in self._buffers.items()}
        loss, output = self._backward(*batch)
        for path, value in before.items():
            self._buffers[path].copy_(value)
        gradients = {path: p.grad for path, p in self._params.items()}
        return Gradients(self.fetch(loss), self.fetch(output), self._boundary(gradients))

    def state(self) -> State:
        return State(self._boundary(self._params), self._boundary(self._buffers))

    def _boundary(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Tensors by the module's names -> arrays by the model's, in the boundary's layout."""
        found = {}
        for name, shape in self._shapes.items():
            paths = self.paths(name)
            if paths[0] in tensors:
                parts = [self.fetch(self._ours(name, path, tensors[path])) for path in paths]
                found[name] = np.concatenate(parts, axis=-1).reshape(shape)
        return found

    def _native(self, name: str, path: str, tensor: torch.Tensor) -> torch.Tensor:
        """From the boundary's layout to the module's."""
        if self._is_flattened_image(name):
            side, channels = self._config.side // 4, self._config.channels[1]
            tensor = tensor.reshape(side, side, channels, -1).permute(2, 0, 1, 3).flatten(0, 2)
        layer = self._module.get_submodule(path.rpartition(".")[0])
        if path.endswith(".weight") and isinstance(layer, nn.Linear):
            return tensor.t().contiguous()
        if path.endswith(".weight") and isinstance(layer, nn.Conv2d):
            return tensor.permute(3, 2, 0, 1).contiguous()
        return tensor

    def _ours(self, name: str, path: str, tensor: torch.Tensor) -> torch.Tensor:
        """The way back."""
        layer = self._module.get_submodule(path.rpartition(".")[0])
        if path.endswith(".weight") and isinstance(layer, nn.Linear):
            tensor = tensor.t()
        if path.endswith(".weight") and isinstance(layer, nn.Conv2d):
            tensor = tensor.permute(2, 3, 1, 0)
        if self._is_flattened_image(name):
            side, channels = self._config.side // 4, self._config.channels[1]
            tensor = tensor.reshape(channels, side, side, -1).permute(1, 2, 0, 3).flatten(0, 2)
        return tensor

    def _is_flattened_image(self, name: str) -> bool:
        """Weights whose inputs are a flattened image: (h, w, C) here, (C, h, w) in a module."""
        return self._spec.model == "convnet" and name == "head/w"


def _images_first(tensor: torch.Tensor) -> torch.Tensor:
    """Images as NCHW, in channels_last order; everything else as it is."""
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
