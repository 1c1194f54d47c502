"""Which parameters of a model are weights of layers, found over shapes alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapters import model as models
from adapters import trees
from adapters.base import Network, Spec, require
from adapters.counting_ops import CountingOps, Shaped
from adapters.ops import FORMS, NAMES, Ops

#: Where layers have weights: operation -> positions among its arguments.
LAYERS = {"dense": (1,), "conv2d": (1,), "lstm": (3, 4), "gru": (2, 3)}
#: Where other contractions have tensors.
OTHERS = {
    "matmul": (0, 1), "conv3d": (1,), "conv_transpose2d": (1,), "conv_transpose3d": (1,),
}  # fmt: skip
LEAST = 0.5  # of the elements of all weights have to be in layers


def of(
    spec: Spec, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]
) -> list[str]:
    """The names of the parameters that are weights of dense layers, two-dimensional convolutions or
    recurrences, and nothing else; not those used inside of loops and branches. Raises Unsupported
    where less than half of the elements of all weights of contractions are in them."""
    model = models.get(spec.model)
    config = model.config(spec.size, spec.length)
    tensors = {name: Shaped(value.shape) for name, value in {**params, **buffers}.items()}
    one = models.one(model, spec.size, spec.length)
    example = {name: Shaped(value.shape) for name, value in one.items()}
    ops = _Noting({name: tensors[name] for name in params})
    Network(ops, model, config, spec.mode).forward(tensors, trees.part(example, "x"))
    layers = [name for name in params if ops.uses.get(name) == {"layer"}]
    every = [name for name in params if ops.uses.get(name, set()) & {"layer", "contraction"}]
    sizes = {name: params[name].size for name in every}
    share = sum(sizes[name] for name in layers) / max(1, sum(sizes.values()))
    require(
        share >= LEAST,
        f"only {share:.0%} of the weights of this model are those of dense layers, two-dimensional "
        "convolutions and recurrences outside of loops, which are what is quantized",
    )
    return layers


class _Noting(Ops):
    """The vocabulary over shapes. `uses` tells of each parameter what it was: the weight of a
    "layer", a part of another "contraction", or something "else"."""

    def __init__(self, params: Mapping[str, Shaped]) -> None:
        self._inner = CountingOps()
        self._names = {id(value): name for name, value in params.items()}
        self._inside = 0  # of loops and branches
        self.uses: dict[str, set[str]] = defaultdict(set)

    def _run(self, op: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        for position, value in [*enumerate(arguments), *((-1, v) for v in keywords.values())]:
            for tensor in value if isinstance(value, list | tuple) else (value,):
                if id(tensor) in self._names:
                    self.uses[self._names[id(tensor)]].add(self._use(op, position))
        self._inside += op in FORMS
        result = getattr(self._inner, op)(*arguments, **keywords)
        self._inside -= op in FORMS
        return result

    def _use(self, op: str, position: int) -> str:
        if position in LAYERS.get(op, ()):
            return "contraction" if self._inside else "layer"
        return "contraction" if position in OTHERS.get(op, ()) else "else"


def _operation(name: str) -> Any:
    def op(self: _Noting, *arguments: Any, **keywords: Any) -> Any:
        return self._run(name, arguments, keywords)

    op.__name__ = name
    return op


def _asking(name: str) -> Any:
    """An operation that uses nothing of a tensor but its description."""

    def op(self: _Noting, *arguments: Any, **keywords: Any) -> Any:
        return getattr(self._inner, name)(*arguments, **keywords)

    op.__name__ = name
    return op


for _name in NAMES + FORMS:
    asks = _name in ("shape", "dtype_of", "constant")
    setattr(_Noting, _name, (_asking if asks else _operation)(_name))
