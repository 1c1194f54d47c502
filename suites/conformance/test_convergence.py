"""Training that converges: on real data every adapter reaches a stated score on examples that it
does not see, with several seeds, and none needs more steps than the others."""

from adapters import model as models
from harness.convergence import SEEDS
from suites.selection import Plan

GOALS = {name: goal for name in models.names() if (goal := models.get(name).goal) is not None}
PLANS = [
    Plan(
        "convergence",
        modes=("train",),
        precisions=("fp32",),
        size="tiny",
        recipes=(goal.recipe,),
        models=(name,),
        batch=goal.batch,
    )
    for name, goal in GOALS.items()
]


def test_convergence(case, run, request):
    with run(case) as attempt:
        attempt.converge(SEEDS[request.config.option.preset], families=len(GOALS))
