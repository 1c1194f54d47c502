"""Step time, throughput, cold start and memory of every model in every adapter.

A case is timed only after the very program that is timed was found right.
"""

import pytest

from conftest import CLOCK
from harness.runner import ROUNDS
from suites.selection import Plan

PLAN = Plan("performance", modes=("infer", "train"), precisions=("fp32",), size="small")


@pytest.mark.benchmark(timer=CLOCK)
def test_step(case, run, benchmark, processes):
    benchmark.group = f"{case.mode}/{case.model}/{case.size}/{case.device}/{case.precision}"
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        for number in range(processes):
            client = attempt.start(fresh=processes > 1)
            if number == 0:
                attempt.agree_in_place(client)
            steps = attempt.warm_up(client)
            blocks: list[dict[str, float]] = []

            def measure(client=client, steps=steps, blocks=blocks):
                blocks.append(attempt.block(client, steps))
                CLOCK.advance(blocks[-1]["seconds"] / steps)

            if number < processes - 1:
                for _ in range(ROUNDS):
                    measure()
            else:  # pytest-benchmark shows one process: the last
                benchmark.pedantic(measure, rounds=ROUNDS, iterations=1)
            attempt.record_rounds(blocks, steps)
        attempt.prove(client)
        attempt.remember()
