"""Which cases a suite runs: its plan, narrowed by what the user asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters import model as models
from adapters.registry import Registry, choose
from results.records import DEVICES, Case

PRECISIONS = ("fp64", "fp32")
SWEEPS = ("batch", "threads", "length")


@dataclass(frozen=True)
class Plan:
    """What a test module wants to run: every combination. `recipes` empty stands for each
    model's own, `models` empty for all, `batch` 0 for each model's usual one. A plan with a `sweep`
    runs when that is asked for, over models that have it."""

    suite: str
    modes: tuple[str, ...]
    precisions: tuple[str, ...]
    size: str
    recipes: tuple[str, ...] = ("",)
    models: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    batch: int = 0
    sweep: str = ""


@dataclass(frozen=True)
class Selection:
    """What the user asked for; empty means everything. Raises UnknownName when made."""

    registry: Registry
    adapters: Sequence[str] = ()
    models: Sequence[str] = ()
    precisions: Sequence[str] = ()
    device: str = "cpu"
    size: str = ""  # of the models that are measured; empty: the plan's
    sweeps: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.registry.select(self.adapters)
        choose("model", self.models, models.names())
        choose("precision", self.precisions, PRECISIONS)
        choose("device", [self.device], DEVICES)
        sizes = sorted({size for name in models.names() for size in models.get(name).sizes})
        choose("size", [self.size] if self.size else [], sizes)
        choose("sweep", self.sweeps, SWEEPS)

    def cases(self, plan: Plan) -> list[Case]:
        """The cases of `plan` that the user wants, adapters innermost, so that a comparison is
        complete as early as possible."""
        if plan.sweep and plan.sweep not in self.sweeps:
            return []
        size = plan.size if plan.suite == "conformance" else self.size or plan.size
        return [
            Case(
                suite=plan.suite,
                mode=mode,
                model=model,
                size=size,
                adapter=adapter,
                device=self.device,
                precision=precision,
                batch=plan.batch or models.get(model).batch[size],
                recipe=recipe,
            )
            for model in self._models(plan, size)
            for recipe in plan.recipes
            for mode in plan.modes
            for precision in plan.precisions
            if not self.precisions or precision in self.precisions
            for adapter in self._adapters(plan)
        ]

    def _models(self, plan: Plan, size: str) -> list[str]:
        known = [name for name in models.names() if not plan.models or name in plan.models]
        wanted = [name for name in known if not self.models or name in self.models]
        if plan.sweep == "length":
            wanted = [name for name in wanted if models.get(name).lengths]
        return [name for name in wanted if size in models.get(name).sizes]

    def _adapters(self, plan: Plan) -> list[str]:
        known = plan.adapters or self.registry.select(self.adapters)
        return [name for name in known if not self.adapters or name in self.adapters]
