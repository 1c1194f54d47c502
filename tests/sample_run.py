"""Writes a run that looks like a real one, with everything in it that can go wrong.

`write(root)` is what the tests of results and reports read. Nothing is random: the same call
writes the same bytes.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from results.metrics import METRICS
from results.records import Agreement, Case, Facts, Limit, Measurement, Outcome, Record
from results.store import RunWriter
from tests import sample_quantization

MODELS = ("mlp", "convnet", "vit")
ADAPTERS = ("torch_eager", "torch_compile", "tf_graph", "tf_xla", "jax_jit", "onnx_runtime")
RUN_ID = "20251120-171800-sample"

SCRIPT = "<script>alert('record')</script><img src=x onerror=alert(1)>"
HOSTILE = (
    SCRIPT,
    "</script></style><b>bold</b>{{ 7 * 7 }}{% for %}\"'`&amp;",
    "x" * 10_000,
    "NaN",
    "\u202eright-to-left \x1b[31mred \u0000 \u2028 🧪é",
)

ENVIRONMENT = {
    "run_id": RUN_ID,
    "started": "2025-11-20T17:18:00+00:00",
    "command": "pytest suites --benchmark --preset standard",
    "seed": 20,
    "preset": "standard",
    "device": "cpu",
    "threads": 8,
    "isolation": "process",
    "allocator": "system",
    "host": "bench-1",
    "cpu": {"model": "Example CPU 9000 @ 3.0 GHz", "cores": 8},
    "memory_bytes": 33_554_432_000,
    "kernel": "Linux 6.1.0",
    "python": "3.11.7",
    "versions": {"numpy": "2.3.5", "scipy": "1.17.1", "pandas": "3.1.1"},
    "load_average": [0.4, 0.5, 0.6],
    "git_commit": "0123456789abcdef",
}

VERSIONS = {
    "torch_eager": {"torch": "2.13.0"},
    "torch_compile": {"torch": "2.13.0"},
    "tf_graph": {"tensorflow": "2.21.0"},
    "tf_xla": {"tensorflow": "2.21.0"},
    "jax_jit": {"jax": "0.10.2", "jaxlib": "0.10.2"},
    "onnx_runtime": {"onnxruntime": "1.31.0"},
}

#: (mode, model, size, adapter, precision) -> (status, reason); onnx_runtime cannot train.
FATES = {
    ("train", "convnet", "tiny", "tf_graph", "fp64"): ("divergent", "gradient conv1/w is off"),
    ("train", "convnet", "small", "tf_graph", "fp32"): ("divergent", "gradient conv1/w is off"),
    ("train", "vit", "small", "torch_compile", "fp32"): (
        "timeout",
        "no answer within 300 s in phase build; the last output was: autotuning 41 of 96",
    ),
    ("infer", "vit", "small", "tf_xla", "fp32"): ("out_of_memory", "killed at 12.1 GiB"),
    ("train", "vit", "small", "tf_xla", "fp32"): ("crashed", "the worker died of signal 11"),
    ("train", "mlp", "small", "tf_graph", "fp32"): ("failed", "ValueError: shapes (8, 10), (8,)"),
    ("infer", "convnet", "tiny", "tf_xla", "fp32"): ("mistrusted", "the reference is constant"),
    ("infer", "mlp", "tiny", "onnx_runtime", "fp64"): ("interrupted", "stopped with Ctrl-C"),
}
SPEED = dict(zip(ADAPTERS, (1.0, 0.62, 1.31, 0.85, 0.74, 0.58), strict=True))
COST = {"mlp": 4.2e-5, "convnet": 2.3e-3, "vit": 1.1e-2}
COMPILERS = ("torch_compile", "tf_xla", "jax_jit")
#: The case whose profile was kept, and where.
TRACE = "traces/vit.json.gz"
TRACED = Case("performance", "infer", "vit", "small", "jax_jit", "cpu", "fp32", 8)

LIMITS = [
    Limit("matmul_fp32", "FLOP/s", 4.2e11, "torch_eager", "cpu", 8, "2025-11-20T17:18:05+00:00"),
    Limit("matmul_fp32", "FLOP/s", 3.9e11, "jax_jit", "cpu", 8, "2025-11-20T17:18:09+00:00"),
    Limit("matmul_int8", "OP/s", 1.1e12, "onnx_runtime", "cpu", 8, "2025-11-20T17:18:15+00:00"),
    Limit("bandwidth", "B/s", 2.4e10, "torch_eager", "cpu", 8, "2025-11-20T17:18:12+00:00"),
]
#: (suite, mode, model, swept field, its values)
SWEEPS = [
    ("sweep_batch", "infer", "convnet", "batch", (1, 2, 4, 8, 16, 32, 64, 128)),
    ("sweep_batch", "train", "convnet", "batch", (1, 2, 4, 8, 16, 32, 64, 128)),
    ("sweep_threads", "infer", "convnet", "threads", (1, 2, 4, 8)),
    ("sweep_length", "infer", "vit", "length", (65, 128, 256, 512)),
]


def write(
    root: Path,
    *,
    run_id: str = RUN_ID,
    hostile: bool = True,
    processes: int = 3,
    exercises: bool = False,
    quantized: bool = False,
) -> Path:
    """Writes the run, with the suites of exercises and quantized programs if wanted, and returns
    its folder."""
    writer = RunWriter(root, run_id, ENVIRONMENT | {"run_id": run_id})
    for record in records(hostile=hostile, processes=processes):
        writer.append(record)
    for record in exercise_records(hostile=hostile) if exercises else ():
        writer.append(record)
    for record in sample_quantization.records() if quantized else ():
        writer.append(record)
    writer.close()
    trace = root / run_id / TRACE
    trace.parent.mkdir()
    trace.write_bytes(gzip.compress(b'{"traceEvents": []}', mtime=0))
    return root / run_id


def records(*, hostile: bool = True, processes: int = 3) -> Iterator[Record]:
    for case in _cases():
        yield from _case_records(case, processes)
    yield from LIMITS
    if hostile:
        for number, name in enumerate(HOSTILE):
            yield from _hostile_records(name, number)


def _cases() -> Iterator[Case]:
    for model in MODELS:
        for mode in ("infer", "train"):
            for adapter in ADAPTERS:
                for precision in ("fp64", "fp32"):
                    yield Case("conformance", mode, model, "tiny", adapter, "cpu", precision, 2)
                for suite in ("performance", "cold_start", "memory"):
                    yield Case(suite, mode, model, "small", adapter, "cpu", "fp32", 8)
            yield Case("overhead", mode, model, "small", "torch_eager", "cpu", "fp32", 8)
    for adapter in ADAPTERS:
        yield Case("latency", "infer", "vit", "small", adapter, "cpu", "fp32", 1)
        for suite, mode, model, name, points in SWEEPS:
            case = Case(suite, mode, model, "small", adapter, "cpu", "fp32", 8)
            yield from (replace(case, **{name: point}) for point in points)


def _fate(case: Case) -> tuple[str, str]:
    if case.mode == "train" and case.adapter == "onnx_runtime":
        return "unsupported", "ONNX Runtime runs inference only"
    if case.suite == "sweep_batch" and case.adapter == "tf_graph" and case.batch > 32:
        return "out_of_memory", "killed at 12.4 GiB"
    if case.suite.startswith("sweep"):
        return "ok", ""
    where = (case.mode, case.model, case.size, case.adapter, case.precision)
    return FATES.get(where, ("ok", ""))


def _case_records(case: Case, processes: int) -> Iterator[Record]:
    status, reason = _fate(case)
    rng = np.random.default_rng(sum(map(ord, case.suite + case.key)))
    if status in ("ok", "divergent", "mistrusted"):
        yield Facts(case, _facts(case))
        yield from _agreements(case, status, rng)
    if case.suite != "conformance" and status in ("ok", "divergent"):
        yield from _measurements(case, processes, rng)
    command = f"pytest suites/{case.suite} --case '{case.key}'"
    seconds = round(float(rng.uniform(0.2, 9)), 3)
    phases = {"build": 0.3 * seconds, "judge": 0.25 * seconds, "measure": 0.4 * seconds}
    yield Outcome(case, status, reason, seconds, command, phases)


def _facts(case: Case) -> dict:
    dtype = {"fp64": "float64", "fp32": "float32"}[case.precision]
    return {
        "dtype": {"parameters": dtype, "output": dtype},
        "threads": 8,
        "graph_breaks": 0,
        "flags": {"tf32": False, "matmul_precision": "highest"},
        "loss": "NaN",
        "versions": VERSIONS[case.adapter],
        **({"trace": TRACE} if case == TRACED else {}),
    }


def _agreements(case: Case, status: str, rng: np.random.Generator) -> Iterator[Agreement]:
    tensors = [("output", "logits"), ("loss", "loss")]
    if case.mode == "train":
        layers = [f"block{i}/{part}/{kind}" for i in (0, 1) for part in "ab" for kind in "wb"]
        tensors = tensors[1:] + [(q, t) for q in ("gradient", "update@10") for t in layers]
    for number, (quantity, tensor) in enumerate(tensors):
        bad = status == "divergent" and number == 2
        if case.precision == "fp64":
            error = 3.2e-4 if bad else float(10 ** rng.uniform(-16, -11.5))
            verdict = "divergent" if bad else "identical"
            yield Agreement(case, quantity, tensor, error, None, None, verdict, "consensus")
            continue
        floor = float(10 ** rng.uniform(-7.2, -6.4))
        ratio = (
            880.0
            if bad
            else float(rng.choice([0.0, 0.4, 1.7, 3.1, 5.5], p=[0.1, 0.4, 0.3, 0.15, 0.05]))
        )
        verdict = "rounding-equal" if ratio else "bitwise"
        verdict = "divergent" if bad else "precision-equal" if ratio > 4 else verdict
        yield Agreement(case, quantity, tensor, ratio * floor, floor, ratio, verdict, "consensus")
    if case.mode == "train" and case.model == "vit":
        floor = None if case.precision == "fp64" else 0.4
        ratio = None if floor is None else 2.3
        yield Agreement(
            case, "gradient", "block0/k/b", 0.9, floor, ratio, "null-gradient", "consensus"
        )
    if status == "mistrusted":
        yield Agreement(
            case, "output", "logits", math.inf, None, None, "mistrusted", "consensus", "constant"
        )


def _measurements(case: Case, processes: int, rng: np.random.Generator) -> Iterator[Record]:
    flags = ("not_steady",) if (case.model, case.adapter) == ("vit", "tf_graph") else ()
    noise = 0.1 if (case.model, case.adapter) == ("vit", "tf_graph") else 0.004
    for process in range(processes):
        own = _step(case) * math.exp(rng.normal(0, noise))
        for metric, values in _values(case, own, rng).items():
            unit = METRICS[metric][0]
            listed = tuple(float(value) for value in values)
            conditions = {"cpu_seconds": 7.9 * own, "page_faults": 3 * process}
            yield Measurement(case, metric, unit, listed, 12, process, flags, conditions)


def _step(case: Case) -> float:
    """Seconds of one step: a part that grows with the batch, and one that more threads share."""
    size = case.batch / 8 + 0.3
    size *= ((case.length or 65) / 65) ** 1.4
    size *= (8 / (case.threads or 8)) ** 0.8
    return COST[case.model] * SPEED[case.adapter] * size * (3.0 if case.mode == "train" else 1.0)


def _values(case: Case, own: float, rng: np.random.Generator) -> dict:
    """metric -> values of one process whose typical step takes `own` seconds."""
    speed = SPEED[case.adapter]
    rounds = own * np.exp(np.abs(rng.normal(0, 0.04, size=16)))
    memory = [round(3e7 * speed + 2e9 * own)]
    if case.suite == "latency":
        return {"latency": own * np.exp(rng.gamma(1.0, 0.08, size=400))}
    if case.suite == "overhead":
        return {"control_ratio": 1.012 + rng.normal(0, 0.004, size=16)}
    if case.suite == "memory":
        step = {"step_peak_bytes": [round(2e9 * own)]}
        return {"host_peak_bytes": memory, **step, "compile_peak_bytes": [round(2e8 / speed)]}
    if case.suite == "cold_start":
        compiles = case.adapter in COMPILERS
        start = {
            "import_time": [2.4 * speed + rng.uniform(0, 0.1)],
            "build_time": [0.08 + rng.uniform(0, 0.02)],
            "first_call_time": [own + (14.0 if compiles else 0.02)],
        }
        parts = {"trace_time": [3.1], "compile_time": [9.6], "first_call_time_warm_cache": [4.0]}
        return start | (parts if compiles else {})
    speeds = {"step_time": rounds, "throughput": case.batch / rounds}
    if case.suite != "performance":
        return speeds | {"host_peak_bytes": memory}
    work = {"flops_per_step": [2e8 * COST[case.model] / 0.011 * case.batch]}
    work["bytes_per_step"] = [work["flops_per_step"][0] / (40 if case.model == "vit" else 12)]
    return speeds | work | {"dispatch_time": rounds / 9, "transfer_time": rounds / 40}


def _hostile_records(name: str, number: int) -> Iterator[Record]:
    """One performance case whose every name is `name`."""
    case = Case("performance", "infer", name, "small", name, "cpu", name, number + 1)
    yield Facts(case, {name: name, "nested": {name: [1, float("inf"), {name: "NaN"}]}})
    yield Agreement(case, name, name, 1e-7, 1e-7, 1.0, "rounding-equal", name, name)
    yield Measurement(case, "step_time", "s", (1e-3,) * 16, 1, 0, (name,))
    yield Measurement(case, "throughput", "1/s", (1e3,) * 16, 1, 0, (name,))
    yield Measurement(case, "import_time", "s", (0.3,), 1, 0, (name,))
    yield Measurement(case, "host_peak_bytes", "B", (1e6,), 1, 0, (name,))
    yield Outcome(case, "ok", "", 1.0, f"pytest -k {name}")
    broken = Case("performance", "infer", name, "small", f"broken {name}", "cpu", name, number + 1)
    yield Outcome(broken, "failed", name, 1.0, f"pytest -k {name}")


# -- suites of exercises ---------------------------------------------------------------------------

#: The usual ones, and as many more as are wanted.
OPERATIONS = ("conv2d", "gelu", "matmul", "softmax", "take")
#: (mode, operation, adapter, precision) -> (status, verdict, reason) of one comparison.
FAULTS = {
    ("infer", "conv2d", "tf_graph", "fp32"): (
        "divergent",
        "divergent",
        "3 of 8 elements differ, but none may",
    ),
    ("infer", "gelu", "torch_eager", "fp32"): (
        "ok",
        "deviation",
        "known: the vectorised kernel gives NaN for infinity (docs/findings.md#gelu)",
    ),
    ("infer", "take", "jax_jit", "fp16"): ("mistrusted", "mistrusted", "the reference is constant"),
    ("infer", "take", "tf_xla", "bf16"): ("crashed", "", "the worker died of signal 11"),
}
DIVERGENCE = """output odd sizes: normwise error 1.2e-01, 3 of 8 elements differ, but none may
first wrong operation: conv2d at convnet.py:41
reference: numpy in float64
1 of 3 comparisons diverge"""
EXERCISES = ("usual", "odd sizes", "NaN and infinities")


def exercise_records(
    *, hostile: bool = True, operations: int = len(OPERATIONS)
) -> Iterator[Record]:
    names = [*OPERATIONS, *(f"operation_{i}" for i in range(operations))][:operations]
    for name in names:
        for adapter in ADAPTERS:
            for mode in ("infer", "train"):
                for precision in ("fp64", "fp32", "bf16", "fp16"):
                    place = ("tiny", adapter, "cpu", precision, 1)
                    yield from _exercised(Case("operations", mode, name, *place))
    for adapter in ADAPTERS:
        for precision in ("fp64", "fp32"):
            place = ("tiny", adapter, "cpu", precision, 1)
            yield from _exercised(Case("autodiff", "infer", "hessian_vector", *place))
            yield from _controlled(Case("control", "infer", "branch", *place))
            yield from _trapped(Case("traps", "infer", "trap07_epsilon", *place))
        yield from _trained_trap(Case("traps", "train", "mlp", "tiny", adapter, "cpu", "fp64", 2))
        for mode in ("infer", "train"):
            place = ("tiny", adapter, "cpu", "fp32", 8)
            yield from _repeated(Case("determinism", mode, "convnet", *place))
    for name in HOSTILE if hostile else ():
        yield from _hostile_exercises(name)


def _command(case: Case) -> str:
    return f"pytest 'suites/conformance/test_{case.suite}.py::test[{case.key}]'"


def _exercised(case: Case) -> Iterator[Record]:
    if case.adapter == "onnx_runtime" and (case.mode == "train" or case.suite == "autodiff"):
        reason = "this adapter computes no gradients"
        for name in EXERCISES:
            yield _row(case, name, "unsupported", f"unsupported: {reason}")
        yield Outcome(case, "unsupported", reason, 0.01, _command(case))
        return
    fault = (case.mode, case.model, case.adapter, case.precision)
    status, verdict, reason = FAULTS.get(fault, ("ok", "", ""))
    good = "identical" if case.precision == "fp64" else "rounding-equal"
    for number, name in enumerate(EXERCISES if status != "crashed" else ()):
        yield _row(case, name, verdict or good if number == 1 else good, reason if verdict else "")
    told = DIVERGENCE if status == "divergent" else reason
    yield Outcome(case, status, "" if status == "ok" else told, 0.02, _command(case))


def _row(case: Case, name: str, verdict: str, reason: str = "", ratio: float = 0.53) -> Agreement:
    quantity = "gradient" if case.mode == "train" else "output"
    name = f"{name}: x" if case.mode == "train" else name
    if verdict in ("unsupported", "mistrusted"):
        return Agreement(case, "output", name, math.inf, None, None, verdict, "none", reason)
    if verdict == "divergent":
        ratio = 2e6
    told = reason if verdict not in ("identical", "rounding-equal") else ""
    floor = None if verdict == "identical" else 6e-8
    error = 3.1e-16 if floor is None else ratio * floor
    ratio_ = None if floor is None else ratio
    source = "numpy in float64"
    return Agreement(case, quantity, name, error, floor, ratio_, verdict, source, told)


def _controlled(case: Case) -> Iterator[Record]:
    inputs = ("first", "other branch", "another shape", "first shape again")
    if case.adapter == "onnx_runtime":
        yield Outcome(
            case, "unsupported", "the shape is fixed when it is built", 0.1, _command(case)
        )
        return
    grows = {"torch_eager": (None,) * 4, "torch_compile": (1, 2, 3, 3)}
    counts = grows.get(case.adapter, (1, 1, 2, 2))
    per_input = {
        f"branch/{name}": {
            "traces": count,
            "compilations": count,
            "graph_breaks": count and (count - 1 if case.adapter == "torch_compile" else 0),
        }
        for name, count in zip(inputs, counts, strict=True)
    }
    yield Facts(case, {"counts": per_input})
    wrong = case.adapter == "tf_graph" and case.precision == "fp32"
    for name in inputs:
        good = "identical" if case.precision == "fp64" else "rounding-equal"
        yield _row(case, name, "divergent" if wrong and name == "other branch" else good)
    reason = "output other branch: normwise error 1.0e-01\n1 of 4 comparisons diverge"
    yield Outcome(case, "divergent" if wrong else "ok", reason * wrong, 0.1, _command(case))


def _trapped(case: Case) -> Iterator[Record]:
    defaults = {
        "torch_eager": {"told": "torch.nn.LayerNorm(8)", "error": 0.0, "same": True},
        "tf_graph": {"told": "keras.layers.LayerNormalization()", "error": 4.2e-3, "same": False},
        "jax_jit": {"problem": "JAX itself has no such layer"},
        "onnx_runtime": {"told": "LayerNormalization", "error": math.inf, "same": False},
    }
    if case.precision == "fp32" and case.adapter in defaults:
        pinned = "epsilon is 1e-5 and is added to the variance before the root"
        told = {"trap": 7, "title": "Where epsilon is added", "pinned": pinned}
        yield Facts(case, {**told, "default": defaults[case.adapter]})
    wrong = case.adapter == "tf_xla" and case.precision == "fp32"
    good = "identical" if case.precision == "fp64" else "rounding-equal"
    yield _row(case, "small variance", "divergent" if wrong else good)
    reason = "output small variance: normwise error 1.0e-01" * wrong
    yield Outcome(case, "divergent" if wrong else "ok", reason, 0.1, _command(case))


def _trained_trap(case: Case) -> Iterator[Record]:
    case = replace(case, recipe="adamw")
    if case.adapter == "onnx_runtime":
        yield Outcome(case, "unsupported", "ONNX Runtime runs inference only", 0.1, _command(case))
        return
    told = {"trap": 19, "title": "Decoupled weight decay", "pinned": "the decay is not scaled"}
    yield Facts(case, told)
    yield Agreement(case, "update@10", "fc1/w", 3e-15, None, None, "identical", "consensus")
    yield Outcome(case, "ok", "", 0.1, _command(case))


def _repeated(case: Case) -> Iterator[Record]:
    if case.adapter == "onnx_runtime" and case.mode == "train":
        yield Outcome(case, "unsupported", "ONNX Runtime runs inference only", 0.1, _command(case))
        return
    differs = {"tf_xla": ("process", "threads"), "torch_eager": ("threads",)}.get(case.adapter, ())
    variants = ["again", "process", "threads"]
    variants += ["position", "neighbours"] if case.mode == "infer" else []
    yield Facts(case, {"deterministic": "process" not in differs})
    for name in variants:
        bits, floor = name not in differs, 4e-7
        ratio, reason = (0.0, "") if bits else (1.59, "41 of 49 tensors differ, most loss")
        verdict = "bitwise" if bits else "rounding-equal"
        source = "the first run"
        yield Agreement(case, "repeat", name, ratio * floor, floor, ratio, verdict, source, reason)
    yield Outcome(case, "ok", "", 0.1, _command(case))


def _hostile_exercises(name: str) -> Iterator[Record]:
    """Cases of every suite of exercises whose names, reasons and facts are `name`."""
    facts = {"trap": 7, "title": name, "pinned": name, "counts": {f"{name}/{name}": {name: name}}}
    facts |= {"default": {"told": name, "error": name, "same": name}, "deterministic": name}
    for suite in ("operations", "autodiff", "control", "traps", "determinism"):
        for verdict in ("divergent", "unsupported", "deviation", "bitwise"):
            case = Case(suite, "infer", name, name, f"{verdict} {name}", "cpu", name, 1, name)
            yield Facts(case, facts)
            quantity = "repeat" if suite == "determinism" else name
            yield Agreement(case, quantity, name, 1.0, None, None, verdict, name, name)
            status = verdict if verdict in ("divergent", "unsupported") else "ok"
            yield Outcome(case, status, name * (status != "ok"), 1.0, f"pytest {name}"[:400])
