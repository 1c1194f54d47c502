"""Has a step become slower than in base, or its verdict worse, its program larger, its counts more?
Runs with `--against`, in pairs of processes that take turns."""

from suites.selection import Plan

PLANS = [
    Plan("gate", ("infer", "train"), ("fp32",), "small"),
    Plan("gate", ("generate",), ("fp32",), "small", thorough=("fp32",)),
    Plan("gate", ("train",), ("amp_bf16",), "small", thorough=("amp_bf16",)),
]


def test_step_time(case, gated):
    gated(case)
