"""The vocabulary's forms in JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
from jax import lax

from adapters.forms import Array, Forms, State


class JaxForms(Forms):
    """Each is a transformation of JAX, or one of its control flow primitives."""

    def gradient(self, function: Callable[..., Array], *xs: Array) -> tuple[Array, ...]:
        return jax.grad(function, argnums=tuple(range(len(xs))))(*xs)

    def stop_gradient(self, x: Array) -> Array:
        return lax.stop_gradient(x)

    def custom_gradient(
        self,
        function: Callable[[Array], Array],
        backward: Callable[[Array, Array], Array],
        x: Array,
    ) -> Array:
        # what `backward` closes over becomes an argument: a closure over a tensor that is being
        # differentiated would outlive its trace
        y = lax.stop_gradient(function(x))
        rule, closed = jax.closure_convert(backward, x, y)

        @jax.custom_vjp
        def result(x: Array, y: Array, closed: Sequence[Array]) -> Array:
            return y

        result.defvjp(
            lambda x, y, closed: (y, (x, closed)),
            lambda kept, cotangent: (rule(kept[0], cotangent, *kept[1]), None, None),
        )
        return result(x, y, closed)

    def per_example(self, function: Callable[..., Array], *xs: Array) -> Array:
        return jax.vmap(function)(*xs)

    def cond(
        self,
        predicate: Array,
        true: Callable[..., Array],
        false: Callable[..., Array],
        *operands: Array,
    ) -> Array:
        return lax.cond(predicate, true, false, *operands)

    def while_loop(
        self,
        condition: Callable[[Array], Array],
        body: Callable[[Array], Array],
        state: Array,
    ) -> Array:
        return lax.while_loop(condition, body, state)

    def scan(self, body: Callable[[State, Array], State], state: State, xs: Array) -> State:
        return lax.scan(lambda state, x: (body(state, x), None), state, xs)[0]
