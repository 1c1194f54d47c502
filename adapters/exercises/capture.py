"""A whole model as one exercise that also returns what every operation in it gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adapters import model as models
from adapters import trees
from adapters.base import Network
from adapters.ops import FORMS, NAMES, Array, Ops, Unsupported

SLASH = "|"  # stands for the slash of a parameter's name, which in an exercise means a sequence


class CapturingOps(Ops):
    """`inner`, remembering every result of an operation.

    taps    results to which something is added: the gradient by a tap is that by the result

    `results` are the values in order, `names` what gave them, and `origins` the numbers of the
    results, or the names of the parameters, that each was computed from.
    """

    def __init__(self, inner: Ops, known: Mapping[str, Array], taps: Mapping[str, Array]) -> None:
        self._inner = inner
        self._taps = taps
        self._origin: dict[int, int | str] = {id(value): name for name, value in known.items()}
        self._alive: list[Any] = list(known.values())  # an id is that of a live object
        self.results: list[Array] = []
        self.names: list[str] = []
        self.origins: list[list[int | str]] = []
        self.quiet = False  # inside a form's functions nothing is kept

    def shape(self, x: Array) -> tuple[int, ...]:
        return self._inner.shape(x)

    def constant(self, value: np.ndarray) -> Array:
        return self._inner.constant(value)

    def run(self, name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """One operation of `inner`, with its results kept."""
        made = getattr(self._inner, name)(*arguments, **keywords)
        if self.quiet:
            return made
        flat = [*arguments, *keywords.values()]
        flat += [part for value in flat if isinstance(value, list | tuple) for part in value]
        origins = [self._origin[id(value)] for value in flat if id(value) in self._origin]
        if isinstance(made, tuple):
            return tuple(self._keep(name, value, origins) for value in made)
        return self._keep(name, made, origins)

    def _keep(self, name: str, value: Array, origins: list[int | str]) -> Array:
        number = len(self.results)
        tap = self._taps.get(f"tap{number}")
        value = value if tap is None else self._inner.add(value, tap)
        self.results.append(value)
        self.names.append(name)
        self.origins.append(origins)
        self._alive.append(value)
        self._origin[id(value)] = number
        return value


def _capturing(name: str) -> Any:
    def op(self: CapturingOps, *arguments: Any, **keywords: Any) -> Any:
        return self.run(name, arguments, keywords)

    op.__name__ = name
    return op


for _name in NAMES:
    if _name not in (*vars(CapturingOps), "flatten"):  # which is a reshape
        setattr(CapturingOps, _name, _capturing(_name))


def _form(name: str) -> Any:
    """A form is one operation: what its functions do is not looked into, since a framework may
    trace them."""

    def form(self: CapturingOps, *arguments: Any, **keywords: Any) -> Any:
        if self.quiet:
            return getattr(self._inner, name)(*arguments, **keywords)
        self.quiet = True
        try:
            made = getattr(self._inner, name)(*arguments, **keywords)
        finally:
            self.quiet = False
        origins = [self._origin[id(value)] for value in arguments if id(value) in self._origin]
        if isinstance(made, tuple):
            return tuple(self._keep(name, value, origins) for value in made)
        return self._keep(name, made, origins)

    form.__name__ = name
    return form


for _name in FORMS:
    setattr(CapturingOps, _name, _form(_name))


def captured(
    ops: Ops, *, model: str, size: str, length: int, mode: str, **tensors: Array
) -> tuple[Array, ...]:
    """Every operation's result, in order; in training the last one is the loss."""
    return tuple(capture(ops, model=model, size=size, length=length, mode=mode, **tensors).results)


def capture(
    ops: Ops, *, model: str, size: str, length: int, mode: str, **tensors: Array
) -> CapturingOps:
    """The same, with names and origins. `tensors` are parameters and buffers by name, a batch as
    "x" and "y" or parts of them, with SLASH for slashes, and taps."""
    named = {name.replace(SLASH, "/"): value for name, value in tensors.items()}
    taps = {name: value for name, value in named.items() if name.startswith("tap")}
    batch = {name: value for name, value in named.items() if name.split("/")[0] in ("x", "y")}
    p = {name: value for name, value in named.items() if name not in {**taps, **batch}}
    capturing = CapturingOps(ops, p, taps)
    found = models.get(model)
    network = Network(capturing, found, found.config(size, length), mode)
    if mode == "train":
        loss, _, _ = network.loss(p, trees.part(batch, "x"), trees.part(batch, "y"))
        if loss is not capturing.results[-1]:
            raise Unsupported("the last operation of training does not give the loss")
    else:
        network.forward(p, trees.part(batch, "x"))
    return capturing
