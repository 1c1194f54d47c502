"""The vocabulary's forms: operations whose arguments are functions over tensors.

They say how a framework differentiates and how it branches and loops on data, each in the
framework's native construct: Python in an eager framework, `cond` and `while` nodes in one that
makes graphs. The functions that they are given are over the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any  # a framework's tensor: torch.Tensor, tf.Tensor, jax.Array, np.ndarray, a graph value
State = Array | tuple[Array, ...]  # what a loop carries from one step to the next


class Unsupported(Exception):
    """What was asked for cannot be done here. Its text is the reason that users read."""


class Forms:
    """Base class of `adapters.ops.Ops`. A form left out is `Unsupported` by name."""

    # -- differentiation ---------------------------------------------------------------------

    def gradient(self, function: Callable[..., Array], *xs: Array) -> tuple[Array, ...]:
        """The gradients of the scalar function(*xs) by every one of `xs`, which can be
        differentiated again. By one that the scalar does not depend on: zeros."""
        raise self._missing("gradient")

    def stop_gradient(self, x: Array) -> Array:
        """x, taken for a constant by differentiation."""
        raise self._missing("stop_gradient")

    def custom_gradient(
        self,
        function: Callable[[Array], Array],
        backward: Callable[[Array, Array], Array],
        x: Array,
    ) -> Array:
        """function(x), whose gradient by x is backward(x, cotangent), whatever `function` is; the
        cotangent has the shape of the result."""
        raise self._missing("custom_gradient")

    def per_example(self, function: Callable[..., Array], *xs: Array) -> Array:
        """The results of `function`, which takes one example of each of `xs`, stacked along a new
        first axis: a vectorising map where the framework has one."""
        raise self._missing("per_example")

    # -- control flow --------------------------------------------------------------------------

    def cond(
        self,
        predicate: Array,
        true: Callable[..., Array],
        false: Callable[..., Array],
        *operands: Array,
    ) -> Array:
        """true(*operands) where the boolean scalar `predicate` holds, else false(*operands): one
        of them runs. Both results have one shape. It can be differentiated."""
        raise self._missing("cond")

    def while_loop(
        self,
        condition: Callable[[Array], Array],
        body: Callable[[Array], Array],
        state: Array,
    ) -> Array:
        """body(body(...(state))) while the boolean scalar condition(state) holds; the shape stays.
        Need not be differentiable."""
        raise self._missing("while_loop")

    def scan(self, body: Callable[[State, Array], State], state: State, xs: Array) -> State:
        """The last state of: state = body(state, x) for each x along the first axis of `xs`. The
        state is a tensor or a tuple of tensors, whose shapes stay. It can be differentiated."""
        raise self._missing("scan")

    # ------------------------------------------------------------------------------------------

    def _missing(self, op: str) -> Unsupported:
        return Unsupported(f"{type(self).__module__}.{type(self).__name__} has no op {op!r}")
