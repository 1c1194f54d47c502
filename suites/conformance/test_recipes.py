"""Every training recipe in every adapter, on the smallest model; and what only a model with batch
normalisation can show of accumulation."""

from adapters import model as models
from adapters.training import RECIPES
from suites.selection import Plan

MODEL = "mlp"
SCALED = "sgd_overflow"  # differs in what only float16 uses


def plan(model: str, recipes: tuple[str, ...]) -> Plan:
    return Plan(
        "conformance",
        modes=("train",),
        precisions=("fp64", "fp32"),
        size="tiny",
        recipes=recipes,
        models=(model,),
        second=("fp32",),  # a compiler compiles the same loss for each
        later=("torch_compile", "litert"),  # whose optimizer is that of torch_eager, or none
    )


PLANS = [
    plan(MODEL, tuple(name for name in RECIPES if name not in (models.get(MODEL).recipe, SCALED))),
    plan("convnet", ("sgd_accumulation",)),
]


def test_recipe(case, run):
    with run(case) as attempt:
        attempt.agree()
