"""Latency: single synchronised calls on one example, whose percentiles are published."""

from suites.selection import Plan

PLAN = Plan("latency", modes=("infer",), precisions=("fp32",), size="small", batch=1)


def test_latency(case, run, processes):
    with run(case) as attempt:
        for client in attempt.workers(processes):
            attempt.warm_up(client)
            attempt.latency(client)
