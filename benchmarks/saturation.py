"""Saturation: what products of 8-bit integers lose on processors without VNNI.

`python -m benchmarks.saturation`. Without VNNI or AMX, x86 has vpmaddubsw: it multiplies bytes
without a sign by bytes with one, and adds up neighbouring products in 16 bits, where 255 * 127 * 2
does not fit. What is too large becomes 32767. oneDNN is told to use no more than an instruction
set (ONEDNN_MAX_CPU_ISA), each in a process of its own, and computes one layer of 64 rows, 256
inputs and 128 outputs from the same integers; the oracle adds them up exactly.

inputs      "u8" from 0 to 255 and "s8" from -128 to 127; "7 bits" from 0 to 127, which is what
            torch.ao's `reduce_range` leaves
weights     "uniform" over all 8 bits, or "normal" with the largest at 127, as calibration leaves
            them
changed     the share of results that are not those of the oracle
SQNR        of what was computed against the oracle, in dB; "exact" where nothing changed
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np

#: The values of ONEDNN_MAX_CPU_ISA, from the oldest; the last one leaves it to oneDNN.
SETS = ("AVX2", "AVX512_CORE", "AVX2_VNNI", "AVX512_CORE_VNNI", "AVX512_CORE_AMX", "DEFAULT")
#: Names of operations -> their inputs' limits and dtype
OPERATIONS = {
    "onednn.qlinear_pointwise, u8": (0, 255, np.uint8),
    "onednn.qlinear_pointwise, u8 of 7 bits": (0, 127, np.uint8),
    "onednn.qlinear_pointwise, s8": (-128, 127, np.int8),
    "aten._int_mm, u8": (0, 255, np.uint8),
    "aten._int_mm, s8": (-128, 127, np.int8),
}
ROWS, INPUTS, OUTPUTS = 64, 256, 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saturation", description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_measured()))
        return
    print("| instructions | oneDNN's kernel | operation | weights | changed | SQNR |")
    print("| --- | --- | --- | --- | --- | --- |")
    for instructions in options.sets.split(","):
        for row in _in_child(instructions):
            known = "exact" if row["sqnr"] is None else f"{row['sqnr']:.1f} dB"
            cells = [row["operation"], row["weights"], f"{row['changed']:.2%}", known]
            print("|", " | ".join([instructions, row["kernel"], *cells]), "|", flush=True)


def _in_child(instructions: str) -> list[dict[str, Any]]:
    """The rows of a process under an instruction set, with oneDNN's names of its kernels."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "1", "ONEDNN_MAX_CPU_ISA": instructions}
    child = [sys.executable, "-m", "benchmarks.saturation", "--child"]
    done = subprocess.run(child, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    (rows,) = (json.loads(line) for line in lines if line.startswith("["))
    kernels = [kernel for line in lines if (kernel := _kernel(line.split(",")))]
    return [{**row, "kernel": kernel} for row, kernel in zip(rows, kernels, strict=True)]


def _kernel(part: list[str]) -> str:
    """What a line of oneDNN's says that multiplied; empty where it says something else."""
    if part[0] != "onednn_verbose" or "exec" not in part:
        return ""
    if "gemm_api" in part:
        return "gemm"
    return part[part.index("matmul") + 1] if "matmul" in part else ""


def _measured() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(OUTPUTS, INPUTS))
    normal = np.rint(normal / np.abs(normal).max(axis=1, keepdims=True) * 127).astype(np.int8)
    uniform = rng.integers(-128, 128, (OUTPUTS, INPUTS), np.int8)
    rows = []
    for operation, (low, high, dtype) in OPERATIONS.items():
        x = rng.integers(low, high + 1, (ROWS, INPUTS)).astype(dtype)
        for name, w in (("uniform", uniform), ("normal", normal)):
            wanted = x.astype(np.float64) @ w.astype(np.float64).T
            found = _product(operation, x, w)
            noise = float(np.sum((found - wanted) ** 2))
            ratio = 10 * math.log10(float(np.sum(wanted**2)) / noise) if noise else None
            changed = float(np.mean(found != wanted))
            rows.append(
                {"operation": operation, "weights": name, "changed": changed, "sqnr": ratio}
            )
    return rows


def _product(operation: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x w^T by the operation, float64. Sums are below 2^24, so float32 holds them."""
    import torch

    torch.set_num_threads(1)
    a, b = torch.from_numpy(x), torch.from_numpy(w)
    if operation.startswith("aten._int_mm"):
        return torch._int_mm(a, b.t()).double().numpy()
    packed = torch.ops.onednn.qlinear_prepack(b, list(x.shape))
    ones, zeros = torch.ones(len(w)), torch.zeros(len(w), dtype=torch.int32)
    result = torch.ops.onednn.qlinear_pointwise(
        a, 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return result.double().numpy()


if __name__ == "__main__":
    main()
