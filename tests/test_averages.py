"""Averages and frozen parameters in the adapters that train: the formulas, step by step.

Each framework runs in a process of its own. Their compiled variants share this code, and are judged
by the suite of recipes.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.registry import ORACLE

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import importlib, json, sys
import numpy as np
from adapters import model as models
from adapters.base import Spec
from adapters.training import RECIPES

try:
    adapter = importlib.import_module(f"adapters.{sys.argv[1]}").Adapter()
except ModuleNotFoundError as error:
    print(json.dumps({"missing": error.name}))
    raise SystemExit
mlp = models.get("mlp")
GIVEN = mlp.initial(mlp.sizes["tiny"], np.random.default_rng(0))

def states(recipe):
    program = adapter.build(Spec("mlp", "tiny", "train", "cpu", "fp64", recipe, threads=1), *GIVEN)
    batch = program.put(mlp.example(mlp.sizes["tiny"], 8))
    found = [program.state()]
    for _ in range(4):
        program.wait(program.step(batch))
        found.append(program.state())
    return found, program.gradients(batch).gradients

def averaged():
    found, _ = states("sgd_average")
    d, worst = RECIPES["sgd_average"].average, 0.0
    kept = found[0].params
    for state in found:
        if state.steps:
            kept = {n: d * a + (1 - d) * state.params[n] for n, a in kept.items()}
        for name, wanted in kept.items():
            change = np.abs(state.averages[name] - wanted).max() / np.abs(wanted).max()
            worst = max(worst, float(change))
    moved = np.abs(found[-1].averages["fc1/w"] - found[0].averages["fc1/w"]).max()
    return {"worst": worst, "moved": float(moved), "names": sorted(found[-1].averages)}

def frozen():
    found, gradients = states("sgd_frozen")
    first, last = found[0], found[-1]
    same = [n for n in first.params if np.array_equal(first.params[n], last.params[n])]
    slots = sorted({n for kept in last.slots.values() for n in kept})
    return {"same": sorted(same), "gradients": sorted(gradients), "slots": slots}

print(json.dumps({"averaged": averaged(), "frozen": frozen(), "all": sorted(GIVEN[0])}))
"""


@pytest.fixture(scope="module", params=ORACLE)
def told(request):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, request.param],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    if "missing" in found:
        pytest.skip(f"{found['missing']} is not installed")
    return found


def test_an_average_is_that_of_the_formula(told):
    assert told["averaged"]["names"] == told["all"]
    assert told["averaged"]["worst"] < 1e-15
    assert told["averaged"]["moved"] > 1e-6


def test_what_is_frozen_stays_and_has_neither_gradient_nor_slots(told):
    assert told["frozen"]["same"] == ["fc1/b", "fc1/w"]
    assert told["frozen"]["gradients"] == told["frozen"]["slots"] == ["fc2/b", "fc2/w"]
