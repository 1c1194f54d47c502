"""One step of a case as a plain function, for other tools to time: pytest-benchmark through
`test_step`, and pyperf through `python -m benchmarks.rival_step`. The case comes from ASSAY_CASE
(adapter/model/mode), a slowdown in proportion to the step from ASSAY_SLOWDOWN."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from adapters import model as models
from adapters.base import Spec
from adapters.registry import Registry

SIZE = "small"


def step() -> Callable[[], None]:
    """The step, built, called once, and synchronised."""
    adapter_name, model, mode = os.environ["ASSAY_CASE"].split("/")
    slowdown = float(os.environ["ASSAY_SLOWDOWN"])
    adapter = importlib.import_module(Registry.load().module(adapter_name)).Adapter()
    network = models.get(model)
    config = network.config(SIZE)
    params, buffers = network.initial(config, np.random.default_rng(0))
    spec = Spec(model=model, size=SIZE, mode=mode, device="cpu", precision="fp32",
                recipe=network.recipe, threads=1)  # fmt: skip
    adapter.prepare("fp32")
    program = adapter.build(spec, params, buffers)
    batch = program.put(network.example(config, network.batch[SIZE]))

    def run() -> None:
        start = time.perf_counter()
        program.wait(program.step(batch))
        now = time.perf_counter()
        until = now + slowdown * (now - start)
        while time.perf_counter() < until:
            pass

    run()
    return run


def test_step(benchmark: Any) -> None:
    benchmark(step())


if __name__ == "__main__":
    import pyperf

    runner = pyperf.Runner()
    runner.argparser.set_defaults(inherit_environ=["ASSAY_CASE", "ASSAY_SLOWDOWN", "PYTHONPATH"])
    runner.bench_func("step", step())
