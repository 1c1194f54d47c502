"""Differentiation in every adapter: first and higher order, Hessian-vector products, per-example
gradients, through branches and loops, stopped, custom, of what is used twice and of what is not."""

from suites.conformance.autodiff import exercises
from suites.selection import Table

#: What takes Inductor minutes to compile.
SLOW = ("second_order", "third_order", "hessian_vector", "per_example_gradients", "used_twice",
        "unused_parameter", "through_branch")  # fmt: skip
TABLE = Table("autodiff", exercises, later={"torch_compile": SLOW})


def test_differentiation(case, run):
    with run(case) as attempt:
        attempt.examine()
