"""Recipes: what they refuse, their schedules, and their formulas against torch.optim."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.numpy_optimizers import RULES, Optimizer, first_update
from adapters.training import KNOBS, RECIPES, Recipe, Schedule

STEPS = 20

# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constants", "problem"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion': there are sgd, adam, adamw, nadam"),
        ({"decay": "half"}, "unknown decay 'half': there are coupled, decoupled"),
        ({"optimizer": "adam", "momentum": 0.9}, "adam has no momentum, got 0.9"),
        ({"optimizer": "sgd", "betas": (0.8, 0.9)}, "sgd has no betas"),
        ({"optimizer": "rmsprop", "momentum": 0.9, "nesterov": True}, "rmsprop has no nesterov"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, but should be a finite number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "clip by norm or by value, not by both"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, but should be 0 or above"),
        ({"momentum": 1.0}, "momentum is 1.0, but should be at least 0 and below 1"),
        ({"optimizer": "adam", "betas": (0.9, 1.0)}, "betas is (0.9, 1.0)"),
        ({"optimizer": "adamw"}, "the decay of adamw is decoupled"),
        ({"optimizer": "adam", "decay": "decoupled"}, "adam with decoupled decay is adamw"),
        ({"nesterov": True}, "nesterov needs momentum"),
        ({"dampening": 0.5}, "dampening acts on momentum"),
        ({"momentum": 0.9, "nesterov": True, "dampening": 0.5}, "goes without dampening"),
        ({"accumulation": 0}, "accumulation is 0, but should be at least 1"),
        ({"average": 1.0}, "average is 1.0, but should be at least 0 and below 1"),
        ({"average": -0.1}, "average is -0.1, but should be at least 0 and below 1"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(constants, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        Recipe(**{"optimizer": "sgd", "learning_rate": 0.1, **constants})


@pytest.mark.parametrize(
    ("constants", "problem"),
    [
        ({"kind": "linear"}, "unknown schedule 'linear': there are constant, cosine, step"),
        ({"kind": "cosine"}, "steps is 0, but should be at least 1 in a cosine schedule"),
        ({"kind": "step", "factor": 0.5}, "every is 0, but should be at least 1"),
        ({"steps": 5}, "steps is 5, but should be 0 in a constant schedule"),
        ({"factor": 0.5}, "a constant schedule has no factor"),
        ({"kind": "step", "every": 3, "factor": 0.0}, "factor is 0.0"),
        ({"warm_up": -1}, "warm_up is -1"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(constants, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        Schedule(**constants)


def test_micro_batches_are_equal():
    recipe = RECIPES["sgd_accumulation"]
    assert recipe.micro_batch(8) == 4
    with pytest.raises(ValueError, match="7 examples make no 2 equal micro-batches"):
        recipe.micro_batch(7)


def test_what_is_frozen_is_told_by_the_beginning_of_its_name():
    params = {"backbone/w": 1, "backbone2/w": 2, "head/backbone/w": 3}
    assert Recipe("sgd", 0.1).trained(params) == params
    assert Recipe("sgd", 0.1, frozen=("backbone/",)).trained(params) == {
        "backbone2/w": 2, "head/backbone/w": 3,
    }  # fmt: skip
    assert Recipe("sgd", 0.1, frozen=("backbone", "head/")).trained(params) == {}
    assert not RECIPES["sgd_frozen"].trains("fc1/w")
    assert RECIPES["sgd_frozen"].trains("fc2/w")


def test_every_optimizer_has_a_rule_and_a_recipe():
    assert set(RULES) == set(KNOBS) == {recipe.optimizer for recipe in RECIPES.values()}


# -- schedules -------------------------------------------------------------------------------------


def rates(schedule, steps=STEPS):
    return [schedule(t) for t in range(1, steps + 1)]


def test_schedules_by_hand():
    assert set(rates(Schedule())) == {1.0}
    assert rates(Schedule(warm_up=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates(Schedule("step", every=2, factor=0.5), 5) == [1, 1, 0.5, 0.5, 0.25]
    assert rates(Schedule("cosine", steps=2), 4) == pytest.approx([1, 0.5, 0, 0])
    assert rates(Schedule("cosine", warm_up=1, steps=2), 4) == pytest.approx([1, 1, 0.5, 0])
    assert Recipe("sgd", 0.1, schedule=Schedule(warm_up=5)).rate(1) == pytest.approx(0.02)


@given(st.integers(0, 10), st.integers(1, 100), st.integers(1, 200))
def test_a_cosine_stays_in_its_range_and_falls(warm_up, steps, t):
    schedule = Schedule("cosine", warm_up=warm_up, steps=steps)
    assert 0 <= schedule(t) <= 1
    if t > warm_up:
        assert schedule(t + 1) <= schedule(t)


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Schedule("cosine", steps=STEPS), lambda o, s: s.CosineAnnealingLR(o, STEPS)),
        (Schedule("step", every=3, factor=0.5), lambda o, s: s.StepLR(o, 3, 0.5)),
        (Schedule(warm_up=5), lambda o, s: s.LinearLR(o, 1 / 5, total_iters=4)),
    ],
)
def test_schedules_are_those_of_torch(schedule, make):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer, torch.optim.lr_scheduler)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(schedule) == pytest.approx(found, abs=1e-14)


# -- the formulas ----------------------------------------------------------------------------------

SHAPES = {"a": (3, 4), "b": (5,)}


def tensors(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: scale * rng.normal(size=shape) for name, shape in SHAPES.items()}


def trajectory(recipe, start, gradients):
    optimizer, params = Optimizer(recipe), dict(start)
    for g in gradients:
        updates = optimizer.update(params, g)
        params = {name: params[name] + updates[name] for name in params}
    return params


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_trajectory_is_that_of_torch_in_float64(recipe):
    pytest.importorskip("torch")
    start = tensors(100)
    gradients = [tensors(seed, scale=0.1) for seed in range(STEPS)]
    found, wanted = trajectory(recipe, start, gradients), by_torch(recipe, start, gradients)
    for name, value in wanted.items():
        rounding = STEPS * 2.0**-52 * np.linalg.norm(value)  # of storing a parameter
        assert np.linalg.norm(found[name] - value) < rounding
        assert np.linalg.norm(value - start[name]) > 1e9 * rounding


def by_torch(recipe, start, gradients):
    """With the optimizers of the adapter, which are those of torch.optim."""
    import torch

    from adapters import torch_optimizers

    params = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    optimizer = torch_optimizers.make(recipe, list(params.values()))
    for gradient in gradients:
        for name, p in params.items():
            p.grad = torch.tensor(gradient[name])
        torch_optimizers.clip(recipe, list(params.values()))
        optimizer.step()
    return {name: p.detach().numpy() for name, p in params.items()}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_first_update_is_the_first_of_a_trajectory(recipe):
    start, gradient = tensors(0), tensors(1)
    moved = trajectory(recipe, start, [gradient])
    for name, update in first_update(recipe, start, gradient).items():
        np.testing.assert_array_equal(moved[name], start[name] + update)


MUTATIONS = {
    "learning_rate": 1.001,
    "momentum": 0.999,
    "dampening": 0.999,
    "epsilon": 1.01,
    "smoothing": 0.999,
    "initial_accumulator": 1.01,
    "weight_decay": 1.01,
    "clip_norm": 1.001,
    "clip_value": 1.001,
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_constant_of_a_recipe_acts(recipe):
    """Within the 10 steps after which updates are judged, and by more than 1e-10."""
    start = tensors(100)
    gradients = [tensors(seed) for seed in range(10)]
    usual = trajectory(recipe, start, gradients)
    changed = {k: getattr(recipe, k) * f for k, f in MUTATIONS.items() if getattr(recipe, k)}
    own = KNOBS[recipe.optimizer]
    others = [
        dataclasses.replace(recipe, **{knob: value})
        for knob, value in changed.items()
        if knob in own or knob not in frozenset().union(*KNOBS.values())
    ]
    if "betas" in own:
        others += [dataclasses.replace(recipe, betas=b) for b in ((0.899, 0.999), (0.9, 0.998))]
    if recipe.nesterov:
        others.append(dataclasses.replace(recipe, nesterov=False))
    if not recipe.schedule.is_constant:
        others.append(dataclasses.replace(recipe, schedule=Schedule()))
    for other in others:
        moved = trajectory(other, start, gradients)
        differs = [np.linalg.norm(moved[n] - usual[n]) for n in start]
        assert max(differs) > 1e-10 * np.linalg.norm(usual["a"] - start["a"]), other
