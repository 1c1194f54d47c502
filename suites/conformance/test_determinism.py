"""Does the same seed give the same bits again: in the same process, in another, with more threads,
with the examples in another order, and beside other examples?"""

from suites.selection import Plan

MODES = ("infer", "train")
PLANS = [
    Plan("determinism", MODES, ("fp32",), "tiny", models=("mlp",)),
    Plan("determinism", MODES, ("fp32",), "tiny", models=("convnet",),
         later=("torch_compile", "tf_xla")),
]  # fmt: skip


def test_determinism(case, run):
    with run(case) as attempt:
        attempt.repeat()
