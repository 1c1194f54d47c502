"""Operations on tensors that kernels divide between threads, with two threads in every adapter:
all others are judged with one."""

from suites.conformance.threads import THREADS, exercises
from suites.selection import Table

TABLE = Table(
    "threads",
    exercises,
    threads=THREADS,
    whole=True,
    spared=dict.fromkeys(("torch_compile", "tf_xla", "tf_graph", "jax_jit"), ()),  # slow to start
)


def test_threads(case, run):
    with run(case) as attempt:
        attempt.examine()
