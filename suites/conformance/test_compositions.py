"""Short compositions that compilers rewrite, in every adapter: contractions with what is done to
their results, unnamed normalisations, slices that are joined again, several reductions of one
input."""

from suites.conformance.compositions import exercises
from suites.selection import Table

TABLE = Table(
    "compositions",
    exercises,
    whole=True,
    spared={"jax_jit": ("fp64",), "tf_graph": ("fp64",)},  # the other precision comes later
)


def test_composition(case, run):
    with run(case) as attempt:
        attempt.examine()
