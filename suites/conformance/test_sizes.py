"""Every operation at sizes around the thresholds of kernels, in every adapter: both sides of powers
of two, and every remainder by the widths of vectors and tiles."""

from suites.conformance.sizes import exercises, in_quick
from suites.selection import Table

TABLE = Table(
    "sizes",
    exercises,
    whole=True,
    quick=in_quick,
    # a program of dozens of operations takes compilers long
    spared=dict.fromkeys(("jax_jit", "tf_graph", "tf_xla", "torch_compile"), ()),
)


def test_sizes(case, run):
    with run(case) as attempt:
        attempt.examine()
