"""Dynamic loss scaling: an overflow is provoked, the step is left out and the scale comes down;
after enough steps in a row it goes up again."""

from suites.selection import Plan

STEPS = 60  # from 2^40 down to what float16 holds takes about 25
PLAN = Plan(
    "loss_scaling",
    modes=("train",),
    precisions=("amp_fp16",),
    size="tiny",
    recipes=("sgd_overflow",),
    models=("mlp",),
    later=("torch_compile",),  # its optimizer and loss scaling are those of torch_eager
)


def test_overflow(case, run):
    with run(case) as attempt:
        attempt.scale_losses(STEPS)
