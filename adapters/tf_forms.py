"""The vocabulary's forms in TensorFlow: tapes, and the nodes of a graph for control flow."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from adapters.forms import Array, Forms, State


class TensorflowForms(Forms):
    # -- differentiation ---------------------------------------------------------------------

    def gradient(self, function: Callable[..., Array], *xs: Array) -> tuple[Array, ...]:
        own = [tf.identity(x) for x in xs]  # apart, also where one tensor comes twice
        with tf.GradientTape() as tape:
            tape.watch(own)
            y = function(*own)
        gradients = tape.gradient(y, own, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tuple(tf.convert_to_tensor(g) for g in gradients)  # of a lookup it is a list of rows

    def stop_gradient(self, x: Array) -> Array:
        return tf.stop_gradient(x)

    def custom_gradient(
        self,
        function: Callable[[Array], Array],
        backward: Callable[[Array, Array], Array],
        x: Array,
    ) -> Array:
        @tf.custom_gradient
        def run(x: Array) -> tuple[Array, Callable[[Array], Array]]:
            return function(x), lambda cotangent: backward(x, cotangent)

        return run(x)

    def per_example(self, function: Callable[..., Array], *xs: Array) -> Array:
        # rather an error than a quiet loop over the examples
        return tf.vectorized_map(lambda one: function(*one), xs, fallback_to_while_loop=False)

    # -- control flow --------------------------------------------------------------------------

    def cond(
        self,
        predicate: Array,
        true: Callable[..., Array],
        false: Callable[..., Array],
        *operands: Array,
    ) -> Array:
        return tf.cond(predicate, lambda: true(*operands), lambda: false(*operands))

    def while_loop(
        self,
        condition: Callable[[Array], Array],
        body: Callable[[Array], Array],
        state: Array,
    ) -> Array:
        return tf.while_loop(condition, lambda state: (body(state),), (state,))[0]

    def scan(self, body: Callable[[State, Array], State], state: State, xs: Array) -> State:
        return tf.foldl(body, xs, state)
