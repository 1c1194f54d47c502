"""What frameworks do by themselves: tables of a framework's usual APIs with default arguments, by
the number of a trap (`suites/conformance/traps.py`), in `adapters/*_defaults.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from adapters.ops import Unsupported

Inputs = Mapping[str, np.ndarray]
Answer = tuple[np.ndarray, str]  # what it gives, and what it is, in a few words
Default = Callable[[Inputs], Answer]


class Defaults(dict[int, Default]):
    """Trap -> a function of its inputs."""

    def of(self, *numbers: int) -> Callable[[Default], Default]:
        """A decorator that enters a function."""

        def enter(function: Default) -> Default:
            for number in numbers:
                self[number] = function
            return function

        return enter

    def ask(self, number: int, inputs: Inputs) -> Answer:
        """Raises Unsupported where the framework has no such thing."""
        if number not in self:
            raise Unsupported("the framework has nothing of the kind")
        value, told = self[number](inputs)
        return np.asarray(value), told
