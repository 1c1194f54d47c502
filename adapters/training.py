"""Training recipes and their exact formulas, in NumPy float64.

These formulas are the specification: an adapter uses its framework's own optimizer where that
computes the same, and otherwise writes the formula in its framework. Step numbers t start
at 1. g is the gradient, p a parameter, all elementwise.

Clipping by global norm (Pascanu et al. 2013):
    n = sqrt(sum over all parameters of ||g||^2);  g <- g * min(1, clip_norm / n)
    No epsilon: torch.nn.utils.clip_grad_norm_ adds 1e-6 to n, TensorFlow and optax do not.

sgd (Sutskever et al. 2013, in PyTorch's form: the learning rate is outside the velocity):
    m <- momentum * m + g   (m starts at 0);   p <- p - lr * m

adamw (Loshchilov and Hutter 2019; decoupled decay, epsilon outside the corrected root):
    p <- p - lr * weight_decay * p
    m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * g^2
    p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
    1 - beta^t needs care in float32, where beta itself is rounded: 1 - 0.999f is off by 1.3e-5.
    It is computed in float64 on the host or as -expm1(t log beta), log beta in float64.

The loss is `ops.cross_entropy`, the mean over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """How to train: an optimizer ("sgd" or "adamw") and its constants. `clip_norm` None: no
    clipping."""

    optimizer: str
    learning_rate: float
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None


RECIPES: dict[str, Recipe] = {
    "sgd_momentum": Recipe("sgd", 0.01, momentum=0.9),
    "sgd_momentum_clip": Recipe("sgd", 0.01, momentum=0.9, clip_norm=0.5),
    "adamw": Recipe("adamw", 1e-3, weight_decay=0.01),
    "adamw_clip": Recipe("adamw", 1e-3, weight_decay=0.01, clip_norm=0.5),
}

Tensors = Mapping[str, np.ndarray]


def clip(gradients: Tensors, max_norm: float | None) -> dict[str, np.ndarray]:
    """`gradients` after clipping by global norm."""
    if max_norm is None:
        return dict(gradients)
    norm = np.sqrt(sum(float(np.sum(g * g)) for g in gradients.values()))
    scale = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return {name: g * scale for name, g in gradients.items()}


def first_update(recipe: Recipe, params: Tensors, gradients: Tensors) -> dict[str, np.ndarray]:
    """What the first step adds to each parameter, by the formulas above with t = 1."""
    clipped = clip(gradients, recipe.clip_norm)
    if recipe.optimizer == "sgd":
        return {name: -recipe.learning_rate * g for name, g in clipped.items()}
    # At t = 1 the corrected moments are g and g^2 exactly.
    lr, decay, epsilon = recipe.learning_rate, recipe.weight_decay, recipe.epsilon
    return {
        name: -lr * decay * params[name] - lr * g / (np.sqrt(g * g) + epsilon)
        for name, g in clipped.items()
    }
