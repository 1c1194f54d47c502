"""Runs a program on one batch after the other, as no single batch could try it: what it keeps of
earlier calls, what it does to its input, and what it reads that nobody wrote.

Each batch is brought to the device, used, and then overwritten: a result that changes with it was
no result but a view of the input. Judged calls find free memory full of a byte that makes large
numbers, and one of them is repeated over another such byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from adapters import trees
from harness import memory

Tensors = Mapping[str, np.ndarray]

#: Before the name of a tensor: what a call gave again over other free memory, where that differs.
AGAIN = "again:"
#: What free memory is full of, in the judged call and in the one after it. As floating-point
#: numbers: -1.7e38 and 3.4e38 in float32 and bfloat16, -5e303 and 1.4e306 in float64, NaN in
#: float16; a maximum hides the first, a minimum the second.
FILLS = (0xFE, 0x7F)


class Divergent(Exception):
    """What a program did is wrong whatever the numbers are. The text says what, for people."""


class Guest:
    """A batch while a program has it."""

    def __init__(self, program: Any, batch: Tensors) -> None:
        self._program, self._batch = program, batch
        self._host = {name: np.array(value) for name, value in batch.items()}
        self.placed = program.put(self._host)
        self._before = [np.array(held) for held in program.memory_of(self.placed)]

    def require_unchanged(self) -> None:
        """Raises Divergent where the program wrote to its input."""
        changed = [n for n, value in self._batch.items() if not _same(value, self._host[n])]
        held = self._program.memory_of(self.placed)
        if changed or not all(map(_same, self._before, held)):
            told = f" {', '.join(changed)}" if changed else ""
            raise Divergent(f"the call changed its input{told}, which it was only to read")

    def overwrite(self) -> None:
        """Turns every bit of the batch, on the host and, where anybody can write there, in the
        framework's memory."""
        for held in (*self._host.values(), *self._program.memory_of(self.placed)):
            if held.flags.writeable and held.flags.c_contiguous:
                bits = held.reshape(-1).view(np.uint8)
                np.invert(bits, out=bits)


@contextmanager
def guest(program: Any, batch: Tensors) -> Iterator[Guest]:
    """A batch that the program has inside, may not change, and finds overwritten afterwards."""
    there = Guest(program, batch)
    yield there
    there.require_unchanged()
    there.overwrite()


def infer(program: Any, batches: Mapping[str, Tensors], *, repeat: bool) -> dict[str, np.ndarray]:
    """The outputs for `batches` in turn, each under its own name. With `repeat`, the first is run
    again over other free memory. Raises Divergent."""
    tensors: dict[str, np.ndarray] = {}
    for name, batch in batches.items():
        with guest(program, batch) as there:
            fill = FILLS[0]
            value, first = _output(program, there, name, fill)
            last = first
            if repeat and not tensors:
                fill = FILLS[1]
                value, last = _output(program, there, name, fill)
        with memory.filled(fill):
            later = _named(program, value, name)
        if _differing(later, last):
            raise Divergent("the output changed when its input was overwritten: it is a view of it")
        tensors |= {**first, **_differing(last, first)}
    return tensors


def _output(program: Any, there: Guest, name: str, fill: int) -> tuple[Any, dict[str, np.ndarray]]:
    """What a step returned, and its tensors."""
    with memory.filled(fill):
        value = program.step(there.placed)
        return value, _named(program, value, name)


def _named(program: Any, value: Any, name: str) -> dict[str, np.ndarray]:
    return {n: np.array(t) for n, t in trees.named(program.fetch(value), name).items()}


def twice(call: Callable[[], Tensors], *, repeat: bool) -> dict[str, np.ndarray]:
    """What `call` gives; and, with `repeat`, what it gives otherwise over other free memory."""
    with memory.filled(FILLS[0]):
        first = call()
    if not repeat:
        return dict(first)
    with memory.filled(FILLS[1]):
        return {**first, **_differing(call(), first)}


def _differing(second: Tensors, first: Tensors) -> dict[str, np.ndarray]:
    """The tensors of a second call that are not those of the first, by AGAIN and their names."""
    return {AGAIN + n: value for n, value in second.items() if not _equal(value, first[n])}


def split(tensors: Tensors) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(the tensors, those of them that a repeated call gave otherwise), both by their names."""
    again = {n.removeprefix(AGAIN): t for n, t in tensors.items() if n.startswith(AGAIN)}
    return {n: t for n, t in tensors.items() if not n.startswith(AGAIN)}, again


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two results are equal, NaN to NaN."""
    floats = a.dtype.kind == "f" and a.dtype == b.dtype
    return _same(a, b) or (floats and np.array_equal(a, b, equal_nan=True))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal in every bit."""
    return (a.shape, a.dtype) == (b.shape, b.dtype) and a.tobytes() == b.tobytes()
