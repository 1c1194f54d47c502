"""An adapter against its native control: the same network as the framework's users write it.

Two live workers take turns, so that whatever disturbs the machine disturbs both. Each round is
one block of each, in alternating order (ABBA), and gives one ratio of step times. Where memory
happens to lie makes one process faster than the next, so there are several pairs of processes, and
they are started in alternating order.
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
    models=("convnet", "vit"),  # a step of mlp is 0.1 ms: it would compare Python with Python
    adapters=tuple(CONTROLS),
)
PAIRS = {"quick": 2, "standard": 4, "full": 8}  # of processes, by preset


def test_control(case, run, request):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        for number in range(PAIRS[request.config.option.preset]):
            adapter, control = attempt.start_pair(
                CONTROLS[case.adapter], control_first=number % 2 == 1
            )
            if number == 0:
                attempt.agree_in_place(adapter)
                attempt.agree_as_control(control)
                attempt.note = "step time over the control's, per pair of processes:"
            steps = max(attempt.warm_up(adapter), attempt.warm_up(control))
            ratios = []
            for order in itertools.islice(itertools.cycle((1, -1, -1, 1)), ROUNDS):
                seconds = {
                    client: attempt.block(client, steps)["seconds"]
                    for client in (adapter, control)[::order]
                }
                ratios.append(seconds[adapter] / seconds[control])
            attempt.record_ratio(ratios, steps)
