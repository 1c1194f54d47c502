"""Loss scaling as its trace shows it: what is right, and every way to get it wrong."""

from dataclasses import replace

import pytest

from adapters.training import LossScale
from numerics.scaling import Trace, problems

CONSTANTS = LossScale(8.0, interval=2)
#          left out, taken, taken (grows), left out, taken
RIGHT = Trace(
    scale=[4.0, 4.0, 8.0, 4.0, 4.0],
    good=[0, 1, 0, 0, 1],
    moved=[False, True, True, False, True],
    finite=True,
    steps=3,
)


def test_what_the_formula_does_is_right():
    assert problems(RIGHT, CONSTANTS) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"moved": [True, True, True, False, True]}, "step 1 moved parameters: the scale became 4"),
        ({"scale": [8.0, 4.0, 8.0, 4.0, 4.0]}, "step 1 was left out: the scale became 8"),
        ({"scale": [4.0, 4.0, 4.0, 4.0, 4.0]}, "step 3 moved parameters: the scale became 4"),
        ({"good": [0, 1, 2, 0, 1]}, "step 3 moved parameters: 2 good steps in a row"),
        ({"good": [0, 1, 0, 1, 1]}, "step 4 was left out: 1 good steps in a row"),
        ({"finite": False}, "an overflow was not left out"),
        ({"steps": 5}, "3 steps moved parameters, but 5 were counted"),
    ],
)
def test_what_is_wrong_is_told(changes, told):
    assert any(told in line for line in problems(replace(RIGHT, **changes), CONSTANTS))


def test_a_trace_in_which_nothing_happens_shows_nothing():
    calm = Trace([8.0], [1], [True], True, 1)
    assert any("nothing was provoked" in line for line in problems(calm, CONSTANTS))
    assert any("never grew" in line for line in problems(calm, CONSTANTS))
