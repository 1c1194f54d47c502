"""Bias: the harness's step time over that of an independent timer, of the same callable, in turns.

`python -m benchmarks.bias [--adapters A,B] [--rounds N]`. PyTorch is timed against
`torch.utils.benchmark.Timer.blocked_autorange`, the others against a plain loop around
`time.perf_counter`. A ratio of 1 is no bias; promised is 0.98 to 1.02.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from adapters.registry import Registry
from harness import timing
from harness.client import PINNED_MALLOC, thread_environment
from harness.pool import Pool, Role, Settings
from harness.requests import Requests
from results.records import Case
from results.statistics import median_interval

#: Steps of about 1 ms and of about 20 ms
CASES = (("mlp", 64), ("vit", 8))
ADAPTERS = ("torch_eager", "jax_jit", "tf_graph")
#: Samples are short and many, because the machine's speed drifts from second to second
SECONDS, BLOCKS = 0.1, 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bias", description=__doc__)
    parser.add_argument("--adapters", default=",".join(ADAPTERS))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_child(json.loads(options.child))))
        return
    print("| adapter | model | step | against | ratio, median of rounds | its 95% interval |")
    print("| --- | --- | --- | --- | --- | --- |")
    for adapter in options.adapters.split(","):
        for model, batch in CASES:
            found = _in_child(adapter, model, batch, options)
            ratios, step = found["ratios"], found["seconds"] * 1e3
            known = median_interval(ratios)
            told = [f"{known.median:.4f}", f"{known.low:.4f} to {known.high:.4f}"]
            cells = [adapter, model, f"{step:.2f} ms", found["against"], *told]
            print("|", " | ".join(cells), "|", flush=True)


def _in_child(adapter: str, model: str, batch: int, options: argparse.Namespace) -> dict:
    """A process per case, with the environment of a timing worker."""
    case = {"adapter": adapter, "model": model, "batch": batch, "rounds": options.rounds,
            "threads": options.threads}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bias", "--child", json.dumps(case)],
        env={**os.environ, **thread_environment(options.threads), **PINNED_MALLOC},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _child(asked: dict) -> dict:
    case = Case("bias", "train", asked["model"], "small", asked["adapter"], "cpu", "fp32",
                asked["batch"])  # fmt: skip
    registry = Registry.load()
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(Settings(registry, sys.executable, Path(folder), asked["threads"], 60, 2**34))
        requests = Requests(registry.module(case.adapter))
        spec = pool.spec(case, Role(case.adapter, "time"))
        requests.build(spec=spec, inputs=str(pool.inputs(case)))
    requests.first_call()
    steps = requests.warm_up()["steps_per_block"]
    program, batch = requests._program, requests._batch

    def step() -> None:
        program.wait(program.step(batch))

    if requests.adapter.framework == "torch":
        against, other = "blocked_autorange", _blocked_autorange(step, asked["threads"])
    else:
        against, other = "perf_counter", _loop(lambda: program.step(batch), program.wait, steps)

    def ours() -> float:
        blocks = [
            timing.block(lambda: program.step(batch), program.wait, steps).seconds / steps
            for _ in range(BLOCKS)
        ]
        return statistics.median(blocks)

    ratios, seconds = [], []
    for number in range(asked["rounds"]):
        samples = {}
        for timer in (ours, other)[:: 1 if number % 2 else -1]:
            samples[timer] = timer()
        ratios.append(samples[ours] / samples[other])
        seconds.append(samples[ours])
    return {"against": against, "ratios": ratios, "seconds": statistics.median(seconds)}


def _blocked_autorange(step: Callable[[], None], threads: int) -> Callable[[], float]:
    from torch.utils.benchmark import Timer

    timer = Timer("step()", globals={"step": step}, num_threads=threads)
    return lambda: timer.blocked_autorange(min_run_time=SECONDS).median


def _loop(
    step: Callable[[], object], wait: Callable[[object], None], steps: int
) -> Callable[[], float]:
    def sample() -> float:
        times = []
        begin = time.perf_counter()
        while time.perf_counter() - begin < SECONDS:
            start = time.perf_counter()
            value = None
            for _ in range(steps):
                value = step()
            wait(value)
            times.append((time.perf_counter() - start) / steps)
        return statistics.median(times)

    return sample


if __name__ == "__main__":
    main()
