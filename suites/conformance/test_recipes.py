"""Every training recipe in every adapter, on the smallest model, in float64."""

from adapters import model as models
from adapters.training import RECIPES
from suites.selection import Plan

MODEL = "mlp"
PLAN = Plan(
    "conformance",
    modes=("train",),
    precisions=("fp64",),
    size="tiny",
    recipes=tuple(name for name in RECIPES if name != models.get(MODEL).recipe),
    models=(MODEL,),
)


def test_recipe(case, run):
    with run(case) as attempt:
        attempt.agree()
