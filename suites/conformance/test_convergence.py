"""Training that converges: on real data every adapter reaches a stated score on examples that it
does not see, with several seeds, and none needs more steps than the others."""

from harness.convergence import SEEDS
from suites.goals import GOALS, plans

PLANS = plans("convergence")


def test_convergence(case, run, request):
    with run(case) as attempt:
        attempt.converge(SEEDS[request.config.option.preset], families=len(GOALS))
