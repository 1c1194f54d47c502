"""Operations on shapes, strides and arguments that Hypothesis draws, in float64: results and
gradients. A failure is shrunk to the smallest example that still fails."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suites.conformance.properties import FAMILIES
from suites.selection import Subjects

SUBJECTS = Subjects("properties", tuple(FAMILIES), precisions=("fp64",))
TOGETHER = 6  # exercises that make one program


def test_property(case, run, programs):
    with run(case) as attempt:

        @settings(
            max_examples=programs(case.adapter),
            deadline=None,  # time is not what is tested, and a compiler takes seconds
            derandomize=True,  # the same examples for everybody
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(FAMILIES[case.model], min_size=TOGETHER, max_size=TOGETHER))
        def explore(exercises):
            attempt.explore(exercises)

        explore()
        attempt.explored()
