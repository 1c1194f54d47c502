"""Operations on integers and booleans in every adapter: exactly, at lengths around the widths of
vectors, in every layout, with the extremes of each dtype and ties."""

from suites.conformance.integers import exercises, in_quick
from suites.selection import Table

TABLE = Table(
    "integers",
    exercises,
    whole=True,
    quick=in_quick,
    # a program of dozens of operations takes compilers long
    spared=dict.fromkeys(("jax_jit", "tf_graph", "tf_xla", "torch_compile"), ()),
)


def test_integers(case, run):
    with run(case) as attempt:
        attempt.examine()
