"""The optimizers of `adapters.training` in NumPy float64: the reference for all others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from adapters.training import Recipe

Tensors = Mapping[str, np.ndarray]
Slots = dict[str, np.ndarray]  # what is kept of one parameter


class Optimizer:
    """A recipe's formulas in NumPy float64, with what they keep from step to step."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._step = 0
        self._slots: dict[str, Slots] = defaultdict(dict)

    def update(self, params: Tensors, gradients: Tensors) -> dict[str, np.ndarray]:
        """What the next step adds to each parameter; `gradients` are those before clipping."""
        self._step += 1
        recipe, t, updates = self._recipe, self._step, {}
        for name, g in clip(recipe, gradients).items():
            decay = recipe.weight_decay * params[name]
            if recipe.decay == "coupled":
                g = g + decay
            direction = RULES[recipe.optimizer](recipe, t, self._slots[name], g)
            if recipe.decay == "decoupled":
                direction = direction + decay
            updates[name] = -recipe.rate(t) * direction
        return updates


def first_update(recipe: Recipe, params: Tensors, gradients: Tensors) -> dict[str, np.ndarray]:
    """What the first step adds to each parameter."""
    return Optimizer(recipe).update(params, gradients)


def clip(recipe: Recipe, gradients: Tensors) -> dict[str, np.ndarray]:
    """`gradients` after clipping."""
    if recipe.clip_value is not None:
        limit = recipe.clip_value
        return {name: np.clip(g, -limit, limit) for name, g in gradients.items()}
    if recipe.clip_norm is None:
        return dict(gradients)
    norm = np.sqrt(sum(float(np.sum(g * g)) for g in gradients.values()))
    scale = min(1.0, recipe.clip_norm / norm) if norm > 0 else 1.0
    return {name: g * scale for name, g in gradients.items()}


# -- one parameter's direction: what is multiplied by -lr --------------------------------------


def _sgd(recipe: Recipe, t: int, slots: Slots, g: np.ndarray) -> np.ndarray:
    momentum = recipe.momentum
    m = slots["m"] = g if t == 1 else momentum * slots["m"] + (1 - recipe.dampening) * g
    return g + momentum * m if recipe.nesterov else m


def _adam(recipe: Recipe, t: int, slots: Slots, g: np.ndarray) -> np.ndarray:
    m, root = _moments(recipe, t, slots, g)
    return m / (1 - recipe.betas[0] ** t) / (root + recipe.epsilon)


def _nadam(recipe: Recipe, t: int, slots: Slots, g: np.ndarray) -> np.ndarray:
    m, root = _moments(recipe, t, slots, g)
    now, following, product = recipe.mu(t), recipe.mu(t + 1), recipe.mu_product(t)
    mean = (1 - now) / (1 - product) * g + following / (1 - product * following) * m
    return mean / (root + recipe.epsilon)


def _moments(recipe: Recipe, t: int, slots: Slots, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, the root of the corrected v, or for amsgrad of its maximum)."""
    beta1, beta2 = recipe.betas
    m = slots["m"] = beta1 * slots.get("m", np.zeros_like(g)) + (1 - beta1) * g
    v = slots["v"] = beta2 * slots.get("v", np.zeros_like(g)) + (1 - beta2) * g * g
    if recipe.optimizer == "amsgrad":
        v = slots["w"] = np.maximum(slots.get("w", v), v)
    return m, np.sqrt(v / (1 - beta2**t))


def _rmsprop(recipe: Recipe, t: int, slots: Slots, g: np.ndarray) -> np.ndarray:
    smoothing, zero = recipe.smoothing, np.zeros_like(g)
    v = slots["v"] = smoothing * slots.get("v", zero) + (1 - smoothing) * g * g
    scaled = g / (np.sqrt(v) + recipe.epsilon)
    m = slots["m"] = recipe.momentum * slots.get("m", zero) + scaled
    return m


def _adagrad(recipe: Recipe, t: int, slots: Slots, g: np.ndarray) -> np.ndarray:
    v = slots["v"] = slots.get("v", recipe.initial_accumulator) + g * g
    return g / (np.sqrt(v) + recipe.epsilon)


RULES: dict[str, Callable[[Recipe, int, Slots, np.ndarray], np.ndarray]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "nadam": _nadam,
    "amsgrad": _adam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}
