"""Differentiation in every adapter: first and higher order, Hessian-vector products, per-example
gradients, through branches and loops, stopped, custom, of what is used twice and of what is not."""

from suites.conformance.autodiff import exercises
from suites.selection import Table

TABLE = Table("autodiff", exercises)


def test_differentiation(case, run):
    with run(case) as attempt:
        attempt.examine()
