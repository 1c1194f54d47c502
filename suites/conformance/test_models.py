"""Every model in every adapter: forward pass, loss, gradients, updates and buffers agree with
the float64 consensus of the frameworks and with NumPy."""

from suites.selection import Plan

PLAN = Plan(
    "conformance",
    modes=("infer", "train", "generate"),
    precisions=("fp64", "fp32"),
    size="tiny",
)


def test_agreement(case, run):
    with run(case) as attempt:
        attempt.agree()
