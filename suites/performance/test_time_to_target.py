"""How long until it has learnt: the time of training until the model's goal is reached, per seed.

One process that finds nothing compiled trains once per seed, alone on the machine. The first seed
includes compiling, which is what somebody waits for who trains once; the others do not. Evaluation
is done by NumPy in every adapter and is not counted.
"""

from harness.convergence import SEEDS
from suites.goals import plans

PLANS = plans("time_to_target")


def test_time_to_target(case, run, request):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        attempt.time_to_target(SEEDS[request.config.option.preset])
