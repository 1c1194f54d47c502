"""Scaling: throughput over batch size, number of threads or sequence length (`--sweep`).

A curve is one test; each of its points is a case with an outcome of its own. Running out of memory
is a point of the curve: it ends it.
"""

from suites.performance.sweeps import POINTS, measure_point
from suites.selection import Plan

PLANS = [
    Plan(f"sweep_{kind}", modes=("infer", "train"), precisions=("fp32",), size="small", sweep=kind)
    for kind in POINTS
]


def test_curve(case, curve, processes):
    points = POINTS[case.suite.removeprefix("sweep_")](case)
    curve(points, lambda attempt: measure_point(attempt, processes=processes))
