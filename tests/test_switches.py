"""What switches frameworks off is told, kept, and no result of a compiler."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapters.base import Adapter, Function, Setting
from adapters.exercise import Call
from harness import exercising, switches
from harness.environment import VARIABLES, describe
from harness.errors import explained
from results.store import read, run_folders

ROOT = Path(__file__).resolve().parent.parent
SETTING = Setting("cpu", "fp64", 1)


def test_a_switch_that_is_thrown_is_told_and_one_that_is_not_is_not():
    environment = {"JAX_DISABLE_JIT": "True", "TORCHDYNAMO_DISABLE": "0", "XLA_FLAGS": "--x=1"}
    assert switches.switched(environment) == [
        "JAX_DISABLE_JIT=True: JAX compiles nothing", "XLA_FLAGS=--x=1: changes how XLA compiles",
    ]  # fmt: skip
    assert switches.switched({"TF_ENABLE_ONEDNN_OPTS": "0"})
    assert not switches.switched({"TF_ENABLE_ONEDNN_OPTS": "1"})


def test_every_switch_is_kept_with_its_value(monkeypatch):
    assert all(name.startswith(VARIABLES) for name in switches.SWITCHES)
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    known = describe(command=[], options={})
    assert known["variables"]["TORCHDYNAMO_DISABLE"] == "1"
    assert "TORCHDYNAMO_DISABLE=1: torch.compile compiles nothing" in known["switches"]


class Halfway(Adapter):
    """Says how much of its functions was compiled."""

    def __init__(self, share):
        self.share = share

    def function(self, body, setting):
        function = Function()
        function.__class__ = type("Some", (Function,), {
            "__call__": lambda *_: {"a:output": np.zeros(1)},
            "compiled_share": lambda _: self.share,
        })  # fmt: skip
        return function


@pytest.mark.parametrize(
    ("share", "right"), [(None, True), (1.0, True), (0.5, False), (0.0, False)]
)
def test_a_function_that_was_not_compiled_has_no_results(share, right, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_JIT", "1")
    adapter = Halfway(share)
    found, failed = exercising.run(
        adapter, {"a": Call("relu")}, {}, SETTING, {},
        explain=lambda error: explained(error, adapter),
    )  # fmt: skip
    assert bool(found) == right
    if not right:
        assert failed["a"]["status"] == "failed"
        assert f"{share:.0%} was compiled, but should be all of it" in failed["a"]["reason"]
        assert "JAX_DISABLE_JIT=1: JAX compiles nothing" in failed["a"]["reason"]


@pytest.mark.parametrize(
    ("adapter", "variable"),
    [("torch_compile", "TORCHDYNAMO_DISABLE"), ("jax_jit", "JAX_DISABLE_JIT")],
)
def test_a_compiler_that_is_switched_off_passes_nothing(adapter, variable, tmp_path):
    """Its operations run eagerly then, and are all right; the header says so before."""
    command = [
        sys.executable, "-m", "pytest", "suites/conformance/test_operations.py",
        "--precisions=fp32", f"--adapters={adapter}", "-k", "relu and infer or relu and train",
        f"--results={tmp_path}",
    ]  # fmt: skip
    environment = {**os.environ, variable: "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert f"warning: {variable}=1: " in done.stdout
    (folder,) = run_folders(tmp_path)
    outcomes = read(folder).outcomes
    assert outcomes
    assert {outcome.status for outcome in outcomes} == {"divergent"}, done.stdout
    assert "0% was compiled" in outcomes[0].reason
