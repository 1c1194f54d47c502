"""Does the same seed give the same bits again: in the same process, in another, with more threads,
with the examples in another order, and beside other examples?"""

from suites.selection import Plan

PLAN = Plan(
    "determinism",
    modes=("infer", "train"),
    precisions=("fp32",),
    size="tiny",
    models=("mlp", "convnet"),
)


def test_determinism(case, run):
    with run(case) as attempt:
        attempt.repeat()
