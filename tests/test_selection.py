"""Which exercises a preset asks of whom."""

import dataclasses
import importlib

import numpy as np
import pytest

from adapters import model as models
from adapters.exercise import Call
from adapters.registry import Registry
from numerics.exercises import Exercise
from suites.selection import MEASURED, PROGRAMS, Plan, Selection, Subjects, Table

X = np.ones(2)
TABLE = Table(
    "operations",
    lambda: [
        Exercise("relu", "usual", Call("relu"), {"x": X}, ("x",)),
        Exercise("relu", "odd sizes", Call("relu"), {"x": X}),
        Exercise("relu", "ties", Call("relu"), {"x": X}, exact=True),
        Exercise("exp", "far", Call("exp"), {"x": X}, precisions=("fp64", "fp32")),
    ],
    fewest=lambda mode, own: [e for e in own if e.name in ("ties", "usual", "far")][::-1],
)
REGISTRY = Registry({"torch_eager": "t", "jax_jit": "j", "torch_compile": "c", "mine": "m"})


def asked(**options):
    found = Selection(REGISTRY, **options).exercises(TABLE)
    return {
        (case.model, case.mode, case.adapter, case.precision): [e.name for e in exercises]
        for case, exercises in found.items()
    }


def test_an_eager_adapter_and_somebody_else_s_do_everything_in_every_precision():
    found = asked()
    for adapter in ("torch_eager", "mine"):
        for precision in ("fp64", "fp32", "bf16", "fp16"):
            assert found["relu", "infer", adapter, precision] == ["usual", "odd sizes", "ties"]
        assert found["relu", "train", adapter, "fp64"] == ["usual"]
        assert ("exp", "infer", adapter, "bf16") not in found
        assert ("exp", "train", adapter, "fp64") not in found


def test_preset_quick_asks_less_of_compilers():
    found = asked()
    assert found["relu", "infer", "jax_jit", "fp64"] == ["ties", "usual"]
    assert found["relu", "infer", "jax_jit", "fp32"] == ["ties", "usual"]
    assert found["relu", "infer", "jax_jit", "bf16"] == ["ties"]
    assert found["relu", "infer", "torch_compile", "fp32"] == ["ties"]
    assert ("relu", "infer", "torch_compile", "fp64") not in found


def test_subjects_that_an_adapter_compiles_for_minutes_wait_for_preset_standard():
    slow = dataclasses.replace(TABLE, later={"torch_compile": ("relu",)})
    found = {
        (case.model, case.adapter)
        for case in Selection(REGISTRY, precisions=["fp32"]).exercises(slow)
    }
    assert ("relu", "torch_compile") not in found
    assert {("exp", "torch_compile"), ("relu", "jax_jit")} <= found
    later = Selection(REGISTRY, precisions=["fp32"], preset="standard").exercises(slow)
    assert ("relu", "torch_compile") in {(case.model, case.adapter) for case in later}


@pytest.mark.parametrize("preset", ["standard", "full"])
def test_other_presets_ask_everybody_for_everything(preset):
    found = asked(preset=preset)
    assert found["relu", "infer", "torch_compile", "fp64"] == ["usual", "odd sizes", "ties"]
    assert len(found) == 4 * (4 + 4 + 2)


def test_options_narrow_the_cases():
    assert {key[2:] for key in asked(adapters=["mine"], precisions=["fp64"])} == {("mine", "fp64")}
    assert asked(models=["mlp"]) == {}


def test_subjects_are_cases_of_every_adapter():
    wanted = Subjects("properties", ("layout", "reduction"), precisions=("fp64",))
    selection = Selection(REGISTRY, adapters=["mine"])
    assert [case.model for case in selection.subjects(wanted)] == ["layout", "reduction"]
    assert Selection(REGISTRY, precisions=["fp32"]).subjects(wanted) == []
    assert Selection(REGISTRY, models=["mlp"]).subjects(wanted) == []


def test_fewer_programs_are_drawn_where_starting_one_takes_long():
    selection = Selection(REGISTRY)
    drawn = [selection.programs(name) for name in ("mine", "jax_jit", "torch_compile")]
    assert drawn == [PROGRAMS, 3, 1]
    assert Selection(REGISTRY, preset="full").programs("torch_compile") == PROGRAMS


def test_a_table_that_chooses_nothing_is_asked_whole():
    table = dataclasses.replace(TABLE, fewest=Table.fewest)
    found = Selection(REGISTRY, precisions=["fp64"]).exercises(table)
    names = {case.adapter: [e.name for e in own] for case, own in found.items()
             if (case.model, case.mode) == ("relu", "infer")}  # fmt: skip
    assert names["jax_jit"] == ["usual", "odd sizes", "ties"]


def test_the_real_tables_have_something_for_every_adapter():
    modules = (
        "autodiff", "compositions", "control", "integers",
        "operations", "sizes", "threads", "traps",
    )  # fmt: skip
    for module in modules:
        table = importlib.import_module(f"suites.conformance.test_{module}").TABLE
        cases = Selection(Registry.load()).exercises(table)
        without = {"litert"}  # which runs no single operations
        without |= {name for name, precisions in table.spared.items() if not precisions}
        assert {case.adapter for case in cases} == set(Registry.load().modules) - without
        asked = {name for name, own in table.subjects().items() if any(map(table.quick, own))}
        assert {case.model for case in cases} == asked
        assert set(table.later) <= set(Registry.load().modules)
        assert {name for names in table.later.values() for name in names} <= set(table.subjects())


@pytest.mark.parametrize(("preset", "number"), [("quick", 3), ("standard", 4)])
def test_a_plan_s_second_precisions_are_left_to_others_by_slow_compilers(preset, number):
    precisions = ("fp64", "fp32")
    plan = Plan("conformance", ("train",), precisions, "tiny", models=("mlp",), second=("fp32",))
    cases = Selection(REGISTRY, adapters=["mine", "torch_compile"], preset=preset).cases(plan)
    assert len(cases) == number


def measured(preset="quick", wanted=(), **plan):
    plan = Plan("performance", ("infer", "generate"), ("fp32",), **{"size": "small", **plan})
    selection = Selection(REGISTRY, preset=preset, models=wanted, adapters=("mine",))
    return {(case.model, case.mode) for case in selection.cases(plan)}


def test_preset_quick_measures_a_few_models_unless_it_is_asked_for_others():
    assert {name for name, _ in measured()} == set(MEASURED)
    assert ("resnet50", "infer") in measured("standard")
    assert measured(wanted=("resnet50",)) == {("resnet50", "infer")}
    assert {name for name, _ in measured(size="tiny")} == set(models.names())


def test_a_model_has_the_modes_that_it_can_do():
    assert [name for name, mode in measured("standard") if mode == "generate"] == ["gpt"]


def test_preset_quick_asks_compilers_less_of_models_that_it_does_not_measure():
    def asked(adapter, model, preset="quick", suite="conformance", **plan):
        plan = Plan(suite, ("train",), ("fp64", "fp32"), "tiny", models=(model,), **plan)
        cases = Selection(REGISTRY, adapters=[adapter], preset=preset).cases(plan)
        return [case.precision for case in cases]

    everything = ["fp64", "fp32"]
    for adapter in ("mine", "torch_eager"):
        assert asked(adapter, "unet") == everything
    assert asked("jax_jit", "unet") == ["fp64"]
    assert asked("torch_compile", "unet") == []
    assert asked("jax_jit", "unet", suite="convergence") == everything
    for adapter in ("jax_jit", "torch_compile"):
        assert asked(adapter, "vit") == asked(adapter, "unet", "standard") == everything
    assert asked("torch_compile", "mlp", later=("torch_compile",)) == []
