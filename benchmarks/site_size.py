"""How long does a site take to build, how large is its first page, and when can it be used?

`python -m benchmarks.site_size` builds two sites from generated records - one run of 5,000, and
200 runs of 1,000 each - and opens the first page of each from disk in headless Chromium, where
there is one. What the targets are is in `docs/publish.md`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import clock
from results.records import Agreement, Case, Facts, Measurement, Outcome, Record
from results.store import RunWriter

ADAPTERS = ("torch_eager", "torch_compile", "tf_graph", "tf_xla", "jax_jit", "onnx_runtime")
MODES, PRECISIONS = ("train", "infer"), ("fp32", "amp_bf16")
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --no-first-run".split()
INTERACTIVE = """() => new Promise(done => {
  const ready = () => done(performance.now());
  const form = document.querySelector("form.filters");
  form.elements.model.value = "model_1"; form.dispatchEvent(new Event("input"));
  requestAnimationFrame(() => setTimeout(ready));
})"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.site_size")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave runs and sites there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-site-") as scratch:
        root = options.keep or Path(scratch)
        print("| runs | records | build | again | one run more | files | first page | "
              "with its scripts | usable after |")  # fmt: skip
        print("|" + " --- |" * 9)
        for runs, records in ((1, 5_000), (options.runs, 1_000)):
            _measure(root / f"{runs}-runs", runs, records)


def _measure(root: Path, runs: int, records: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for number in range(runs):
        _write(root / "runs", number, records)
    folders = sorted((root / "runs").iterdir())
    first = _build(folders[:-1] or folders, root / "site") if runs > 1 else 0.0
    more = _build(folders, root / "site")
    fresh = _build(folders, root / "fresh")
    again = _build(folders, root / "fresh")
    site = root / "fresh"
    page = (site / "index.html").stat().st_size
    whole = page + sum(f.stat().st_size for f in (site / "assets").iterdir())
    total = sum(len((f / "records.jsonl").read_bytes().splitlines()) for f in folders)
    files = sum(1 for path in site.rglob("*") if path.is_file())
    cells = [str(runs), f"{total:,}", f"{fresh:.1f} s", f"{again:.1f} s",
             f"{more:.1f} s" if first else "–", f"{files:,}", f"{page / 1e6:.2f} MB",
             f"{whole / 1e6:.2f} MB", _usable(site / "index.html")]  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)


def _build(folders: list[Path], out: Path) -> float:
    """Seconds of the whole command, Python's start included."""
    start = clock.now()
    command = [sys.executable, "-m", "reports", *map(str, folders), "-o", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return clock.now() - start


def _usable(page: Path) -> str:
    """Time from opening the page until a filter has taken effect."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), "")
    if not chromium:
        return "no chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=FLAGS)
        opened = browser.new_page()
        opened.goto(page.as_uri(), wait_until="load")
        milliseconds = opened.evaluate(INTERACTIVE)
        browser.close()
    return f"{milliseconds / 1e3:.2f} s"


def _write(root: Path, number: int, records: int) -> None:
    day, hour = 1 + number // 24 % 28, number % 24
    run_id = f"2026{1 + number // 672:02d}{day:02d}-{hour:02d}0000-{number:03d}"
    environment = {
        "run_id": run_id, "started": f"2026-{1 + number // 672:02d}-{day:02d}T{hour:02d}:00:00",
        "versions": {"torch": f"2.{10 + number // 50}.0"}, "python": "3.12.3",
        "fingerprint": {"id": "generated", "cpu": "generated"}, "command": "generated",
    }  # fmt: skip
    writer = RunWriter(root, run_id, environment)
    made = _records(random.Random(number), number)
    for _, record in zip(range(records), made, strict=False):
        writer.append(record)
    writer.close()


def _records(chance: random.Random, number: int) -> Iterator[Record]:
    """Cases of models, ten records each: rounds of three processes, tensors, facts, outcome."""
    level = 1.0 + 0.2 * (number >= 120)
    for model in range(10_000):
        for mode in MODES:
            for precision in PRECISIONS:
                for adapter in ADAPTERS:
                    case = Case("performance", mode, f"model_{model}", "small", adapter, "cpu",
                                precision, 8)  # fmt: skip
                    yield from _case(case, chance, level)


def _case(case: Case, chance: random.Random, level: float) -> Iterator[Record]:
    own = 0.002 * level * (1 + ADAPTERS.index(case.adapter) / 5)
    for process in range(3):
        times = tuple(own * chance.lognormvariate(0, 0.01) for _ in range(16))
        yield Measurement(case, "step_time", "s", times, 10, process)
        rates = tuple(case.batch / value for value in times)
        yield Measurement(case, "throughput", "1/s", rates, 10, process)
    for tensor in ("logits", "fc1/w"):
        quantity = "output" if tensor == "logits" else "gradient"
        yield Agreement(case, quantity, tensor, chance.random() * 1e-6, 1e-6, chance.random(),
                        "rounding-equal", "consensus")  # fmt: skip
    yield Facts(case, {"versions": {"torch": "2.13.0"}, "threads": 2})
    yield Outcome(case, "ok", "", 3.0, f"pytest suites/performance --case '{case.key}'")


if __name__ == "__main__":
    main()
