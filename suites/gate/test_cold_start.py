"""Is a new process, with nothing compiled, ready later than in base? Compilers take minutes for
enough pairs of it, so that presets from standard on ask."""

from suites.selection import Plan

PLAN = Plan("gate_cold_start", ("infer", "train"), ("fp32",), "small", thorough=("fp32",))


def test_cold_start(case, gated):
    gated(case)
