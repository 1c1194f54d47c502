"""Weights come from NumPy: a program has every parameter under its name, bit by bit. The vision
transformer has blocks whose parameters differ in nothing but their names."""

from suites.conformance.traps import traps
from suites.selection import Plan

PLAN = Plan(
    "traps", modes=("train",), precisions=("fp64", "fp32"), size="tiny", models=("vit",)
)  # fmt: skip
ABOUT = ("initialisers", "naming")


def test_parameters_are_those_that_were_given(case, run):
    with run(case) as attempt:
        for trap in traps():
            if trap.slug in ABOUT:
                attempt.tell(trap.told)
        attempt.load()
