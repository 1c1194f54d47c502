"""How a step is measured: the same for inference and for training."""

from harness.attempt import ROUNDS


def measure_steps(case, run, benchmark, *, processes, clock, tracing):
    """Step time and throughput of a case over several processes, then what belongs to the case
    once: dispatch, transfer, counts, effective configuration and, if asked for, a trace.

    A case is timed only after the very program that is timed was found right.
    """
    benchmark.group = f"{case.mode}/{case.model}/{case.size}/{case.device}/{case.precision}"
    with run(case) as attempt:
        for number, client in enumerate(attempt.workers(processes)):
            steps = attempt.warm_up(client)
            last = number == processes - 1  # pytest-benchmark shows one process

            def in_benchmark(measure_one):
                def one_round():
                    clock.advance(measure_one())

                benchmark.pedantic(one_round, rounds=ROUNDS, iterations=1)

            attempt.measure(client, steps, rounds=in_benchmark if last else None)
        attempt.single(client, "dispatch", "dispatch_time")
        attempt.single(client, "transfer", "transfer_time")
        attempt.count()
        if tracing is not None:
            attempt.trace(client, tracing)
        benchmark.extra_info["flags"] = list(attempt.flags)
        if attempt.flags:  # in pytest-benchmark's table; what it compares runs by is `fullname`
            benchmark.stats.name += " ⚑ " + " ".join(attempt.flags)
