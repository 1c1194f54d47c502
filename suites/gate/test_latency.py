"""Has a synchronised call on one example become slower than in base?"""

from suites.selection import Plan

PLAN = Plan("gate_latency", ("infer",), ("fp32",), "small", batch=1)


def test_latency(case, gated):
    gated(case)
