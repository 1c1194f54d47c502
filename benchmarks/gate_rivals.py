"""What other tools say of the same slowdowns: pytest-benchmark's
`--benchmark-compare-fail=median:5%` and `pyperf compare_to`, each on two runs that were stored one
after the other.

`python -m benchmarks.gate_rivals OUT` appends a line per judgement to OUT; `--table` prints what it
holds. The gate's own figures are those of `benchmarks.gate_power`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from harness import clock
from harness.client import thread_environment

STEP = Path(__file__).with_name("rival_step.py")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_rivals")
    parser.add_argument("out", type=Path)
    parser.add_argument("--adapters", default="torch_eager,jax_jit")
    parser.add_argument("--models", default="mlp,convnet,lstm")
    parser.add_argument("--slowdowns", default="0,0.05")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=600, help="start nothing after so many")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    end = clock.now() + 60 * options.minutes
    cases = [
        f"{adapter}/{model}/{mode}"
        for model in options.models.split(",")
        for mode in ("infer", "train")
        for adapter in options.adapters.split(",")
    ]
    for _ in range(0 if options.table else options.repeats):
        for slowdown in map(float, options.slowdowns.split(",")):
            for case in cases:
                for tool, judge in TOOLS.items():
                    if clock.now() > end:
                        break
                    start = clock.now()
                    line = {"tool": tool, "case": case, "slowdown": slowdown}
                    line |= {"alarm": judge(case, slowdown), "seconds": clock.now() - start}
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    print(json.dumps(line), flush=True)
    _print(options.out)


def _environment(case: str, slowdown: float) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **thread_environment(1), "PYTHONPATH": path, "ASSAY_CASE": case,
            "ASSAY_SLOWDOWN": str(slowdown)}  # fmt: skip


def pytest_benchmark(case: str, slowdown: float) -> bool:
    """Whether pytest-benchmark fails the second of two runs."""
    with tempfile.TemporaryDirectory() as storage:
        command = [sys.executable, "-m", "pytest", str(STEP), "-q", "-p", "no:cacheprovider",
                   "--rootdir", storage, "--confcutdir", str(STEP.parent), "--noconftest",
                   f"--benchmark-storage=file://{storage}"]  # fmt: skip
        _checked([*command, "--benchmark-save=base"], _environment(case, 0.0), (0,))
        compare = ["--benchmark-compare=0001", "--benchmark-compare-fail=median:5%"]
        done = _checked([*command, *compare], _environment(case, slowdown), (0, 1))
        return "Performance has regressed" in done.stdout + done.stderr


def pyperf(case: str, slowdown: float) -> bool:
    """Whether pyperf calls the second of two runs slower."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("base.json", "head.json")]
        for path, by in zip(paths, (0.0, slowdown), strict=True):
            command = [sys.executable, "-m", "benchmarks.rival_step", "-o", path, "--quiet",
                       "--processes", "6", "--values", "5"]  # fmt: skip
            _checked(command, _environment(case, by), (0,))
        told = _checked(
            [sys.executable, "-m", "pyperf", "compare_to", *paths], {**os.environ}, (0,)
        )
        return re.search(r"\bslower\b", told.stdout) is not None


def _checked(
    command: list[str], environment: dict[str, str], fine: tuple[int, ...]
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode not in fine:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n"
                         f"{done.stdout[-2000:]}{done.stderr[-2000:]}")  # fmt: skip
    return done


TOOLS = {
    "pytest-benchmark --benchmark-compare-fail=median:5%": pytest_benchmark,
    "pyperf compare_to": pyperf,
}


def _print(path: Path) -> None:
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        found = json.loads(line)
        groups[found["tool"], found["slowdown"]].append(found)
    print("| tool | injected | judgements | alarms | seconds (median) |")
    print("|" + " --- |" * 5)
    for (tool, slowdown), lines in sorted(groups.items()):
        seconds = sorted(line["seconds"] for line in lines)[len(lines) // 2]
        alarms = sum(line["alarm"] for line in lines)
        print(f"| {tool} | {slowdown:+.0%} | {len(lines)} | {alarms} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
