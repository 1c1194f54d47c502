"""Control flow that depends on data or shapes: the results are right, and the records say how often
each framework traced, compiled or gave up as values and shapes changed."""

from suites.conformance.control import exercises
from suites.selection import Table

TABLE = Table("control", exercises, in_turn=True)


def test_control_flow(case, run):
    with run(case) as attempt:
        attempt.examine()
