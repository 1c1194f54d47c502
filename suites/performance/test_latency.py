"""Latency: single synchronised calls on one example, whose percentiles are published."""

from suites.selection import Plan

PLAN = Plan("latency", modes=("infer",), precisions=("fp32",), size="small", batch=1)


def test_latency(case, run, processes):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        for number in range(processes):
            client = attempt.start(number)
            if number == 0:
                attempt.agree_in_place(client)
                attempt.prove(client)
            attempt.warm_up(client)
            attempt.latency(client)
