"""What a lower precision brings in speed: a program against the same program of the same adapter in
float32. The two take turns, so that whatever disturbs the machine disturbs both, and the ratio has
an interval that step times of different minutes do not give."""

from suites.performance.test_overhead import PAIRS
from suites.selection import LOWER, MEASURED, QUANTIZED, SHIPPED, Plan

BASE = "fp32"
LOW = ("amp_bf16", *LOWER)
PLANS = [
    Plan("speedup", ("infer", "train"), LOW, "small", models=MEASURED, thorough=LOW),
    Plan("speedup", ("infer",), QUANTIZED, "small", models=SHIPPED, thorough=QUANTIZED),
    # one example, whose time is latency
    Plan("speedup", ("infer",), QUANTIZED, "small", models=SHIPPED, batch=1, thorough=QUANTIZED),
]


def test_speedup(case, run, request):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        for number in range(PAIRS[request.config.option.preset]):
            base, lower = attempt.start_precisions(BASE, base_first=number % 2 == 1)
            if number == 0:
                attempt.agree_in_place(lower)
                attempt.prove(lower)
                attempt.note = f"times faster than {BASE}, per pair of processes:"
            steps = max(attempt.warm_up(base), attempt.warm_up(lower))
            ratios = attempt.alternate(base, lower, steps)
            attempt.agree_afterwards(lower)
            attempt.record_ratio(ratios, steps, metric="speedup")
