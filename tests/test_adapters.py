"""What the built-in adapters tell of themselves: facts, parts of a first step, traces, limits.

Each runs in a process of its own, because frameworks do not share one. What cannot run without a
CUDA device is run with stand-ins for it, which proves the arithmetic and nothing about CUDA.
"""

import functools
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapters.registry import BUILT_IN
from results.metrics import LIMITS

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = {name: f"adapters.{name}" for name in BUILT_IN} | {
    "torch_native": "adapters.controls.torch_native"
}
MEASURES = {
    "torch_eager": {"matmul_fp32", "matmul_bf16", "matmul_int8", "bandwidth"},
    "jax_jit": {"matmul_fp32", "matmul_bf16", "matmul_int8", "bandwidth"},
    "tf_graph": {"matmul_fp32", "matmul_bf16", "matmul_int8", "bandwidth"},
    "onnx_runtime": {"matmul_fp32", "matmul_int8", "bandwidth"},
}
PARTS = {
    "torch_compile": {"trace", "compile"},
    "tf_graph": {"trace"},
    "tf_xla": {"trace"},
    "jax_jit": {"trace", "compile"},
    "onnx_runtime": {"trace", "compile"},
    "litert": {"trace", "compile"},
}
#: An event of the matrix product that every adapter's trace has, with a name of the framework's.
OPERATOR = {
    "torch_eager": "aten::addmm",
    "torch_native": "aten::addmm",
    "torch_compile": "aten::addmm",
    "tf_graph": "MatMul",
    "tf_xla": "MatMul",
    "jax_jit": "dot",
    "onnx_runtime": "Gemm",
}

SETUP = """
import importlib, json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from adapters import model as models, probes
from adapters.base import Spec, Unsupported
from harness import clock
from harness.requests import Watch
from results.metrics import LIMITS

try:
    module = importlib.import_module(sys.argv[1])
except ModuleNotFoundError as error:
    print(json.dumps({"missing": error.name}))
    raise SystemExit

adapter = module.Adapter()
mlp = models.get("mlp")
mode = "infer" if adapter.framework in ("onnxruntime", "litert") else "train"

def build():
    state = mlp.initial(mlp.sizes["tiny"], np.random.default_rng(0))
    spec = Spec("mlp", "tiny", mode, "cpu", "fp32", mlp.recipe, threads=1)
    return adapter.build(spec, *state)

def step(program, examples):
    program.wait(program.step(program.put(mlp.example(mlp.sizes["tiny"], examples))))
"""

EVERYTHING = """
folder, probes.ELEMENTS = Path(sys.argv[2]), 2**16
probes.MATRICES = dict.fromkeys(probes.MATRICES, 64)
program, watch = build(), Watch()
batch = program.put(mlp.example(mlp.sizes["tiny"], 4))
start = clock.now()
program.wait(program.first_step(batch, watch))
told = {"first_step": clock.now() - start, "parts": watch.seconds}
told["first"] = program.facts()
step(program, 4)
told["same"] = program.facts()
step(program, 3)
told["other"] = program.facts()
try:
    told["trace"] = str(program.profile(batch, 2, folder))
except Unsupported as error:
    told["untraced"] = str(error)
told["limits"] = {}
for limit in LIMITS:
    try:
        probe = adapter.probe(limit, "cpu", 1)
    except Unsupported as error:
        told["limits"][limit] = str(error)
        continue
    start = clock.now()
    probe.wait(probe.step())
    told["limits"][limit] = probe.work / (clock.now() - start)
told["devices"], told["libraries"] = adapter.devices(), adapter.libraries()
told["memory"] = [adapter.reset_device_memory(), adapter.device_memory()]
steps = []
told["device_seconds"] = program.device_seconds(lambda: steps.append(1))
told["steps_run"] = len(steps)
"""

#: What is tried with one adapter only, after everything else.
ALSO = {
    "torch_eager": """
import torch
calls = []
class Event:
    def __init__(self, enable_timing): assert enable_timing
    def record(self): calls.append("record")
    def synchronize(self): calls.append("synchronize")
    def elapsed_time(self, end): return 250.0
torch.cuda.Event = Event
torch.cuda.reset_peak_memory_stats = lambda: calls.append("reset")
torch.cuda.max_memory_allocated, torch.cuda.max_memory_reserved = lambda: 5, lambda: 7
program = SimpleNamespace(_spec=SimpleNamespace(device="cuda"))
seconds = module.Program.device_seconds(program, lambda: calls.append("run"))
adapter._device = "cuda"
told["cuda"] = [seconds, adapter.reset_device_memory(), adapter.device_memory(), calls]
""",
    "torch_compile": """
module.BACKEND, mode = "eager", "infer"
program = build()
step(program, 4)
told["eager"] = program.facts()
""",
    "jax_jit": """
import jax
mode, events = "infer", []
program = build()
batch = program.put(mlp.example(mlp.sizes["tiny"], 4))
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
program.wait(program.first_step(batch, Watch()))
told["compiled"] = events.count("/jax/core/compile/backend_compile_duration")
program = build()
with jax.disable_jit():
    step(program, 4)
    told["eager"] = program.facts()
block_until_ready = jax.block_until_ready
def waited(tree):
    told["waited"].append(len(jax.tree.leaves(tree)))
    return block_until_ready(tree)
told["waited"] = []
for mode in ("infer", "train"):
    program = build()
    batch = program.put(mlp.example(mlp.sizes["tiny"], 4))
    value, jax.block_until_ready = program.step(batch), waited
    program.wait(value)
    jax.block_until_ready = block_until_ready
told["leaves"] = len(jax.tree.leaves(program._state))
""",
    "onnx_runtime": """
nodes = {"CPUExecutionProvider": 2, "CUDAExecutionProvider": 5}
runtime = SimpleNamespace(_device="cuda", _nodes_by_provider=lambda: nodes)
unknown = SimpleNamespace(
    _device="cuda", _nodes_by_provider=lambda: None,
    _session=SimpleNamespace(get_providers=lambda: list(nodes)),
)
told["foreign"] = [module._Runtime._foreign_nodes(r) for r in (runtime, unknown)]
""",
}


def run(name, folder):
    """What an adapter tells in a process of its own."""
    code = SETUP + EVERYTHING + ALSO.get(name, "") + "print(json.dumps(told))"
    environment = os.environ | {
        "NPROC": "1",  # the threads of XLA
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
        "TORCHINDUCTOR_VEC_ISA_OK": "1",  # spares a trial compilation
    }
    done = subprocess.run(
        [sys.executable, "-c", code, ADAPTERS[name], str(folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    if "missing" in answer:
        pytest.skip(f"{answer['missing']} is not installed")
    return answer


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """name -> what that adapter tells, asked once."""
    return functools.cache(lambda name: run(name, tmp_path_factory.mktemp(name)))


every_adapter = pytest.mark.parametrize("name", ADAPTERS)


@every_adapter
def test_facts_are_those_of_the_case(told, name):
    facts = told(name)["first"]
    assert facts["parameter_dtypes"] == ["float32"]
    assert facts["output_dtype"] == "float32"
    assert facts["device_kind"] == "cpu"
    assert facts["threads"] == (None if name == "litert" else 1)  # which does not tell
    assert not facts.get("graph_breaks")
    assert not facts.get("foreign_nodes")
    if name in ("torch_compile", "tf_xla", "jax_jit"):
        assert facts["compiled_share"] == 1.0


@every_adapter
def test_a_batch_of_another_shape_is_another_compilation(told, name):
    first, same, other = (told(name)[key]["compilations"] for key in ("first", "same", "other"))
    if name in ("torch_eager", "torch_native"):
        assert first is same is other is None
    else:
        assert first == same == 1
        assert other == 2


@every_adapter
def test_parts_of_the_first_step_do_not_exceed_it(told, name):
    parts = told(name)["parts"]
    assert set(parts) == PARTS.get(name, set())
    assert all(seconds > 0 for seconds in parts.values())
    assert sum(parts.values()) <= told(name)["first_step"]


@every_adapter
def test_the_trace_names_the_framework_s_operators(told, name):
    if name not in OPERATOR:
        assert told(name)["untraced"] == "this adapter has no profiler"
        return
    path = Path(told(name)["trace"])
    raw = path.read_bytes()
    trace = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    found = [e for e in events if e.get("ph") == "X" and OPERATOR[name] in e["name"]]
    assert found
    assert all(np.isfinite([e["ts"], e["dur"]]).all() for e in found)


@every_adapter
def test_limits_have_a_rate_or_a_reason(told, name):
    limits = told(name)["limits"]
    assert set(limits) == set(LIMITS)
    for limit, found in limits.items():
        if limit in MEASURES.get(name, ()):
            assert found > 0
        else:
            assert isinstance(found, str)


@every_adapter
def test_what_a_cpu_does_not_have_is_none_and_not_zero(told, name):
    assert told(name)["memory"] == [False, None]
    assert told(name)["device_seconds"] is None
    assert told(name)["steps_run"] == 1  # None means no clock, and not that nothing ran
    assert "cpu" in told(name)["devices"]
    assert all(isinstance(value, str) for value in told(name)["libraries"].values())


@pytest.mark.parametrize(("name", "compilations"), [("torch_compile", 1), ("jax_jit", 0)])
def test_what_runs_eagerly_has_compiled_nothing(told, name, compilations):
    facts = told(name)["eager"]
    assert facts["compilations"] == compilations
    assert facts["compiled_share"] == 0.0


def test_jax_compiles_a_first_step_once(told):
    """The step finds what was compiled before it, under the watch."""
    assert told("jax_jit")["compiled"] == 1


def test_jax_waits_for_the_value_and_for_the_state_where_steps_change_it(told):
    inferring, training = told("jax_jit")["waited"]
    assert inferring == 1
    assert training == 1 + told("jax_jit")["leaves"]


def test_torch_reads_cuda_s_events_and_allocator(told):
    seconds, reset, memory, calls = told("torch_eager")["cuda"]
    assert seconds == 0.25
    assert reset is True
    assert memory == {"peak": 5, "reserved": 7}
    assert calls == ["record", "run", "record", "synchronize", "reset"]


def test_onnx_runtime_tells_nodes_of_another_provider(told):
    assert told("onnx_runtime")["foreign"] == [{"CPUExecutionProvider": 2}, None]
