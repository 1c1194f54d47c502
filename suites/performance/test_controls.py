"""An adapter against its native control: the same network as the framework's users write it.

Two live workers take turns, so that whatever disturbs the machine disturbs both. Each round is
one block of each, in alternating order (ABBA), and gives one ratio of step times.
"""

import itertools

from adapters.registry import CONTROLS
from harness.runner import ROUNDS
from suites.selection import Plan

PLAN = Plan(
    "controls",
    modes=("infer", "train"),
    precisions=("fp32",),
    size="small",
    adapters=tuple(CONTROLS),
)
REPEATS = 3  # times ROUNDS: a ratio near 1 takes more rounds than a step time


def test_control(case, run):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        adapter, control = attempt.start_pair(CONTROLS[case.adapter])
        steps = max(attempt.warm_up(adapter), attempt.warm_up(control))
        ratios = []
        for order in itertools.islice(itertools.cycle((1, -1, -1, 1)), REPEATS * ROUNDS):
            seconds = {
                client: attempt.block(client, steps)["seconds"]
                for client in (adapter, control)[::order]
            }
            ratios.append(seconds[adapter] / seconds[control])
        attempt.record_ratio(ratios, steps)
