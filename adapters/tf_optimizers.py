"""The recipes of `adapters.training` for TensorFlow: its fused kernels, where they compute the
pinned formulas, and assignments where they do not.

There is no kernel with dampening or nadam; the kernel of rmsprop has epsilon inside of the root
and the learning rate in the velocity; that of amsgrad does not exist for XLA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from adapters.training import MOMENTUM_DECAY, Recipe

Rate: TypeAlias = float | tf.Tensor  # a float where every step has the same
Update: TypeAlias = Callable[..., Any]  # of a parameter, its gradient, and what is kept of it


class Optimizer:
    """Updates variables in place. Made once per program, because a trace belongs to its variables;
    to be made on the device of `params`."""

    def __init__(self, recipe: Recipe, params: Mapping[str, tf.Variable]) -> None:
        self._recipe, self._params = recipe, params
        self._dtype = next(iter(params.values())).dtype
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._product = tf.Variable(1, dtype=self._dtype, trainable=False)  # of nadam's mu
        self._starts = _starts(recipe)
        self.slots = {
            letter: {name: self._slot(p, start) for name, p in params.items()}
            for letter, start in self._starts.items()
        }
        kept = params if recipe.average else {}
        self.averages = {name: self._slot(p, 0.0) for name, p in kept.items()}

    def _slot(self, param: tf.Variable, start: float) -> tf.Variable:
        return tf.Variable(np.full(param.shape, start), dtype=self._dtype, trainable=False)

    def reset(self) -> None:
        """As before the first step."""
        self._steps.assign(0)
        self._product.assign(1)
        for letter, start in self._starts.items():
            for slot in self.slots[letter].values():
                slot.assign(tf.fill(slot.shape, self._number(start)))
        for name, average in self.averages.items():
            average.assign(self._params[name])

    def variables(self) -> dict[str, Any]:
        """Everything that is kept between steps."""
        own = {"steps": self._steps, "product": self._product}
        return {**own, "averages": self.averages, "slots": self.slots}

    def resume(self, kept: Mapping[str, Mapping[str, np.ndarray]], steps: int) -> None:
        """As `slots` were after so many steps."""
        self._steps.assign(steps)
        self._product.assign(self._recipe.mu_product(steps))
        for letter, values in kept.items():
            for name, value in values.items():
                self.slots[letter][name].assign(value)

    def apply(self, gradients: Mapping[str, tf.Tensor], rate: Rate) -> None:
        """One step; `gradients` are those before clipping."""
        recipe, update = self._recipe, _RULES[self._recipe.optimizer](self, rate)
        decay = recipe.weight_decay
        for name, g in self._clip(gradients).items():
            p = self._params[name]
            if decay and recipe.decay == "coupled":
                g = g + decay * p
            elif decay:
                p.assign_sub(rate * decay * p)
            update(p, g, *(slots[name] for slots in self.slots.values()))
        d = recipe.average
        for name, average in self.averages.items():
            average.assign(d * average + (1 - d) * self._params[name])

    def _clip(self, gradients: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        limit, max_norm = self._recipe.clip_value, self._recipe.clip_norm
        if limit is not None:
            return {name: tf.clip_by_value(g, -limit, limit) for name, g in gradients.items()}
        if max_norm is None:
            return gradients
        scale = tf.minimum(max_norm / tf.linalg.global_norm(list(gradients.values())), 1.0)
        return {name: g * scale for name, g in gradients.items()}

    # -- the update of one parameter, given what is the same for all -----------------------------

    def _sgd(self, rate: Rate) -> Update:
        recipe, lr = self._recipe, self._number(rate)
        if recipe.momentum == 0:
            return lambda p, g: tf.raw_ops.ResourceApplyGradientDescent(
                var=p.handle, alpha=lr, delta=g
            )
        if recipe.dampening:
            return self._dampened(lr)
        return lambda p, g, m: tf.raw_ops.ResourceApplyMomentum(
            var=p.handle,
            accum=m.handle,
            lr=lr,
            grad=g,
            momentum=self._number(recipe.momentum),
            use_nesterov=recipe.nesterov,
        )

    def _dampened(self, lr: tf.Tensor) -> Update:
        recipe, first = self._recipe, tf.equal(self._steps.assign_add(1), 1)
        fresh = tf.where(first, self._number(1.0), self._number(1 - recipe.dampening))
        return lambda p, g, m: p.assign_sub(lr * m.assign(recipe.momentum * m + fresh * g))

    def _adam(self, rate: Rate) -> Update:
        # Beta as rounded to the dtype because the kernel computes 1 - beta from that: 1 - 0.999
        # is off by 1.3e-5 in float32, in numerator and denominator alike.
        rounded = [float(self._dtype.as_numpy_dtype(beta)) for beta in self._recipe.betas]
        correction1, correction2 = self._corrections(rounded)
        # With its powers of beta at 0 the kernel does p -= lr * m / (sqrt(v) + epsilon). These
        # two make that the pinned formula, whose epsilon is outside of the corrected root.
        lr = rate * tf.sqrt(correction2) / correction1
        epsilon = self._recipe.epsilon * tf.sqrt(correction2)
        beta1, beta2 = (self._number(beta) for beta in self._recipe.betas)
        return lambda p, g, m, v: tf.raw_ops.ResourceApplyAdam(
            var=p.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=self._number(0.0),
            beta2_power=self._number(0.0),
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            grad=g,
        )

    def _nadam(self, rate: Rate) -> Update:
        recipe, (_, correction2) = self._recipe, self._corrections(self._recipe.betas)

        def mu(t: tf.Tensor) -> tf.Tensor:
            power = tf.exp(tf.cast(t, self._dtype) * (MOMENTUM_DECAY * math.log(0.96)))
            return recipe.betas[0] * (1 - 0.5 * power)

        now, following = mu(self._steps), mu(self._steps + 1)
        product = self._product.assign(self._product * now)
        of_g, of_m = (1 - now) / (1 - product), following / (1 - product * following)

        def update(p: tf.Variable, g: tf.Tensor, m: tf.Variable, v: tf.Variable) -> None:
            new_m, new_v = self._moments(g, m, v)
            root = tf.sqrt(new_v / correction2)
            p.assign_sub(rate * (of_g * g + of_m * new_m) / (root + recipe.epsilon))

        return update

    def _amsgrad(self, rate: Rate) -> Update:
        recipe, (correction1, correction2) = self._recipe, self._corrections(self._recipe.betas)

        def update(
            p: tf.Variable, g: tf.Tensor, m: tf.Variable, v: tf.Variable, w: tf.Variable
        ) -> None:
            new_m, new_v = self._moments(g, m, v)
            root = tf.sqrt(w.assign(tf.maximum(w, new_v)) / correction2)
            p.assign_sub(rate * (new_m / correction1) / (root + recipe.epsilon))

        return update

    def _rmsprop(self, rate: Rate) -> Update:
        recipe, smoothing = self._recipe, self._recipe.smoothing

        def update(p: tf.Variable, g: tf.Tensor, v: tf.Variable, *m: tf.Variable) -> None:
            new_v = v.assign(smoothing * v + (1 - smoothing) * g * g)
            direction = g / (tf.sqrt(new_v) + recipe.epsilon)
            if m:
                direction = m[0].assign(recipe.momentum * m[0] + direction)
            p.assign_sub(rate * direction)

        return update

    def _adagrad(self, rate: Rate) -> Update:
        lr, epsilon = self._number(rate), self._number(self._recipe.epsilon)
        return lambda p, g, v: tf.raw_ops.ResourceApplyAdagradV2(
            var=p.handle, accum=v.handle, lr=lr, epsilon=epsilon, grad=g
        )

    # -- shared by several -----------------------------------------------------------------------

    def _corrections(self, betas: Sequence[float]) -> tuple[tf.Tensor, ...]:
        """Counts the step that begins: 1 - beta^t of both betas."""
        t = tf.cast(self._steps.assign_add(1), self._dtype)
        return tuple(-tf.math.expm1(t * math.log(beta)) for beta in betas)

    def _moments(self, g: tf.Tensor, m: tf.Variable, v: tf.Variable) -> tuple[tf.Tensor, tf.Tensor]:
        beta1, beta2 = self._recipe.betas
        new_m = m.assign(beta1 * m + (1 - beta1) * g)
        return new_m, v.assign(beta2 * v + (1 - beta2) * g * g)

    def _number(self, value: Rate) -> tf.Tensor:
        return tf.convert_to_tensor(value, self._dtype)


def _starts(recipe: Recipe) -> dict[str, float]:
    """With what the tensors start that the optimizer keeps of each parameter, by their letters in
    `adapters.training`."""
    momentum = {"m": 0.0} if recipe.momentum else {}
    starts = {
        "sgd": momentum,
        "amsgrad": {"m": 0.0, "v": 0.0, "w": 0.0},
        "rmsprop": {"v": 0.0, **momentum},
        "adagrad": {"v": recipe.initial_accumulator},
    }
    return starts.get(recipe.optimizer, {"m": 0.0, "v": 0.0})


_RULES: dict[str, Callable[[Optimizer, Rate], Update]] = {
    "sgd": Optimizer._sgd,
    "adam": Optimizer._adam,
    "adamw": Optimizer._adam,
    "nadam": Optimizer._nadam,
    "amsgrad": Optimizer._amsgrad,
    "rmsprop": Optimizer._rmsprop,
    "adagrad": Optimizer._adagrad,
}
