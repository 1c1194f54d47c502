"""What Assay's way of writing models costs: an adapter against a native control, which is the same
network as the framework's users write it, with the same weights and inputs.

Two live workers take turns, so that whatever disturbs the machine disturbs both. Where memory
happens to lie makes one process faster than the next, so there are several pairs of processes, and
they are started in alternating order.

A step of mlp takes 0.1 ms at its usual batch, where Python would be compared with Python: here it
has 1024 examples.
"""

from collections import defaultdict

from adapters.registry import CONTROLS
from suites.selection import Plan

PREFIX = "overhead_"
PAIRS = {"quick": 2, "standard": 4, "full": 8}  # of processes, by preset


def plans():
    """One per control and batch."""
    for name, control in CONTROLS.items():
        by_batch = defaultdict(list)
        for model in control.models:
            by_batch[control.batches.get(model, 0)].append(model)
        for batch, models in by_batch.items():
            yield Plan(
                PREFIX + name,
                modes=("infer", "train"),
                precisions=("fp32",),
                size=control.size,
                models=tuple(models),
                adapters=(control.adapter,),
                batch=batch,
            )


PLANS = list(plans())


def test_control(case, run, request):
    name = case.suite.removeprefix(PREFIX)
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        for number in range(PAIRS[request.config.option.preset]):
            adapter, control = attempt.start_pair(name, control_first=number % 2 == 1)
            if number == 0:
                attempt.agree_in_place(adapter)
                attempt.prove(adapter)
                attempt.agree_as_control(control, name)
                attempt.note = "step time over the control's, per pair of processes:"
            steps = max(attempt.warm_up(adapter), attempt.warm_up(control))
            ratios = attempt.alternate(adapter, control, steps)
            attempt.agree_afterwards(adapter)
            attempt.record_ratio(ratios, steps)
