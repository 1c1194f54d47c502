"""Programs that are right on the first batch that they see: what they keep, what they do to their
input, and what they read is wrong. Planted by `adapters.faults`, around any adapter's program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adapters import trees

SCRATCH = 2**16  # float32 elements of memory that nobody writes


@dataclass(frozen=True)
class Batch:
    """What `put` was given, what it made of that, and a copy that nobody else can change."""

    host: Mapping[str, np.ndarray]
    placed: Any
    own: Any


class Faulty:
    """`inner`, from whose methods a subclass changes some."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, batch: Mapping[str, np.ndarray]) -> Batch:
        copies = {name: np.array(value) for name, value in batch.items()}
        return Batch(batch, self._inner.put(batch), self._inner.put(copies))

    def memory_of(self, batch: Batch) -> list[np.ndarray]:
        return self._inner.memory_of(batch.placed)

    def gradients(self, batch: Batch) -> Any:
        return self._inner.gradients(batch.placed)

    def step(self, batch: Batch) -> Any:
        return self._inner.step(batch.placed)


class _Outputs(Faulty):
    """Its steps return outputs as NumPy arrays, which the next step leaves as they are."""

    def step(self, batch: Batch) -> Any:
        return self._inner.fetch(self._inner.step(batch.placed))

    def fetch(self, value: Any) -> Any:
        return value


class Stale(_Outputs):
    """Each step returns the output of the step before."""

    _last: Any = None

    def step(self, batch: Batch) -> Any:
        output = super().step(batch)
        stale, self._last = self._last, output
        return output if stale is None else stale


class StaleOnce(_Outputs):
    """The third step returns the output of the second."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._outputs: list[Any] = []

    def step(self, batch: Batch) -> Any:
        self._outputs.append(super().step(batch))
        return self._outputs[1 if len(self._outputs) == 3 else -1]


class Baked(Faulty):
    """The first batch is part of the program."""

    _first: Any = None

    def step(self, batch: Batch) -> Any:
        self._first = self._first or batch
        return self._inner.step(self._first.own)


class BatchBefore(Faulty):
    """A step sees the batch of the step before it."""

    _last: Any = None

    def step(self, batch: Batch) -> Any:
        last, self._last = self._last or batch, batch
        return self._inner.step(last.own)


class View(Faulty):
    """The output is computed when it is looked at, from what the input is then."""

    def step(self, batch: Batch) -> Any:
        return batch

    def wait(self, value: Any) -> None:
        """There is nothing to wait for."""

    def fetch(self, value: Batch) -> Any:
        return self._inner.fetch(self._inner.step(self._inner.put(value.host)))


class InputChanged(Faulty):
    """A step works in place: its input is half of what it was, afterwards."""

    def step(self, batch: Batch) -> Any:
        value = self._inner.step(batch.placed)
        self._inner.wait(value)
        for array in (*batch.host.values(), *self._inner.memory_of(batch.placed)):
            if array.dtype.kind == "f" and array.flags.writeable:
                array *= 0.5
        return value


class Unwritten(Faulty):
    """What free memory holds is added to the results, unless it is negative."""

    def fetch(self, value: Any) -> Any:
        return trees.over(lambda array: array + _garbage(), self._inner.fetch(value))

    def gradients(self, batch: Batch) -> Any:
        found = self._inner.gradients(batch.placed)
        return replace(found, loss=found.loss + _garbage())


def _garbage() -> np.float32:
    return np.maximum(np.empty(SCRATCH, np.float32).max(), np.float32(0))


class Counting(Faulty):
    """Counts the steps since it was loaded; by itself it is right."""

    _steps = 0

    def load(self, *state: Any) -> None:
        self._steps = 0
        self._inner.load(*state)

    def step(self, batch: Batch) -> Any:
        self._steps += 1
        return self._inner.step(batch.placed)


class MomentumLost(Counting):
    """From some step on, nothing is left of what the optimizer kept."""

    LAST = 100  # step that is right

    def step(self, batch: Batch) -> Any:
        if self._steps >= self.LAST:
            state = self._inner.state()
            nothing = {
                letter: {name: np.zeros_like(value) for name, value in kept.items()}
                for letter, kept in state.slots.items()
            }
            self._inner.resume(replace(state, slots=nothing))
        return super().step(batch)


class FirstLosses(Counting):
    """The losses of the first steps are told 1% too large; what is learnt is right."""

    LAST = 3  # step whose loss is wrong

    def fetch(self, value: Any) -> Any:
        loss = self._inner.fetch(value)
        return loss * 1.01 if self._steps <= self.LAST else loss


class ChannelScaled(Faulty):
    """One channel of the first layer is scaled back with 1% more than the scale that is told."""

    def layers(self, batch: Batch) -> list[Any]:
        first, *others = self._inner.layers(batch.placed)
        y = np.array(first.y)
        y[..., :1] *= 1.01
        return [replace(first, y=y), *others]
