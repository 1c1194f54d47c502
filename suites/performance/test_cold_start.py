"""How long until ready: import, build, trace, compile and first call, in a new process each time.

Once with every compile cache off, as on the first day. From preset standard on also with what an
earlier process left in the cache, where the framework keeps one: this takes two more processes.
"""

from suites.selection import Plan

PLAN = Plan("cold_start", modes=("infer", "train"), precisions=("fp32",), size="small")


def test_cold_start(case, run, processes):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.prepare_reference()
        for number in range(processes):
            client = attempt.cold_start()
            if number == 0:
                attempt.agree_in_place(client)
                attempt.prove(client)
            attempt.end("cold")
            if processes > 1:
                attempt.warm_start()
