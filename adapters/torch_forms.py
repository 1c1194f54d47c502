"""The vocabulary's forms in PyTorch.

Differentiation is `torch.func`, which both eager mode and TorchDynamo know. Branches and loops are
Python in eager mode; compiled, they are PyTorch's higher-order operations, which stay one node of
the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._higher_order_ops import scan, while_loop

from adapters.forms import Array, Forms, State


class TorchForms(Forms):
    def gradient(self, function: Callable[..., Array], *xs: Array) -> tuple[Array, ...]:
        return torch.func.grad(function, argnums=tuple(range(len(xs))))(*xs)

    def stop_gradient(self, x: Array) -> Array:
        return x.detach()

    def custom_gradient(
        self,
        function: Callable[[Array], Array],
        backward: Callable[[Array, Array], Array],
        x: Array,
    ) -> Array:
        return _Custom.apply(function, backward, x)

    def per_example(self, function: Callable[..., Array], *xs: Array) -> Array:
        return torch.func.vmap(function)(*xs)

    def cond(
        self,
        predicate: Array,
        true: Callable[..., Array],
        false: Callable[..., Array],
        *operands: Array,
    ) -> Array:
        if torch.compiler.is_compiling():
            return torch.cond(predicate, _fresh(true), _fresh(false), operands)
        return true(*operands) if predicate else false(*operands)

    def while_loop(
        self,
        condition: Callable[[Array], Array],
        body: Callable[[Array], Array],
        state: Array,
    ) -> Array:
        if torch.compiler.is_compiling():
            return while_loop(condition, lambda s: (_fresh(body)(s),), (state.clone(),))[0]
        while condition(state):
            state = body(state)
        return state

    def scan(self, body: Callable[[State, Array], State], state: State, xs: Array) -> State:
        if torch.compiler.is_compiling():
            # a step returns the next state, and a value to be stacked, of which there is none
            nothing = torch.zeros((), device=xs.device)
            step = _fresh(body)
            return scan(lambda s, x: (step(s, x), nothing.clone()), _copy(state), xs)[0]
        for x in xs:
            state = body(state, x)
        return state


def _fresh(function: Callable[..., State]) -> Callable[..., State]:
    """`function`, whose result is no argument of it: a node of the graph must not alias any."""
    return lambda *xs: _copy(function(*xs))


def _copy(state: State) -> State:
    return tuple(x.clone() for x in state) if isinstance(state, tuple) else state.clone()


class _Custom(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(function: Any, backward: Any, x: Array) -> Array:
        return function(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        _, ctx.backward_of, x = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[None, None, Array]:
        (x,) = ctx.saved_tensors
        return None, None, ctx.backward_of(x, cotangent)
