"""Which parameters of a model are weights of layers, as PyTorch's vocabulary is asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from adapters import model as models
from adapters import trees
from adapters.base import Spec
from adapters.ops import Array
from adapters.torch_ops import TorchOps
from adapters.unfused import Unfused

HALF = 0.5  # of the elements of all weights of layers, at least, have to be integers


@dataclass(frozen=True)
class Call:
    """One layer with a parameter as its weight. `bias` is empty where it has none, and `inner` is
    the shape of what comes in, without its first axis."""

    op: str
    weight: str
    bias: str
    inner: tuple[int, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)


class Finder(Unfused, TorchOps):
    """The vocabulary on a device that computes nothing, but notes weights by their identity.

    calls       of dense and conv2d, in their order
    elements    of the weights of all contractions, those of other operations as well
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__(torch.float32, "meta")
        self._names = {id(value): name for name, value in tensors.items()}
        self.calls: list[Call] = []
        self.elements: dict[str, int] = {}

    def share(self, weights: set[str]) -> float:
        """What part of all elements these weights have."""
        return sum(self.elements[name] for name in weights) / max(1, sum(self.elements.values()))

    def dense(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self._note("dense", x, w, b, {})
        return super().dense(x, w, b)

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
        self._note("conv2d", x, w, b, sizes)
        return super().conv2d(x, w, b, **sizes)

    def conv3d(self, x: Array, w: Array, b: Array | None = None, **sizes: Any) -> Array:
        self._count(w)
        return super().conv3d(x, w, b, **sizes)

    def conv_transpose2d(self, x: Array, w: Array, b: Array | None = None, **sizes: Any) -> Array:
        self._count(w)
        return super().conv_transpose2d(x, w, b, **sizes)

    def conv_transpose3d(self, x: Array, w: Array, b: Array | None = None, **sizes: Any) -> Array:
        self._count(w)
        return super().conv_transpose3d(x, w, b, **sizes)

    def matmul(self, a: Array, b: Array) -> Array:
        self._count(b)
        return super().matmul(a, b)

    def _note(self, op: str, x: Array, w: Array, b: Array | None, sizes: Mapping[str, int]) -> None:
        if name := self._names.get(id(w)):
            bias = "" if b is None else self._names[id(b)]
            self.calls.append(Call(op, name, bias, tuple(x.shape[1:]), sizes))
        self._count(w)

    def _count(self, w: torch.Tensor) -> None:
        if name := self._names.get(id(w)):  # a view of it is for another use
            self.elements[name] = w.numel()


def find(
    spec: Spec, params: Mapping[str, Any], buffers: Mapping[str, Any], *, like: trees.Tree = None
) -> Finder:
    """The weights of the model, from a run without numbers on one of its examples, or on inputs
    `like` these: a recurrence has as many calls as they have positions."""
    empty = {n: torch.empty(np.shape(v), device="meta") for n, v in {**params, **buffers}.items()}
    finder = Finder(empty)
    if like is None:
        model = models.get(spec.model)
        batch = models.one(model, spec.size, spec.length)
        x = trees.over(_empty, trees.part(batch, "x"))
    else:
        x = trees.over(lambda tensor: tensor.to("meta"), like)
    with torch.no_grad():
        replace(spec, noise=None, fault="").network(finder).forward(empty, x)
    return finder


def _empty(value: np.ndarray) -> torch.Tensor:
    dtype = torch.float32 if value.dtype.kind == "f" else torch.from_numpy(value).dtype
    return torch.empty(value.shape, dtype=dtype, device="meta")
