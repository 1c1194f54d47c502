"""The models whose training has a goal, as plans."""

from adapters import model as models
from suites.selection import Plan

GOALS = {
    name: goal
    for name in models.names()
    if (goal := models.get(name).goal) is not None and goal.compared
}


def plans(suite: str) -> list[Plan]:
    """One per model, with the recipe and the batch of its goal. Goals are about size tiny."""
    return [
        Plan(
            suite,
            modes=("train",),
            precisions=("fp32", "amp_bf16"),
            thorough=("amp_bf16",),
            size="tiny",
            recipes=(goal.recipe,),
            models=(name,),
            batch=goal.batch,
        )
        for name, goal in GOALS.items()
    ]
