"""Latency: single synchronised calls on one example, whose percentiles are published."""

from suites.selection import QUANTIZED, SHIPPED, Plan

PLANS = [
    Plan("latency", ("infer",), ("fp32",), "small", batch=1),
    Plan("latency", ("infer",), QUANTIZED, "small", models=SHIPPED, batch=1, thorough=QUANTIZED),
]


def test_latency(case, run, processes):
    with run(case) as attempt:
        for client in attempt.workers(processes):
            attempt.warm_up(client)
            attempt.latency(client)
