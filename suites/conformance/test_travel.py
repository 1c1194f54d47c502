"""Weights travel: what one framework trained, every other one takes over bit by bit, optimizer and
all, and goes on with; and what runs inference only gives the output that NumPy gives."""

from suites.selection import Plan

PLANS = [
    Plan(
        "travel",
        modes=("infer", "train"),
        precisions=("fp64",),
        size="tiny",
        models=("convnet",),
        recipes=("adamw_warmup",),
    ),
    Plan(
        "travel",
        modes=("train",),
        precisions=("fp64",),
        size="tiny",
        models=("mlp",),
        recipes=("sgd_average", "amsgrad"),
    ),
]


def test_travel(case, run):
    with run(case) as attempt:
        attempt.travel()
