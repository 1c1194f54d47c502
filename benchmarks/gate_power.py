"""How often is the gate wrong, and what does it find?

`python -m benchmarks.gate_power OUT` runs gates between two copies of an adapter, of which head is
slowed by a busy loop in proportion to its step. `--slowdowns 0` are A/A gates, whose regressions
are false alarms. Every gate appends a line to OUT, so that a run can be stopped and continued;
`--table` prints what OUT holds. With `--load N` so many other processes are busy meanwhile.
`docs/gate.md` has the figures and the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters import model as models
from adapters.registry import Registry
from harness import clock
from harness.arms import Arm
from harness.gate import settled
from harness.paired import Paired
from harness.pool import Pool, Settings
from harness.runner import Ended, Runner
from results import gate
from results.records import Case, Decision, Outcome, Record

MODULE = "slowed_{adapter}"
SLOWED = '''"""An adapter whose steps take longer, by a share of what they take."""

import time

from adapters import {adapter}


class Adapter({adapter}.Adapter):
    def build(self, spec, params, buffers):
        program = super().build(spec, params, buffers)
        step = program.step

        def slowed(batch):
            start = time.perf_counter()
            value = step(batch)
            program.wait(value)
            now = time.perf_counter()
            until = now + {slowdown} * (now - start)
            while time.perf_counter() < until:
                pass
            return value

        program.step = slowed
        return program
'''
BUSY = "while True: pass"


class Quiet:
    """Keeps and shows nothing."""

    def append(self, record: Record) -> None:
        pass

    def phase(self, case: Case, phase: str) -> None:
        pass

    def ended(self, outcome: Outcome, note: str) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_power")
    parser.add_argument("out", type=Path)
    parser.add_argument("--adapters", default="torch_eager,jax_jit")
    parser.add_argument("--models", default="mlp,convnet,lstm")
    parser.add_argument("--slowdowns", default="0,0.03,0.05,0.1")
    parser.add_argument("--repeats", type=int, default=5, help="of each case and slowdown")
    parser.add_argument("--threshold", type=float, default=gate.THRESHOLD)
    parser.add_argument(
        "--load", type=int, default=0, metavar="N", help="other processes that are busy meanwhile"
    )
    parser.add_argument("--minutes", type=float, default=600, help="start nothing after so many")
    parser.add_argument("--table", action="store_true", help="print what OUT holds, and no more")
    options = parser.parse_args()
    if not options.table:
        with _load(options.load):
            _run(options)
    _print(_read(options.out))


def _run(options: argparse.Namespace) -> None:
    end = clock.now() + 60 * options.minutes
    done: dict[tuple[str, float, int], int] = defaultdict(int)
    for line in _read(options.out):
        done[line["key"], line["slowdown"], line["load"]] += 1
    for repeat in range(options.repeats):
        for slowdown in map(float, options.slowdowns.split(",")):
            for case in _cases(options):
                if done[case.key, slowdown, options.load] > repeat:
                    continue
                if clock.now() > end:
                    return
                line = _gate(case, slowdown, options.threshold, repeat)
                line |= {"key": case.key, "slowdown": slowdown, "load": options.load}
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps({k: line[k] for k in ("key", "slowdown", "final", "seconds")}),
                      flush=True)  # fmt: skip


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    for model in options.models.split(","):
        for mode in ("infer", "train"):
            for adapter in options.adapters.split(","):
                batch = models.get(model).batch["small"]
                yield Case("gate", mode, model, "small", adapter, "cpu", "fp32", batch)


def _gate(case: Case, slowdown: float, threshold: float, repeat: int) -> dict[str, Any]:
    """One gate with both of its stages."""
    start = clock.now()
    with tempfile.TemporaryDirectory(prefix="assay-power-") as scratch:
        folders = [_copy(Path(scratch), case.adapter, s) for s in (0.0, slowdown)]
        module = MODULE.format(adapter=case.adapter)
        os.environ["PYTHONPATH"] = str(folders[1])
        pool = Pool(
            Settings(
                registry=Registry({module: module}), python=sys.executable, scratch=Path(scratch),
                threads=1, case_timeout=300.0, memory_limit=2**34,
                base=Arm(folders=(folders[0],), told="base"),
            )
        )  # fmt: skip
        runner = Runner(pool, Quiet(), Quiet())
        try:
            first = _stage(runner, case, module, threshold, 1, repeat)
            first_seconds = clock.now() - start
            second = None
            if first.verdict == gate.REGRESSED:
                second = _stage(runner, case, module, threshold, 2, repeat)
        finally:
            runner.close()
    final = first
    if second is not None and second.p is not None:
        final = settled(second, rejected=second.p <= gate.ALPHA)
    return {
        "stage1": first.verdict, "final": final.verdict, "ratio": first.ratio,
        "pairs": len(first.ratios), "ratios": first.ratios, "seconds": first_seconds,
        "seconds_of_both": clock.now() - start, "ratio2": second.ratio if second else None,
    }  # fmt: skip


def _stage(
    runner: Runner, case: Case, module: str, threshold: float, stage: int, repeat: int
) -> Decision:
    # the suite's name seeds the order of everything, so that repeats differ
    own = Case(f"gate{stage}_{repeat}", case.mode, case.model, case.size, module, case.device,
               case.precision, case.batch)  # fmt: skip
    try:
        with runner.run(Paired, own, reproduce="-") as attempt:
            attempt.stage = stage
            return attempt.compare_steps(threshold, look=lambda pair: None)
    except Ended as ended:
        raise SystemExit(f"{case.key}: {ended.outcome.status}: {ended.outcome.reason}") from None


def _copy(scratch: Path, adapter: str, slowdown: float) -> Path:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    text = SLOWED.format(adapter=adapter, slowdown=slowdown)
    (folder / f"{MODULE.format(adapter=adapter)}.py").write_text(text, encoding="utf-8")
    return folder


@contextmanager
def _load(number: int) -> Iterator[None]:
    """Processes that keep a core busy each."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _print(lines: list[dict[str, Any]]) -> None:
    """Of each slowdown: how often each verdict came, how large the change looked, how long it
    took."""
    groups: dict[tuple[int, float], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        groups[line["load"], line["slowdown"]].append(line)
    print("| busy processes | injected | gates | flagged | regressed | unchanged | inconclusive | "
          "estimate: min, median, max | pairs: median, max | seconds: median, max |")  # fmt: skip
    print("|" + " --- |" * 10)
    for (load, slowdown), found in sorted(groups.items()):
        n = len(found)
        counts = {v: sum(one["final"] == v for one in found) for v in gate.VERDICTS}
        flagged = sum(one["stage1"] == gate.REGRESSED for one in found)
        ratios = sorted(one["ratio"] for one in found)
        pairs = sorted(one["pairs"] for one in found)
        seconds = sorted(one["seconds"] for one in found)
        cells = [
            str(int(load)), f"{slowdown:+.0%}", str(n), str(flagged),
            str(counts["regressed"]), str(counts["unchanged"]), str(counts["inconclusive"]),
            f"{ratios[0]:.3f}, {ratios[n // 2]:.3f}, {ratios[-1]:.3f}",
            f"{pairs[n // 2]}, {pairs[-1]}", f"{seconds[n // 2]:.0f}, {seconds[-1]:.0f}",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
