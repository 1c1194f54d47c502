"""Memory of a program is what its framework holds: Assay's own copies are in no figure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.registry import BUILT_IN
from harness.client import RETURNING_MALLOC, thread_environment

ROOT = Path(__file__).resolve().parent.parent
TABLE = 32 * 2**20  # bytes of a table of float32: Assay's float64 copy of it has twice as many
SLACK = 8 * 2**20  # code that a compiler made, and the like: a copy would be a whole table
#: Tables that TensorFlow's converter leaves in the process: its allocator returns nothing.
LEFT = {"litert": 3.2}

CODE = """
import dataclasses, json, sys, types
from pathlib import Path
import numpy as np
from adapters import model as models
from adapters.base import Spec
from harness.protocol import save_tensors
from harness.requests import Requests

WIDTH = 64
model = models.Model(
    sizes={"small": 2**10, "large": int(sys.argv[2]) // (4 * WIDTH)},
    batch={"small": 4, "large": 4},
    initial=lambda rows, rng: ({"table": rng.random((rows, WIDTH))}, {}),
    example=lambda rows, batch: {
        "x": np.arange(batch * 8).reshape(batch, 8), "y": np.zeros(batch, int)
    },
    # rows are looked up and not multiplied: for products some frameworks keep weights repacked
    forward=lambda ops, p, x, *, config, train: (
        ops.embedding(p["table"], x), {}
    ),
    recipe="sgd_momentum",
)
models.names = lambda: ["known"]
sys.modules["adapters.models.known"] = types.SimpleNamespace(MODEL=model)
try:
    requests = Requests(sys.argv[1])
except ModuleNotFoundError as error:
    print(json.dumps({"missing": error.name}))
    raise SystemExit

def remembered(size):
    rows, file = model.sizes[size], Path(sys.argv[3]) / f"{size}.npz"
    params, _ = model.initial(rows, np.random.default_rng(0))
    tensors = {f"parameter:{n}": v for n, v in params.items()}
    save_tensors(file, tensors | {f"batch:{n}": v for n, v in model.example(rows, 4).items()})
    del params, tensors
    spec = Spec("known", size, "infer", "cpu", "fp32", "sgd_momentum", threads=1)
    return requests.remember(spec=dataclasses.asdict(spec), inputs=str(file))

remembered("small")  # what a framework makes once and keeps: threads, kernels
found = remembered("large")
found["held"] = requests.facts()["held_bytes"]["parameter"]
print(json.dumps(found))
"""


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_known_allocation_is_charged_once(name, tmp_path):
    """A program that holds a table of 32 MiB takes 32 MiB, in every adapter: neither the float64
    array that it was made from is charged, nor the graph that it was written into."""
    environment = os.environ | RETURNING_MALLOC | thread_environment(1)
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TORCHINDUCTOR_VEC_ISA_OK": "1"}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, f"adapters.{name}", str(TABLE), str(tmp_path)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    if "missing" in found:
        pytest.skip(f"{found['missing']} is not installed")
    assert found["held"] == TABLE
    expected = (1 + LEFT.get(name, 0)) * TABLE
    assert abs(found["host_peak_bytes"] - expected) < SLACK
    assert found["step_peak_bytes"] < SLACK
