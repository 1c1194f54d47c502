"""The vocabulary's forms in NumPy. A derivative is the imaginary part that a tiny imaginary step
leaves (Squire and Trapp 1998), so that no automatic differentiation is involved.

The imaginary part has room for one derivative. Inside another derivative it is taken, and the
inner one is a central difference along the real axis, of sixth order:

    f'(x) = (45 (f1 - f-1) - 9 (f2 - f-2) + (f3 - f-3)) / 60 h,    fk = f(x + k h),  h = 2^-8

Its truncation error is h^6 / 140 times the seventh derivative, 2.5e-17 of it; its rounding error
about 2^-53 |f| / h, 3e-14 |f|, and 1/h times that of each level more. Real steps move across a
kink that is closer than 3 h: what is differentiated twice has to be smooth there.

Real steps would also pass through `stop_gradient` and `custom_gradient`. A tape therefore holds
what these gave at the point itself, in the order of the calls, and gives it at the points around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from adapters.forms import Array, Forms, State

IMAGINARY = 2.0**-100  # a power of two: what is divided by it stays exact
REAL = 2.0**-8
STENCIL = {1: 45 / 60, 2: -9 / 60, 3: 1 / 60}


class _Tape:
    """Values that are written down once and then read in the same order, again and again."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._position: int | None = None  # of the next to read; None while writing

    def rewind(self) -> None:
        self._position = 0

    @property
    def writing(self) -> bool:
        return self._position is None

    def write(self, value: Any) -> None:
        self._values.append(value)

    def read(self) -> Any:
        assert self._position is not None
        self._position += 1
        return self._values[self._position - 1]


class NumpyForms(Forms):
    def __init__(self) -> None:
        self._tapes: list[_Tape] = []  # of the central differences under way, innermost last

    # -- differentiation ---------------------------------------------------------------------

    def gradient(self, function: Callable[..., Array], *xs: Array) -> tuple[Array, ...]:
        tape = _Tape()
        with self._taping([*self._tapes, tape]):
            nested = np.iscomplexobj(function(*xs))  # also if a tensor that it closes over is
            if nested:
                return tuple(_each(function, xs, i, _central(tape)) for i in range(len(xs)))
        return tuple(_each(function, xs, i, _complex_step) for i in range(len(xs)))

    def stop_gradient(self, x: Array) -> Array:
        if not self._tapes:
            return np.real(x)
        return self._at_the_point(lambda: self.stop_gradient(x))

    def custom_gradient(
        self,
        function: Callable[[Array], Array],
        backward: Callable[[Array, Array], Array],
        x: Array,
    ) -> Array:
        if self._tapes:
            x0, y0, slopes = self._at_the_point(
                lambda: self._linearised(function, backward, np.asarray(x))
            )
            return y0 + _product(slopes, x - x0)
        point = np.real(x)
        y = function(point)
        if not np.iscomplexobj(x):
            return y
        return y + 1j * _product(_jacobian(backward, point, np.shape(y)), np.imag(x))

    def _linearised(
        self,
        function: Callable[[Array], Array],
        backward: Callable[[Array, Array], Array],
        x: Array,
    ) -> tuple[Array, Array, Array]:
        y = self.custom_gradient(function, backward, x)
        return x, y, _jacobian(backward, x, np.shape(y))

    def _at_the_point(self, compute: Callable[[], Any]) -> Any:
        """compute() without the innermost central difference, or what it gave at its point."""
        *outer, tape = self._tapes
        if not tape.writing:
            return tape.read()
        with self._taping(outer):
            value = compute()
        tape.write(value)
        return value

    @contextmanager
    def _taping(self, tapes: list[_Tape]) -> Iterator[None]:
        before, self._tapes = self._tapes, tapes
        try:
            yield
        finally:
            self._tapes = before

    def per_example(self, function: Callable[..., Array], *xs: Array) -> Array:
        return np.stack([function(*examples) for examples in zip(*xs, strict=True)])

    # -- control flow --------------------------------------------------------------------------

    def cond(
        self,
        predicate: Array,
        true: Callable[..., Array],
        false: Callable[..., Array],
        *operands: Array,
    ) -> Array:
        return true(*operands) if bool(predicate) else false(*operands)

    def while_loop(
        self,
        condition: Callable[[Array], Array],
        body: Callable[[Array], Array],
        state: Array,
    ) -> Array:
        while bool(condition(state)):
            state = body(state)
        return state

    def scan(self, body: Callable[[State, Array], State], state: State, xs: Array) -> State:
        for x in xs:
            state = body(state, x)
        return state


Moved = Callable[[complex], Array]  # a step along one element -> the function there


def _each(
    function: Callable[..., Array],
    xs: tuple[Array, ...],
    i: int,
    derivative: Callable[[Moved], Array],
) -> Array:
    """The derivative along every element of xs[i]."""
    x = np.asarray(xs[i])

    def slope(element: int) -> Array:
        def moved(step: complex) -> Array:
            there = x + np.zeros((), type(step))  # complex for an imaginary step
            there.flat[element] += step
            return function(*xs[:i], there, *xs[i + 1 :])

        return derivative(moved)

    return np.array([slope(element) for element in range(x.size)]).reshape(x.shape)


def _complex_step(moved: Moved) -> Array:
    return np.imag(moved(1j * IMAGINARY)) / IMAGINARY


def _central(tape: _Tape) -> Callable[[Moved], Array]:
    def derivative(moved: Moved) -> Array:
        total = 0.0
        for k, weight in STENCIL.items():
            for side in (1, -1):
                tape.rewind()
                total = total + side * weight * moved(side * k * REAL)
        return total / REAL

    return derivative


def _jacobian(
    backward: Callable[[Array, Array], Array], x: Array, shape: tuple[int, ...]
) -> np.ndarray:
    """(shape of y, shape of x), a row for each unit cotangent."""
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    rows = [np.asarray(backward(x, unit)) for unit in units]
    return np.array(rows).reshape(*shape, *np.shape(x))


def _product(slopes: np.ndarray, x: Array) -> Array:
    return np.tensordot(slopes, x, axes=np.ndim(x))
