"""The recipes of `adapters.training` for PyTorch: torch.optim, which computes the pinned formulas.

Where it does not, that is said below: NAdam, decoupled decay, clipping by norm.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import optim

from adapters.training import MOMENTUM_DECAY, Recipe

#: What torch.optim calls the letters of `adapters.training`, by optimizer.
SLOTS = {
    "sgd": {"m": "momentum_buffer"},
    "adam": {"m": "exp_avg", "v": "exp_avg_sq"},
    "adamw": {"m": "exp_avg", "v": "exp_avg_sq"},
    "nadam": {"m": "exp_avg", "v": "exp_avg_sq"},
    "amsgrad": {"m": "exp_avg", "v": "exp_avg_sq", "w": "max_exp_avg_sq"},
    "rmsprop": {"v": "square_avg", "m": "momentum_buffer"},
    "adagrad": {"v": "sum"},
}


def make(recipe: Recipe, params: Sequence[torch.Tensor], *, steps: int = 0) -> optim.Optimizer:
    """The optimizer, as before its first step, or for what comes after so many."""
    optimizer = _plain(recipe, params)
    if not recipe.schedule.is_constant:
        optimizer.register_step_pre_hook(_scheduling(recipe, steps))
    if recipe.decay == "decoupled" and recipe.optimizer != "adamw":
        optimizer.register_step_pre_hook(_decaying(recipe))
    return optimizer


def _plain(recipe: Recipe, params: Sequence[torch.Tensor]) -> optim.Optimizer:
    """Fused where PyTorch has that."""
    shared: dict[str, Any] = {"lr": recipe.learning_rate}
    if recipe.decay == "coupled" or recipe.optimizer == "adamw":
        shared["weight_decay"] = recipe.weight_decay
    if recipe.optimizer == "sgd":
        return optim.SGD(
            params,
            momentum=recipe.momentum,
            dampening=recipe.dampening,
            nesterov=recipe.nesterov,
            fused=True,
            **shared,
        )
    shared["eps"] = recipe.epsilon
    if recipe.optimizer == "rmsprop":
        return optim.RMSprop(params, alpha=recipe.smoothing, momentum=recipe.momentum, **shared)
    if recipe.optimizer == "adagrad":
        start, on_cpu = recipe.initial_accumulator, params[0].device.type == "cpu"
        return optim.Adagrad(
            params, initial_accumulator_value=start, fused=on_cpu or None, **shared
        )
    if recipe.optimizer == "nadam":
        return _nadam(recipe, params, shared)
    if recipe.optimizer == "adamw":
        return optim.AdamW(params, betas=recipe.betas, fused=True, **shared)
    amsgrad = recipe.optimizer == "amsgrad"
    return optim.Adam(params, betas=recipe.betas, amsgrad=amsgrad, fused=True, **shared)


def _nadam(
    recipe: Recipe, params: Sequence[torch.Tensor], shared: dict[str, Any]
) -> optim.Optimizer:
    """NAdam would make this state at its first step, but with its product in float32."""
    optimizer = optim.NAdam(params, betas=recipe.betas, momentum_decay=MOMENTUM_DECAY, **shared)
    for p in params:
        optimizer.state[p] = {
            "step": torch.zeros(()),
            "mu_product": torch.ones((), dtype=torch.float64),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
    return optimizer


def _scheduling(recipe: Recipe, done: int) -> Callable[..., None]:
    """A hook that sets the learning rate of the step that begins."""
    steps = itertools.count(done + 1)

    def set_rate(optimizer: optim.Optimizer, *_: Any) -> None:
        (group,) = optimizer.param_groups
        group["lr"] = recipe.rate(next(steps))

    return set_rate


def _decaying(recipe: Recipe) -> Callable[..., None]:
    """A hook for the decoupled decay that torch.optim has in AdamW only."""

    @torch.no_grad()
    def decay(optimizer: optim.Optimizer, *_: Any) -> None:
        (group,) = optimizer.param_groups
        params, factor = group["params"], group["lr"] * recipe.weight_decay
        torch._foreach_add_(params, params, alpha=-factor)

    return decay


def clip(recipe: Recipe, params: Sequence[torch.Tensor]) -> None:
    """Clips the gradients in place."""
    if recipe.clip_norm is None and recipe.clip_value is None:
        return
    if recipe.clip_value is not None:
        torch.nn.utils.clip_grad_value_(params, recipe.clip_value)
        return
    # torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm; the pinned formula does not
    gradients = [p.grad for p in params]
    norm = torch.nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, torch.clamp(recipe.clip_norm / norm, max=1.0))


def averages(recipe: Recipe, params: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The averages of parameters, as they start; none where the recipe keeps none."""
    return {n: p.detach().clone() for n, p in params.items()} if recipe.average else {}


@torch.no_grad()
def average(
    recipe: Recipe, kept: Mapping[str, torch.Tensor], params: Mapping[str, torch.Tensor]
) -> None:
    """Moves the averages towards `params`, in place."""
    if kept:
        averaged = list(kept.values())
        torch._foreach_mul_(averaged, recipe.average)
        torch._foreach_add_(averaged, [params[n] for n in kept], alpha=1 - recipe.average)


def slots(
    recipe: Recipe, optimizer: optim.Optimizer, params: Mapping[str, torch.Tensor]
) -> dict[str, dict[str, torch.Tensor]]:
    """What the optimizer keeps, by letter and name; nothing before its first step."""
    return {
        letter: {name: optimizer.state[p][key] for name, p in params.items()}
        for letter, key in SLOTS[recipe.optimizer].items()
        if all(optimizer.state[p].get(key) is not None for p in params.values())
    }


def put_slots(
    recipe: Recipe,
    optimizer: optim.Optimizer,
    params: Mapping[str, torch.Tensor],
    kept: Mapping[str, Mapping[str, torch.Tensor]],
    *,
    steps: int,
) -> None:
    """Gives the optimizer what `slots` told after so many steps."""
    keys = SLOTS[recipe.optimizer]
    for name, p in params.items():
        state = {keys[letter]: values[name] for letter, values in kept.items()}
        if recipe.optimizer != "sgd":
            state["step"] = torch.tensor(float(steps), device=p.device)
        if recipe.optimizer == "nadam":
            state["step"] = torch.tensor(float(steps))
            product = recipe.mu_product(steps)
            state["mu_product"] = torch.tensor(product, dtype=torch.float64)
        optimizer.state[p] = state
