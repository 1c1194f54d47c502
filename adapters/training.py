"""Training recipes as named data, and their exact formulas.

These formulas are the specification. `adapters.numpy_optimizers` has them in NumPy; an adapter
uses its framework's own optimizer where that computes the same, and otherwise writes the formula
in its framework. Step numbers t start at 1. g is the gradient, p a parameter, all elementwise;
what is kept between steps starts at 0 unless it says otherwise. A step does, in this order:

Accumulation
    The batch is split into `accumulation` equal consecutive micro-batches. Loss and gradient are
    the means of theirs, at the same parameters. Batch normalisation sees one micro-batch at a
    time, and its running statistics go from one to the next.

Clipping, of the gradient before any decay
    by value    g <- min(max(g, -clip_value), clip_value)
    by norm     n = sqrt(sum over all parameters of ||g||^2);  g <- g * min(1, clip_norm / n)
                (Pascanu et al. 2013). No epsilon: torch.nn.utils.clip_grad_norm_ adds 1e-6 to n,
                TensorFlow and optax do not.

Rate, computed in float64 on the host
    rate(t) = learning_rate * schedule(t), the class `Schedule` below; lr is rate(t) from here on.

Decay
    coupled     g <- g + weight_decay * p, before the optimizer sees it: L2 regularisation
    decoupled   p <- p - lr * weight_decay * p, with the p before the step (Loshchilov and Hutter
                2019)

Loss scaling, where 16-bit gradients are float16 (`adapters.precisions`), before any clipping
    What is differentiated is scale * loss, and g <- g / scale (Micikevicius et al. 2018). Where any
    element of any g is not finite, the step is left out: parameters, averages and the optimizer
    stay, t as well; running statistics do not. Then scale <- scale * backoff. After `interval`
    steps in a row that were not left out, scale <- scale * growth. This is PyTorch's GradScaler.
    Its scale starts at 2^16; `LossScale.initial` is lower, so that no step of a conformance run is
    left out in one framework and not in another, by a gradient near the edge.

Optimizer
    sgd (Sutskever et al. 2013, in PyTorch's form: the learning rate is outside the velocity)
        m <- momentum * m + (1 - dampening) * g, but m <- g at t = 1, which is not dampened
        p <- p - lr * m;   nesterov: p <- p - lr * (g + momentum * m), with the new m

    adam (Kingma and Ba 2015), and adamw, whose decay is decoupled
        m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
        Epsilon is outside of the corrected root. Kingma and Ba also have a form that adds their
        epsilon-hat to the uncorrected root, which Keras uses.
        1 - beta^t needs care in float32, where beta itself is rounded: 1 - 0.999f is off by
        1.3e-5. It is computed in float64 on the host or as -expm1(t log beta), log beta in float64.

    nadam (Dozat 2016, in PyTorch's form), with adam's m and v
        mu(t) = beta1 * (1 - 0.96^(t * MOMENTUM_DECAY) / 2);   u(t) = mu(1) * ... * mu(t)
        d = (1 - mu(t)) / (1 - u(t)) * g + mu(t + 1) / (1 - u(t + 1)) * m
        p <- p - lr * d / (sqrt(v / (1 - beta2^t)) + epsilon)

    amsgrad (Reddi et al. 2018, in PyTorch's form: the maximum is of what is not corrected yet),
    with adam's m and v
        w <- max(w, v);   p <- p - lr * (m / (1 - beta1^t)) / (sqrt(w / (1 - beta2^t)) + epsilon)

    rmsprop (Tieleman and Hinton 2012, in PyTorch's form: epsilon is outside of the root, and the
    learning rate outside of the velocity)
        v <- smoothing * v + (1 - smoothing) * g^2;   m <- momentum * m + g / (sqrt(v) + epsilon)
        p <- p - lr * m

    adagrad (Duchi et al. 2011), epsilon outside of the root
        v <- v + g^2, v starts at initial_accumulator;   p <- p - lr * g / (sqrt(v) + epsilon)

Averages
    With `average` d, an exponential moving average of every trained parameter (Polyak and Juditsky
    1992) is kept beside it, which starts as the parameter does: a <- d a + (1 - d) p, with the p
    after the step.

Freezing
    A parameter whose name starts with one of `frozen` is a constant: it has no gradient, does not
    count for clipping, and does not decay.

The loss is the model's, a mean over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

T = TypeVar("T")

MOMENTUM_DECAY = 4e-3  # of nadam
#: Optimizer -> the constants that it has, of those that not all have.
KNOBS: dict[str, frozenset[str]] = {
    "sgd": frozenset({"momentum", "dampening", "nesterov"}),
    "adam": frozenset({"betas", "epsilon"}),
    "adamw": frozenset({"betas", "epsilon"}),
    "nadam": frozenset({"betas", "epsilon"}),
    "amsgrad": frozenset({"betas", "epsilon"}),
    "rmsprop": frozenset({"smoothing", "epsilon", "momentum"}),
    "adagrad": frozenset({"initial_accumulator", "epsilon"}),
}


@dataclass(frozen=True)
class Schedule:
    """The factor of the learning rate. Over the first `warm_up` steps it grows as t / warm_up. The
    steps after that are numbered s = 0, 1, ...:

    constant    1
    cosine      (1 + cos(pi min(s / steps, 1))) / 2   (Loshchilov and Hutter 2017, no restarts)
    step        factor^floor(s / every)
    """

    kind: str = "constant"
    warm_up: int = 0
    steps: int = 0
    every: int = 0
    factor: float = 1.0

    def __post_init__(self) -> None:
        _one_of("schedule", self.kind, ("constant", "cosine", "step"))
        _check(self.warm_up >= 0, f"warm_up is {self.warm_up}, but should be at least 0")
        for name, kind in (("steps", "cosine"), ("every", "step")):
            value, used = getattr(self, name), self.kind == kind
            wanted = f"{'at least 1' if used else 0} in a {self.kind} schedule"
            fine = value >= 1 if used else value == 0
            _check(fine, f"{name} is {value}, but should be {wanted}")
        _check(self.factor > 0, f"factor is {self.factor}, but should be above 0")
        _check(self.factor == 1 or self.kind == "step", f"a {self.kind} schedule has no factor")

    def __call__(self, t: int) -> float:
        if t <= self.warm_up:
            return t / self.warm_up
        s = t - 1 - self.warm_up
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * min(s / self.steps, 1.0))) / 2
        return self.factor ** (s // self.every) if self.kind == "step" else 1.0

    @property
    def is_constant(self) -> bool:
        """Whether every step has the same rate, which may then be compiled in."""
        return self.kind == "constant" and self.warm_up == 0


@dataclass(frozen=True)
class LossScale:
    """The constants of loss scaling."""

    initial: float = 2.0**10
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000


@dataclass(frozen=True)
class Recipe:
    """How to train: an optimizer in KNOBS and the constants of the formulas above. `clip_norm` or
    `clip_value` None: no such clipping."""

    optimizer: str
    learning_rate: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    smoothing: float = 0.99
    initial_accumulator: float = 0.0
    weight_decay: float = 0.0
    decay: str = "coupled"
    clip_norm: float | None = None
    clip_value: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    accumulation: int = 1
    average: float = 0.0
    frozen: tuple[str, ...] = ()
    scale: LossScale = field(default_factory=LossScale)

    def __post_init__(self) -> None:
        _one_of("optimizer", self.optimizer, KNOBS)
        _one_of("decay", self.decay, ("coupled", "decoupled"))
        own = frozenset().union(*KNOBS.values())
        for knob in fields(self):
            if knob.name in own - KNOBS[self.optimizer]:
                given = getattr(self, knob.name)
                _check(given == knob.default, f"{self.optimizer} has no {knob.name}, got {given}")
        for name in ("learning_rate", "clip_norm", "clip_value"):
            value = getattr(self, name)
            fine = value is None or (0 < value < math.inf)
            _check(fine, f"{name} is {value}, but should be a finite number above 0")
        for name in ("epsilon", "weight_decay", "initial_accumulator"):
            value = getattr(self, name)
            _check(0 <= value < math.inf, f"{name} is {value}, but should be 0 or above")
        for name in ("momentum", "dampening", "smoothing", "betas", "average"):
            value = getattr(self, name)
            fine = all(0 <= one < 1 for one in (value if name == "betas" else (value,)))
            _check(fine, f"{name} is {value}, but should be at least 0 and below 1")
        self._check_combinations()

    def _check_combinations(self) -> None:
        adamw, decoupled = self.optimizer == "adamw", self.decay == "decoupled"
        _check(decoupled or not adamw, "the decay of adamw is decoupled: coupled, it is adam")
        _check(not decoupled or self.optimizer != "adam", "adam with decoupled decay is adamw")
        plain = self.momentum == 0
        _check(not (plain and self.dampening), "dampening acts on momentum, which is 0")
        _check(not (plain and self.nesterov), "nesterov needs momentum, which is 0")
        _check(not (self.nesterov and self.dampening), "nesterov goes without dampening")
        both = self.clip_norm is not None and self.clip_value is not None
        _check(not both, "clip by norm or by value, not by both")
        parts = self.accumulation
        _check(parts >= 1, f"accumulation is {parts}, but should be at least 1")

    def trains(self, parameter: str) -> bool:
        """Whether a parameter is trained, by its name."""
        return not parameter.startswith(self.frozen)

    def trained(self, params: Mapping[str, T]) -> dict[str, T]:
        """Those of `params` that are trained."""
        return {name: value for name, value in params.items() if self.trains(name)}

    def rate(self, t: int) -> float:
        """The learning rate of step `t`, the first of which is 1."""
        return self.learning_rate * self.schedule(t)

    def mu(self, t: int) -> float:
        """The momentum of nadam's step `t`."""
        return self.betas[0] * (1 - 0.5 * 0.96 ** (t * MOMENTUM_DECAY))

    def mu_product(self, t: int) -> float:
        """u(t) of nadam."""
        return math.prod(self.mu(i) for i in range(1, t + 1))

    def micro_batch(self, examples: int) -> int:
        """How many of the `examples` of a batch are in each micro-batch."""
        parts = self.accumulation
        _check(examples % parts == 0, f"{examples} examples make no {parts} equal micro-batches")
        return examples // parts


def _check(fine: bool, problem: str) -> None:
    if not fine:
        raise ValueError(problem)


def _one_of(what: str, name: str, known: object) -> None:
    _check(name in known, f"unknown {what} {name!r}: there are {', '.join(known)}")  # type: ignore


_ADAMW = Recipe("adamw", 1e-3, weight_decay=0.01, decay="decoupled")

#: Every constant acts within the 10 steps after which updates are judged.
RECIPES: dict[str, Recipe] = {
    "sgd": Recipe("sgd", 0.05),
    "sgd_momentum": Recipe("sgd", 0.01, momentum=0.9),
    "sgd_nesterov": Recipe("sgd", 0.01, momentum=0.9, nesterov=True),
    "sgd_dampening": Recipe("sgd", 0.05, momentum=0.9, dampening=0.5),
    "sgd_momentum_clip": Recipe("sgd", 0.01, momentum=0.9, clip_norm=0.5),
    "sgd_clip_value": Recipe("sgd", 0.05, clip_value=0.05),
    "sgd_coupled_decay": Recipe("sgd", 0.01, momentum=0.9, weight_decay=0.1),
    "sgd_decoupled_decay": Recipe(
        "sgd", 0.01, momentum=0.9, weight_decay=0.1, decay="decoupled"
    ),
    "sgd_cosine": Recipe("sgd", 0.01, momentum=0.9, schedule=Schedule("cosine", steps=20)),
    "sgd_warmup_cosine": Recipe(
        "sgd", 0.01, momentum=0.9, schedule=Schedule("cosine", warm_up=5, steps=20)
    ),
    "sgd_step": Recipe("sgd", 0.01, momentum=0.9, schedule=Schedule("step", every=3, factor=0.9)),
    "sgd_accumulation": Recipe("sgd", 0.01, momentum=0.9, accumulation=2),
    "sgd_overflow": Recipe(
        "sgd", 0.01, momentum=0.9, clip_norm=0.5, scale=LossScale(2.0**40, interval=4)
    ),
    "sgd_average": Recipe("sgd", 0.01, momentum=0.9, average=0.9),
    "sgd_frozen": Recipe("sgd", 0.01, momentum=0.9, frozen=("fc1/",)),
    "adam": Recipe("adam", 1e-3),
    "adam_coupled_decay": Recipe("adam", 1e-3, weight_decay=0.01),
    "adamw": _ADAMW,
    "adamw_fast": replace(_ADAMW, learning_rate=5e-3),
    "adamw_tuning": replace(_ADAMW, learning_rate=2e-4),  # of parameters that are good already
    "adamw_clip": replace(_ADAMW, clip_norm=0.5),
    "adamw_clip_1": replace(_ADAMW, clip_norm=1.0),
    "adamw_cosine": replace(_ADAMW, weight_decay=1e-5, schedule=Schedule("cosine", steps=20)),
    "adamw_frozen_backbone": replace(_ADAMW, weight_decay=1e-5, frozen=("backbone/",)),
    "adamw_warmup": replace(_ADAMW, schedule=Schedule(warm_up=5)),
    "nadam": Recipe("nadam", 2e-3),
    "amsgrad": Recipe("amsgrad", 1e-3),
    "rmsprop": Recipe("rmsprop", 1e-3),
    "rmsprop_momentum": Recipe("rmsprop", 1e-3, momentum=0.9),
    "adagrad": Recipe("adagrad", 0.01, initial_accumulator=0.01),
}  # fmt: skip
