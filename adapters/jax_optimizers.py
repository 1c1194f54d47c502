"""The recipes of `adapters.training` for JAX: transformations of optax, where they compute the
pinned formulas, and of the same kind where they do not.

optax corrects Adam's bias with beta^t in float32, which makes the first update wrong by 7e-6; takes
Dozat's nadam without his schedule of mu; has amsgrad's maximum over corrected moments; adds
adagrad's epsilon inside of the root; and has no dampening.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adapters.training import MOMENTUM_DECAY, Recipe

tree_map = jax.tree.map


def make(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """From gradients to updates. With a schedule, `update` is also given the step's `rate`: inside
    of a traced function the cosine would be one of float32."""
    parts: list[optax.GradientTransformation] = []
    decay = optax.add_decayed_weights(recipe.weight_decay)
    if recipe.clip_value is not None:
        parts.append(optax.clip(recipe.clip_value))
    if recipe.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(recipe.clip_norm))
    if recipe.weight_decay and recipe.decay == "coupled":
        parts.append(decay)
    parts.append(_DIRECTIONS[recipe.optimizer](recipe))
    if recipe.weight_decay and recipe.decay == "decoupled":
        parts.append(decay)
    constant = recipe.schedule.is_constant
    parts.append(optax.scale_by_learning_rate(recipe.learning_rate) if constant else _by_rate())
    return optax.with_extra_args_support(optax.chain(*parts))


def _by_rate() -> optax.GradientTransformationExtraArgs:
    def update(directions: Any, state: Any, params: Any, *, rate: jax.Array) -> tuple[Any, Any]:
        return tree_map(lambda d: -jnp.asarray(rate, d.dtype) * d, directions), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _sgd(recipe: Recipe) -> optax.GradientTransformation:
    if recipe.momentum == 0:
        return optax.identity()
    if recipe.dampening == 0:
        return optax.trace(recipe.momentum, nesterov=recipe.nesterov)

    def update(g: Any, state: _Sgd, params: Any = None) -> tuple[Any, _Sgd]:
        fresh = jnp.where(state.steps == 0, 1.0, 1 - recipe.dampening)
        m = tree_map(lambda m, g: recipe.momentum * m + fresh.astype(g.dtype) * g, state.m, g)
        return m, _Sgd(state.steps + 1, m)

    return optax.GradientTransformation(lambda p: _Sgd(_no_steps(), _zeros(p)), update)


class _Sgd(NamedTuple):
    steps: jax.Array
    m: Any


class _Adam(NamedTuple):
    steps: jax.Array
    m: Any
    v: Any
    extra: Any  # amsgrad: the maximum of v; nadam: the product of mu


def _adam(recipe: Recipe) -> optax.GradientTransformation:
    """adam, adamw, nadam and amsgrad."""
    beta1, beta2 = recipe.betas
    amsgrad, nadam = recipe.optimizer == "amsgrad", recipe.optimizer == "nadam"

    def init(params: Any) -> _Adam:
        first = jax.tree.leaves(params)[0]
        extra = _zeros(params) if amsgrad else jnp.ones((), first.dtype) if nadam else ()
        return _Adam(_no_steps(), _zeros(params), _zeros(params), extra)

    def update(gradients: Any, state: _Adam, params: Any = None) -> tuple[Any, _Adam]:
        steps = state.steps + 1
        m = tree_map(lambda m, g: beta1 * m + (1 - beta1) * g, state.m, gradients)
        v = tree_map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.v, gradients)
        extra, mean, largest = state.extra, m, v
        if amsgrad:
            extra = largest = tree_map(jnp.maximum, state.extra, v)
        if nadam:
            extra, mean = _nadam_mean(recipe, steps, extra, m, gradients)

        def direction(mean: jax.Array, v: jax.Array) -> jax.Array:
            t = steps.astype(v.dtype)
            c1, c2 = (-jnp.expm1(t * math.log(beta)) for beta in recipe.betas)
            return (mean if nadam else mean / c1) / (jnp.sqrt(v / c2) + recipe.epsilon)

        return tree_map(direction, mean, largest), _Adam(steps, m, v, extra)

    return optax.GradientTransformation(init, update)


def _nadam_mean(
    recipe: Recipe, steps: jax.Array, product: jax.Array, m: Any, gradients: Any
) -> tuple[jax.Array, Any]:
    """(the product of mu up to this step, nadam's mixture of m and the gradient)."""

    def mu(t: jax.Array) -> jax.Array:
        power = jnp.exp(t.astype(product.dtype) * (MOMENTUM_DECAY * math.log(0.96)))
        return recipe.betas[0] * (1 - 0.5 * power)

    now, following = mu(steps), mu(steps + 1)
    product = product * now
    of_g, of_m = (1 - now) / (1 - product), following / (1 - product * following)
    return product, tree_map(lambda m, g: of_g * g + of_m * m, m, gradients)


def _rmsprop(recipe: Recipe) -> optax.GradientTransformation:
    scaled = optax.scale_by_rms(recipe.smoothing, recipe.epsilon, eps_in_sqrt=False)
    return optax.chain(scaled, optax.trace(recipe.momentum)) if recipe.momentum else scaled


class _Adagrad(NamedTuple):
    v: Any


def _adagrad(recipe: Recipe) -> optax.GradientTransformation:
    def init(params: Any) -> _Adagrad:
        return _Adagrad(tree_map(lambda p: jnp.full_like(p, recipe.initial_accumulator), params))

    def update(gradients: Any, state: _Adagrad, params: Any = None) -> tuple[Any, _Adagrad]:
        v = tree_map(lambda v, g: v + g * g, state.v, gradients)
        directions = tree_map(lambda g, v: g / (jnp.sqrt(v) + recipe.epsilon), gradients, v)
        return directions, _Adagrad(v)

    return optax.GradientTransformation(init, update)


def _zeros(params: Any) -> Any:
    return optax.tree.zeros_like(params)


def _no_steps() -> jax.Array:
    return jnp.zeros((), jnp.int32)


_DIRECTIONS: dict[str, Callable[[Recipe], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "nadam": _adam,
    "amsgrad": _adam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}


# -- what is kept between steps ----------------------------------------------------------------

#: State of a transformation -> its fields -> the letters of `adapters.training`.
_LETTERS: dict[type, dict[str, str]] = {
    optax.TraceState: {"trace": "m"},
    optax.ScaleByRmsState: {"nu": "v"},
    _Sgd: {"m": "m"},
    _Adam: {"m": "m", "v": "v", "extra": "w"},
    _Adagrad: {"v": "v"},
}


def slots(state: Any) -> dict[str, dict[str, jax.Array]]:
    """What an optimizer keeps, by letter and parameter."""
    letters = _LETTERS.get(type(state))
    if letters is None:
        parts = [slots(part) for part in state] if isinstance(state, tuple) else []
        return {letter: values for part in parts for letter, values in part.items()}
    fields = {letter: getattr(state, field) for field, letter in letters.items()}
    # nadam's product of mu is no tensor of a parameter, and adam has nothing there
    return {letter: values for letter, values in fields.items() if isinstance(values, dict)}


def with_slots(recipe: Recipe, state: Any, kept: Any, steps: int) -> Any:
    """`state` with what `slots` told after so many steps."""
    letters = _LETTERS.get(type(state))
    if letters is None:
        if not isinstance(state, tuple):
            return state
        parts = [with_slots(recipe, part, kept, steps) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    changed = {field: kept[letter] for field, letter in letters.items() if letter in kept}
    if hasattr(state, "steps"):
        changed["steps"] = jnp.array(steps, state.steps.dtype)
    if recipe.optimizer == "nadam":
        changed["extra"] = jnp.array(recipe.mu_product(steps), state.extra.dtype)
    return state._replace(**changed)
