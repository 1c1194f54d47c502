"""Lower precision: outputs, gradients and updates are within what rounding to 16 bits costs, and
what ran in 16 bits is what the policy says (`adapters.policy`)."""

from dataclasses import replace

from suites.selection import LOWER, MEASURED, Plan

CLIPPED = "sgd_momentum_clip"  # by the norm of gradients that loss scaling has been taken out of
COMPILERS = ("torch_compile", "tf_xla")


def plan(mode: str, *precisions: str, quick: tuple[str, ...] = ()) -> Plan:
    """`quick` are those of `precisions` that preset quick asks for."""
    others = tuple(name for name in precisions if name not in quick)
    return Plan("precision", (mode,), precisions, "tiny", models=MEASURED, later=COMPILERS,
                thorough=others)  # fmt: skip


MIXED = plan("train", "amp_bf16", quick=("amp_bf16",))
PLANS = [
    replace(MIXED, models=("mlp",), later=()),  # the others take a compiler minutes
    replace(MIXED, models=("convnet", "lstm")),
    replace(MIXED, models=("vit", "gpt"), thorough=MIXED.precisions),
    plan("train", *LOWER),
    replace(MIXED, precisions=("amp_fp16",), models=("mlp",), recipes=(CLIPPED,)),
    plan("infer", "amp_bf16", *LOWER),
]


def test_agreement(case, run):
    with run(case) as attempt:
        attempt.agree()
