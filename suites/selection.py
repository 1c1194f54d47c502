"""Which cases a suite runs: its plan, narrowed by what the user asked for."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from adapters import model as models
from adapters import precisions
from adapters.registry import ALL, ESSENTIAL, FIRST, QUICK, Registry, choose
from numerics.exercises import Exercise
from results.records import DEVICES, Case

PRECISIONS = tuple(precisions.PRECISIONS)
PROGRAMS = 10  # that are drawn for a property
#: Models that are quantized: those that people ship in integers.
SHIPPED = ("mlp", "convnet", "resnet50", "vit", "bert", "lstm")
SWEEPS = ("batch", "threads", "length")
#: What preset quick measures of all models that it checks, unless models are asked for by name: a
#: perceptron, a convolutional network, a recurrent one, an encoder and a decoder.
MEASURED = ("mlp", "convnet", "lstm", "vit", "gpt")
#: Precisions of integers.
QUANTIZED = tuple(name for name, known in precisions.PRECISIONS.items() if known.scheme is not None)
#: Precisions below fp32, but for the usual amp_bf16: measured by presets standard and full.
LOWER = tuple(name for name in PRECISIONS if name not in ("fp64", "fp32", "amp_bf16", *QUANTIZED))


@dataclass(frozen=True)
class Plan:
    """What a test module wants to run: every combination. `recipes` empty stands for each
    model's own, `models` empty for all, `batch` 0 for each model's usual one. A plan with a `sweep`
    runs when that is asked for, over models that have it.

    Of adapters that take long to start a program (`adapters.registry.QUICK`) preset quick asks
    less: precisions in `second` not of those that do nothing in fp64 there, nothing of adapters in
    `later`, and of models that it does not measure fp64 alone in suite "conformance". Precisions in
    `thorough` it asks of nobody, unless precisions are asked for by name."""

    suite: str
    modes: tuple[str, ...]
    precisions: tuple[str, ...]
    size: str
    recipes: tuple[str, ...] = ("",)
    models: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    batch: int = 0
    sweep: str = ""
    second: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    thorough: tuple[str, ...] = ()


def in_precisions(suite: str, *modes: str) -> list[Plan]:
    """What is measured of models of size small: in fp32 and, but for training in amp_bf16 from
    preset standard on, in the others."""
    mixed = Plan(suite, ("train",), ("amp_bf16",), "small", later=("torch_compile", "tf_xla"))
    others = tuple(mode for mode in modes if mode != "train")
    quantized = Plan(suite, ("infer",), QUANTIZED, "small", models=SHIPPED, thorough=QUANTIZED)
    return [
        Plan(suite, modes, ("fp32",), "small"),
        *([mixed] if "train" in modes else []),
        Plan(suite, others, ("amp_bf16",), "small", thorough=("amp_bf16",)),
        Plan(suite, modes, LOWER, "small", thorough=LOWER),
        *([quantized] if "infer" in modes else []),
    ]


@dataclass(frozen=True)
class Table:
    """A suite of exercises: a test module's `TABLE`. Every subject of every adapter in every
    precision is a case, and one more where gradients are taken. `exercises` makes the table;
    `in_turn` has one function do the exercises of a subject, one after the other. Of a `whole`
    table preset quick asks all that there is in a precision, also of adapters that take long to
    start, in shared programs. Subjects in `later` it does not ask of adapters that are named
    there, of adapters in `spared` only the precisions that stand there, and of everybody only what
    `quick` says yes to. Where there is time for a few only, `fewest` chooses them, for a mode and
    out of the exercises of one subject, the most important one first. `threads` are those of the
    workers; 0: one."""

    suite: str
    exercises: Callable[[], Sequence[Exercise]]
    in_turn: bool = False
    whole: bool = False
    later: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quick: Callable[[Exercise], bool] = lambda exercise: True
    fewest: Callable[[str, Sequence[Exercise]], list[Exercise]] = lambda mode, own: list(own)
    threads: int = 0

    def subjects(self) -> dict[str, list[Exercise]]:
        """The exercises by what they are about."""
        found: dict[str, list[Exercise]] = defaultdict(list)
        for exercise in self.exercises():
            found[exercise.subject].append(exercise)
        return found


@dataclass(frozen=True)
class Subjects:
    """A suite whose cases are named by what they are about: a test module's `SUBJECTS`."""

    suite: str
    names: tuple[str, ...]
    precisions: tuple[str, ...]


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
    preset: str = "quick"

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
        size = plan.size if plan.size == "tiny" else self.size or plan.size  # what is measured
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
            if mode in models.get(model).modes
            for precision in plan.precisions
            if not self.precisions or precision in self.precisions
            for adapter in self._adapters(plan)
            if self._sensible(mode, precision) and self._asks(plan, adapter, model, precision)
        ]

    def _sensible(self, mode: str, precision: str) -> bool:
        """Whether somebody may support it; what is asked for by name is always asked."""
        if precision in self.precisions:
            return True
        numbers = precisions.PRECISIONS[precision]
        return (numbers.trains or mode != "train") and (self.device == "cuda" or not numbers.tf32)

    def _asks(self, plan: Plan, adapter: str, model: str, precision: str) -> bool:
        """Whether the preset asks an adapter to run a model."""
        if self.preset == "quick" and precision in plan.thorough and not self.precisions:
            return False
        if self.preset != "quick" or adapter not in QUICK or self.models:
            return True
        in_fp64 = self._level(adapter, "fp64") is not None
        if adapter in plan.later or (precision in plan.second and not in_fp64):
            return False
        if model in MEASURED or plan.size != "tiny":
            return True
        return in_fp64 and (precision == "fp64" or plan.suite != "conformance")

    def exercises(self, table: Table) -> dict[Case, list[Exercise]]:
        """The cases of `table` that the user wants, with what is to be done in each; none where
        models were asked for by name."""
        if self.models:
            return {}
        found: dict[Case, list[Exercise]] = {}
        for subject, exercises in table.subjects().items():
            for mode in ("infer", "train"):
                for precision in PRECISIONS:
                    if self.precisions and precision not in self.precisions:
                        continue
                    own = [e for e in exercises if mode == "infer" or e.by]
                    own = [e for e in own if precision in e.precisions]
                    for adapter in self.registry.select(self.adapters):
                        if asked := self._of_table(table, mode, adapter, precision, own):
                            case = self._case(table.suite, mode, subject, adapter, precision)
                            case = dataclasses.replace(case, threads=table.threads)
                            found[case] = asked
        return found

    def together(self, case: Case, table: Table) -> bool:
        """Whether a case of exercises of `table` shares its programs with others."""
        level = self._level(case.adapter, case.precision)
        return level == FIRST or (table.whole and self.preset == "quick" and case.adapter in QUICK)

    def subjects(self, wanted: Subjects) -> list[Case]:
        """The cases of `wanted`; none where models were asked for by name."""
        if self.models:
            return []
        return [
            self._case(wanted.suite, "infer", name, adapter, precision)
            for name in wanted.names
            for precision in wanted.precisions
            if not self.precisions or precision in self.precisions
            for adapter in self.registry.select(self.adapters)
        ]

    def programs(self, adapter: str) -> int:
        """How many programs are drawn for a property: few, where starting one takes long."""
        level = self._level(adapter, "fp64")
        if level is None:
            return 1
        return 3 if adapter in QUICK and self.preset == "quick" else PROGRAMS

    def _level(self, adapter: str, precision: str) -> str | None:
        """Which exercises the preset asks of an adapter in a precision; None: nothing."""
        if self.preset != "quick" or adapter not in QUICK:
            return ALL
        return QUICK[adapter].get(precision)

    def _of_table(
        self, table: Table, mode: str, adapter: str, precision: str, own: list[Exercise]
    ) -> list[Exercise]:
        """Those of a subject's exercises that the preset asks of an adapter."""
        if self.preset == "quick":
            if own and own[0].subject in table.later.get(adapter, ()):
                return []
            if precision not in table.spared.get(adapter, (precision,)):
                return []
            own = [exercise for exercise in own if table.quick(exercise)]
        level = self._level(adapter, precision)
        if level is None:
            return []
        if level == ALL or table.in_turn or table.whole:
            return own
        fewest = table.fewest(mode, own)
        return fewest if level == ESSENTIAL else fewest[:1]

    def _case(self, suite: str, mode: str, subject: str, adapter: str, precision: str) -> Case:
        return Case(suite, mode, subject, "tiny", adapter, self.device, precision, batch=1)

    def _models(self, plan: Plan, size: str) -> list[str]:
        own = plan.models
        if not own and plan.size != "tiny" and self.preset == "quick" and not self.models:
            own = MEASURED
        known = [name for name in models.names() if not own or name in own]
        wanted = [name for name in known if not self.models or name in self.models]
        if plan.sweep == "length":
            wanted = [name for name in wanted if models.get(name).lengths]
        return [name for name in wanted if size in models.get(name).sizes]

    def _adapters(self, plan: Plan) -> list[str]:
        known = plan.adapters or self.registry.select(self.adapters)
        return [name for name in known if not self.adapters or name in self.adapters]
