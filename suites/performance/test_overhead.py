"""What Assay's way of writing models costs: an adapter against its native control, which is the
same network as the framework's users write it.

Two live workers take turns, so that whatever disturbs the machine disturbs both. Where memory
happens to lie makes one process faster than the next, so there are several pairs of processes, and
they are started in alternating order.
"""

from adapters.registry import CONTROLS
from suites.selection import Plan

PLAN = Plan(
    "overhead",
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
                attempt.prove(adapter)
                attempt.agree_as_control(control)
                attempt.note = "step time over the control's, per pair of processes:"
            steps = max(attempt.warm_up(adapter), attempt.warm_up(control))
            attempt.record_ratio(attempt.alternate(adapter, control, steps), steps)
