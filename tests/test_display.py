"""What people see while cases run."""

import io

from harness import environment
from harness.progress import Display
from results.records import Case, Outcome

CASE = Case("conformance", "infer", "mlp", "tiny", "jax_jit", "cpu", "fp64", 8)


def test_without_a_terminal_there_is_one_plain_line_per_case():
    stream = io.StringIO()
    display = Display(stream, total=12)
    display.phase(CASE, "agree")
    display.ended(Outcome(CASE, "ok", "", 1.25, "pytest x"), "identical, worst output 1e-16")
    display.ended(Outcome(CASE, "failed", "the [b]kernel[/b] refused", 0.1, "pytest x"), "")
    display.close()
    assert stream.getvalue().splitlines() == [
        " 1/12 ok          infer/mlp/tiny/jax_jit/cpu/fp64/b8 1.2 s identical, worst output 1e-16",
        " 2/12 failed      infer/mlp/tiny/jax_jit/cpu/fp64/b8 0.1 s the [b]kernel[/b] refused",
    ]


def test_the_environment_is_complete_and_json():
    found = environment.describe(
        command=["pytest", "suites", "-k", "a or b"], options={"preset": "quick"}
    )
    assert found["command"] == "pytest suites -k 'a or b'"
    assert found["preset"] == "quick"
    assert found["cpu"]["threads"] >= environment.physical_cores() >= 1
    assert found["memory_bytes"] > 2**20
    assert found["versions"]["numpy"]
