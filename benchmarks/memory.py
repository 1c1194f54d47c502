"""Memory: how far repeats of a peak lie apart. `python -m benchmarks.memory [--repeats N]`.

Promised: within 1% or 1 MiB, whichever is more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from adapters.registry import Registry
from harness.pool import Pool, Settings
from harness.referee import Referee
from results.records import Case

CASES = ("infer/mlp/torch_eager/64", "train/vit/torch_eager/8", "train/vit/jax_jit/8",
         "infer/convnet/onnx_runtime/32", "train/convnet/tf_graph/32")  # fmt: skip
METRICS = ("host_peak_bytes", "compile_peak_bytes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", default=",".join(CASES), help="mode/model/adapter/batch,...")
    options = parser.parse_args()
    print("| case | metric | smallest | largest | apart | of the smallest |")
    print("| --- | --- | --- | --- | --- | --- |")
    for text in options.cases.split(","):
        mode, model, adapter, batch = text.split("/")
        case = Case("repeat", mode, model, "small", adapter, "cpu", "fp32", int(batch))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            settings = Settings(
                Registry.load(), sys.executable, Path(folder), options.threads, 300, 2**34
            )
            lanes = Referee(Pool(settings)).lanes
            found = [lanes.memory(case, number).values for number in range(options.repeats)]
            lanes.stop()
        for metric in METRICS:
            low, high = (f(values[metric] for values in found) / 2**20 for f in (min, max))
            told = [f"{low:.2f} MiB", f"{high:.2f} MiB", f"{high - low:.2f} MiB"]
            share = f"{high / low - 1:.1%}" if low else "-"
            print("|", " | ".join([text, metric, *told, share]), "|", flush=True)


if __name__ == "__main__":
    main()
