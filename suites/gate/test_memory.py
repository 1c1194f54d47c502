"""Do steady steps take more memory than in base?"""

from suites.selection import Plan

PLAN = Plan("gate_memory", ("infer", "train"), ("fp32",), "small")


def test_memory(case, gated):
    gated(case)
