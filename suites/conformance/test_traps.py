"""Where frameworks differ by default: what the vocabulary pins holds in every adapter, and each
framework's own default is recorded beside it."""

from suites.conformance.traps import exercises, traps
from suites.selection import Table

TABLE = Table("traps", exercises)


def test_trap(case, run):
    (trap,) = (trap for trap in traps() if trap.subject == case.model)
    with run(case) as attempt:
        # before anything that may end the case
        if case.mode == "infer" and case.precision == trap.precision and trap.exercises:
            inputs, pinned = trap.question()
            attempt.default(trap.told, inputs, pinned, within=trap.within)
        attempt.examine()
