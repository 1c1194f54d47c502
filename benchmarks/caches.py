"""Whether code from a compile cache is as fast as code compiled just now.

`python -m benchmarks.caches [--cases ...]`. Four live workers of one case take turns: two compiled
with every cache off, two loaded what an earlier process had compiled. Why timed workers of XLA keep
no cache: docs/findings.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from adapters.registry import Registry
from harness.attempt import ROUNDS
from harness.pool import Pool, Role, Settings
from results.records import Case

CASES = "train/vit/jax_jit/8,train/convnet/jax_jit/32,train/vit/tf_xla/8,train/vit/torch_compile/8"
TIMEOUT = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caches", description=__doc__)
    parser.add_argument("--cases", default=CASES, help="mode/model/adapter/batch,...")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print("| case | compiled, twice | from the cache, twice |")
    print("| --- | --- | --- |")
    for text in options.cases.split(","):
        mode, model, adapter, batch = text.split("/")
        case = Case("caches", mode, model, "small", adapter, "cpu", "fp32", int(batch))
        found = {role: f"{seconds * 1e3:.1f}" for role, seconds in _steps(case, options).items()}
        cells = [", ".join(found[purpose, n] for n in (0, 1)) for purpose in ("cold", "warm")]
        print(f"| {text} |", " | ".join(f"{cell} ms" for cell in cells), "|", flush=True)


def _steps(case: Case, options: argparse.Namespace) -> dict[tuple[str, int], float]:
    """(purpose, number) -> seconds of a step, the median of ROUNDS blocks."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = Settings(
            Registry.load(), sys.executable, Path(folder), options.threads, TIMEOUT, 2**34
        )
        pool = Pool(settings)
        live, steps = {}, 1
        for key in (("fill", 0), ("warm", 0), ("cold", 0), ("cold", 1), ("warm", 1)):
            client, _ = pool.build(case, Role(case.adapter, *key), timeout=TIMEOUT)
            client.request("first_call", timeout=TIMEOUT)
            if key[0] != "fill":
                warm = client.request("warm_up", timeout=TIMEOUT)
                live[key], steps = client, max(steps, warm["steps_per_block"])
        taken: dict[tuple[str, int], list[float]] = {key: [] for key in live}
        for _ in range(ROUNDS):
            for key, client in live.items():
                block = client.request("block", timeout=TIMEOUT, steps=steps)
                taken[key].append(block["seconds"] / steps)
        pool.close_all()
    return {key: statistics.median(seconds) for key, seconds in taken.items()}


if __name__ == "__main__":
    main()
