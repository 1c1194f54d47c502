"""Peak memory of build and first call, and of steady steps, in processes of their own."""

from suites.selection import in_precisions

PLANS = in_precisions("memory", "infer", "train")


def test_memory(case, run, processes):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        attempt.remember(processes)
