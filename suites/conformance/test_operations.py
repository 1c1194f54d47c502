"""Every operation of the vocabulary in every adapter and precision: what it gives and its gradient,
over odd sizes, size 1, nothing, non-contiguous inputs, large reductions, extreme values, NaN,
infinities and ties; and exactly, on integers, for what moves values or is linear."""

from suites.conformance.essentials import fewest
from suites.conformance.operations import exercises
from suites.selection import Table

TABLE = Table("operations", exercises, fewest=fewest)


def test_operation(case, run):
    with run(case) as attempt:
        attempt.examine()
