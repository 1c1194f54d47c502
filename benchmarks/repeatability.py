"""Repeatability: the same case in two live workers that take turns, again and again (A/A).

`python -m benchmarks.repeatability [--pairs N]`. The standard deviation of the logarithm of the
ratio over pairs of processes is what a comparison has to live with: 1% or less, unless the case is
`allocator_bound`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from adapters.registry import Registry
from harness import conditions
from harness.attempt import ROUNDS
from harness.client import Client
from harness.pool import Pool, Role, Settings
from results.records import Case

CASES = ("infer/mlp/torch_eager/64", "train/mlp/torch_eager/64", "infer/vit/torch_eager/8",
         "train/vit/torch_eager/8", "train/convnet/torch_eager/32", "infer/mlp/onnx_runtime/64",
         "train/mlp/jax_jit/64", "train/vit/jax_jit/8", "train/mlp/tf_graph/64")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repeatability", description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", default=",".join(CASES), help="mode/model/adapter/batch,...")
    options = parser.parse_args()
    print("| case | step | pairs | SD of the log ratio | largest | flags |")
    print("| --- | --- | --- | --- | --- | --- |")
    for text in options.cases.split(","):
        mode, model, adapter, batch = text.split("/")
        case = Case("repeat", mode, model, "small", adapter, "cpu", "fp32", int(batch))
        logs, step, flags = _pairs(case, options)
        told = [f"{step * 1e3:.2f} ms", str(options.pairs), f"{statistics.stdev(logs):.2%}",
                f"{max(map(abs, logs)):.2%}", ", ".join(sorted(flags)) or "none"]  # fmt: skip
        print("|", " | ".join([text, *told]), "|", flush=True)


def _pairs(case: Case, options: argparse.Namespace) -> tuple[list[float], float, set[str]]:
    """(log ratios, seconds of a step, flags) of fresh pairs of workers."""
    logs, medians, flags = [], [], set()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = Settings(
            Registry.load(), sys.executable, Path(folder), options.threads, 300, 2**34
        )
        pool = Pool(settings)
        for _ in range(options.pairs):
            numbers = random.sample(range(2), 2)  # spawn order: the second tends to be faster
            arms = {n: _started(pool, case, n) for n in numbers}
            steps = max(arm[1] for arm in arms.values())
            blocks = _alternate(arms[0][0], arms[1][0], steps)
            ratios = [math.log(a["seconds"] / b["seconds"]) for a, b in zip(*blocks, strict=True)]
            logs.append(statistics.median(ratios))
            medians += [block["seconds"] / steps for block in blocks[0]]
            for arm in blocks:
                flags |= set(conditions.flags(arm, steps, threads=options.threads))
        pool.close_all()
    return logs, statistics.median(medians), flags


def _started(pool: Pool, case: Case, number: int) -> tuple[Client, int]:
    role = Role(case.adapter, "time", number)
    pool.client(role, fresh=True)
    client, _ = pool.build(case, role, timeout=300)
    client.request("first_call", timeout=300)
    return client, client.request("warm_up", timeout=300)["steps_per_block"]


def _alternate(first: Client, second: Client, steps: int) -> tuple[list[Any], list[Any]]:
    blocks: dict[Client, list[Any]] = {first: [], second: []}
    start = random.choice((1, -1))
    for order in itertools.islice(itertools.cycle((start, -start, -start, start)), ROUNDS):
        for client in (first, second)[::order]:
            blocks[client].append(client.request("block", timeout=300, steps=steps))
    return blocks[first], blocks[second]


if __name__ == "__main__":
    main()
