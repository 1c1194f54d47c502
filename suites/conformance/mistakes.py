"""Mistakes that any operation can have, planted in NumPy's vocabulary: which exercises notice them
decides what is asked where there is time for a few only (`suites.conformance.essentials`).

Beside those that are made up for one operation (`adapters.faults`), each of these is a kind: it is
planted in every operation, and lives in those where some exercise notices it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adapters import faults
from adapters.numpy_reference import NumpyOps
from adapters.ops import Ops
from numerics.exercises import Exercise

#: (the sound operation, its arguments) -> a result that may be wrong.
Change = Callable[..., Any]
SLIGHTLY = 1e-7  # beyond the gate of float64, and seen by it alone
BARELY = 1e-12  # within it: an exact exercise alone sees this
BATCH = 16  # examples after which a tiled kernel begins its second tile
THRESHOLD = 64  # elements along one axis after which a kernel may take another way


class Planted(NumpyOps):
    """NumPy's vocabulary with `change` in place of the operation `name`."""

    def __init__(self, name: str, change: Change) -> None:
        sound = getattr(NumpyOps(), name)
        setattr(self, name, lambda *args, **keywords: change(sound, *args, **keywords))


def of(subject: str, exercises: Sequence[Exercise]) -> Iterator[tuple[str, Ops]]:
    """Names and vocabularies of the mistakes that are planted in an operation of which these are
    the exercises: the kinds, every argument stuck at its usual value, and `adapters.faults`."""
    for kind, change in KINDS.items():
        yield kind, Planted(subject, change)
    for argument, usual in _arguments(exercises).items():
        yield f"{argument} is always {usual!r}", Planted(subject, _stuck(argument, usual))
    for fault in faults.FAULTS.values():
        if fault.where == "op" and subject in faults.changes(fault):
            yield fault.name, faults.in_ops(NumpyOps(), fault.name, "float64")


def _arguments(exercises: Sequence[Exercise]) -> Mapping[str, Any]:
    """The arguments of which the exercises have several values, with the first."""
    values: dict[str, list[Any]] = {}
    for exercise in exercises:
        for name, value in exercise.call.arguments.items():
            seen = values.setdefault(name, [])
            if value not in seen:
                seen.append(value)
    return {name: seen[0] for name, seen in values.items() if len(seen) > 1}


def _stuck(argument: str, usual: Any) -> Change:
    def change(sound: Any, *arguments: Any, **keywords: Any) -> Any:
        return sound(*arguments, **{**keywords, argument: usual})

    return change


def _on_inputs(read: Callable[[np.ndarray], np.ndarray]) -> Change:
    """An operation that reads its tensors through `read`."""

    def each(x: Any) -> Any:
        if isinstance(x, list | tuple):
            return type(x)(each(part) for part in x)
        return read(x) if isinstance(x, np.ndarray) else x

    def change(sound: Any, *arguments: Any, **keywords: Any) -> Any:
        given = {name: each(value) for name, value in keywords.items()}
        with np.errstate(all="ignore"):
            return sound(*map(each, arguments), **given)

    return change


def _on_results(write: Callable[[np.ndarray], np.ndarray]) -> Change:
    """An operation whose results come through `write`."""

    def each(y: Any) -> Any:
        if isinstance(y, tuple):
            return tuple(each(part) for part in y)
        return write(np.asarray(y)) if isinstance(y, np.ndarray | np.generic) else y

    def change(sound: Any, *arguments: Any, **keywords: Any) -> Any:
        with np.errstate(all="ignore"):
            return each(sound(*arguments, **keywords))

    return change


def _floats(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Of tensors of floating-point numbers, or of complex ones that carry a derivative, only."""
    return lambda x: change(x) if x.dtype.kind in "fc" else x


def _real(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Of values alone: derivatives pass."""

    def changed(x: np.ndarray) -> np.ndarray:
        made = change(np.real(x))
        return made + 1j * np.imag(x) if x.dtype.kind == "c" else made

    return _floats(changed)


def _narrow(x: np.ndarray) -> np.ndarray:
    return x.astype(np.complex64 if x.dtype.kind == "c" else np.float32).astype(x.dtype)


def _coarse(x: np.ndarray) -> np.ndarray:
    """In units of 2^-48 of the largest: what a variance in one pass sees far from zero."""
    finite = x[np.isfinite(x)]
    if not finite.size or not (largest := np.abs(finite).max()):
        return x
    unit = 2.0 ** (np.ceil(np.log2(largest)) - 48)
    return np.asarray(np.where(np.isfinite(x), np.rint(x / unit) * unit, x))


def _tilted(x: np.ndarray) -> np.ndarray:
    """The later of two equal numbers is larger, by less than the gate."""
    return x + 1e-13 * np.arange(x.size).reshape(x.shape)


def _first_of_rest(x: np.ndarray, axis: int, kept: int) -> np.ndarray:
    """What follows the first `kept` along an axis is what comes first."""
    if x.ndim == 0 or x.shape[axis] <= kept:
        return x
    index = np.arange(x.shape[axis])
    return np.take(x, np.where(index < kept, index, 0), axis=axis)


def _remainder_left_out(x: np.ndarray) -> np.ndarray:
    """What is left over by vectors of four is read as what comes first."""
    return x if x.ndim == 0 or x.shape[-1] < 4 else _first_of_rest(x, -1, x.shape[-1] // 4 * 4)


def _spoilt(where: Callable[[np.ndarray], bool]) -> Callable[[np.ndarray], np.ndarray]:
    """What is further on is read in place of what comes first, of such tensors."""
    return lambda x: np.roll(x, 1) + (x.dtype.kind in "fc") if x.size and where(x) else x


def _refuse_empty(x: np.ndarray) -> np.ndarray:
    if not x.size:
        raise ValueError("an empty tensor")
    return x


def _dense(x: np.ndarray) -> bool:
    return bool(x.flags.c_contiguous)


KINDS: Mapping[str, Change] = {
    "float32 inside": _on_results(_floats(_narrow)),
    "inputs in float32": _on_inputs(_floats(_narrow)),
    "slightly off": _on_results(_floats(lambda y: y * (1 + SLIGHTLY))),
    "barely off": _on_results(_floats(lambda y: y * (1 + BARELY))),
    "gradient slightly off": _on_results(
        lambda y: y + 1j * SLIGHTLY * np.imag(y) if y.dtype.kind == "c" else y
    ),
    "no gradient": _on_results(lambda y: np.real(y) + 0j if y.dtype.kind == "c" else y),
    "NaN is 0": _on_inputs(_real(lambda x: np.where(np.isnan(x), 0, x))),
    "infinities are finite": _on_inputs(_real(lambda x: np.clip(x, -1e300, 1e300))),
    "small values vanish": _on_inputs(_real(lambda x: np.where(np.abs(x) < 1e-6, 0, x))),
    "tails vanish": _on_inputs(_real(lambda x: np.where(x < -20, -1e3, x))),
    "large values are cut": _on_inputs(_real(lambda x: np.clip(x, -500, 500))),
    "seen from afar": _on_inputs(_real(_coarse)),
    "the later of two wins": _on_inputs(_real(_tilted)),
    "of a batch above 16, the rest": _on_inputs(lambda x: _first_of_rest(x, 0, BATCH)),
    "a long axis ends early": _on_inputs(lambda x: _first_of_rest(x, -1, THRESHOLD)),
    "no remainder": _on_inputs(_remainder_left_out),
    "empty tensors are refused": _on_inputs(_refuse_empty),
    "one is special": _on_inputs(_spoilt(lambda x: x.ndim > 0 and x.size == 1)),
    "three axes": _on_inputs(_spoilt(lambda x: x.ndim == 3)),
    "one axis": _on_inputs(_spoilt(lambda x: x.ndim == 1 and x.size > 1)),
    "reversed views": _on_inputs(
        _spoilt(lambda x: x.ndim > 1 and x.size > 1 and not _dense(x) and 0 not in x.strides)
    ),
    "broadcast views": _on_inputs(_spoilt(lambda x: x.size > 1 and 0 in x.strides)),
    "offset views": _on_inputs(
        _spoilt(lambda x: _dense(x) and x.base is not None and x.size != x.base.size)
    ),
    "gapped views": _on_inputs(
        _spoilt(lambda x: x.ndim > 0 and x.shape[-1] > 1 and x.strides[-1] == 2 * x.itemsize)
    ),
}
