"""Step time and throughput of inference in steady state: every model in every adapter."""

import pytest

from conftest import CLOCK
from suites.performance.measuring import measure_steps
from suites.selection import in_precisions

PLANS = in_precisions("performance", "infer", "generate")


@pytest.mark.benchmark(timer=CLOCK)
def test_step(case, run, benchmark, processes, tracing):
    measure_steps(case, run, benchmark, processes=processes, clock=CLOCK, tracing=tracing)
