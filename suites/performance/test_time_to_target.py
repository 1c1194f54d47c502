"""How long until it has learnt: the time of training until the model's goal is reached, per seed.

One process that finds nothing compiled trains once per seed, alone on the machine. The first seed
includes compiling, which is what somebody waits for who trains once; the others do not. Evaluation
is done by NumPy in every adapter and is not counted.
"""

from harness.convergence import SEEDS
from suites.conformance.test_convergence import GOALS
from suites.selection import Plan

PLANS = [
    Plan(
        "time_to_target",
        modes=("train",),
        precisions=("fp32",),
        size="tiny",  # that is what goals are about
        recipes=(goal.recipe,),
        models=(name,),
        batch=goal.batch,
    )
    for name, goal in GOALS.items()
]


def test_time_to_target(case, run, request):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        attempt.time_to_target(SEEDS[request.config.option.preset])
