"""Who may import whom, and that the parent imports no framework."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "optax", "onnxruntime", "onnx", "flax"}
ROOMS = {"adapters", "harness", "numerics", "results", "reports", "suites", "conftest"}
MAY_IMPORT = {
    "adapters": set(),
    "numerics": {"adapters"},
    "results": set(),
    "reports": {"results"},
    "harness": {"adapters", "numerics", "results"},
    "suites": ROOMS,
    "conftest": ROOMS,
}
FILES = sorted(p for room in ROOMS for p in [*ROOT.glob(f"{room}/**/*.py"), ROOT / f"{room}.py"]
               if p.is_file())  # fmt: skip


def imports(path):
    """The first names of everything that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module


def violations(path, names):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = MAY_IMPORT[room] | {room}
    wrong = [name for name in names if name.split(".")[0] in ROOMS - allowed]
    if room == "harness":
        # what a worker and its parent agree on, and what a gate goes by
        plain = ("results", "results.records", "results.metrics", "results.gate", "results.policy")
        wrong += [n for n in names if n.startswith("results") and n not in plain]
    if room != "adapters":
        wrong += [name for name in names if name.split(".")[0] in FRAMEWORKS]
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_architecture(path):
    assert violations(path, list(imports(path))) == []


def test_a_violation_is_found():
    assert violations(ROOT / "reports/page.py", ["harness.clock", "results.store"]) == [
        "harness.clock"
    ]
    assert violations(ROOT / "harness/pool.py", ["results.store", "jax.numpy"]) == [
        "results.store",
        "jax.numpy",
    ]


def test_a_framework_is_imported_by_its_own_adapters_only():
    importers = {}
    for path in ROOT.glob("adapters/*.py"):
        for name in imports(path):
            if name.split(".")[0] in FRAMEWORKS:
                importers.setdefault(name.split(".")[0], set()).add(path.stem)
    owners = {
        "torch": {"torch"}, "tensorflow": {"tf", "litert"}, "keras": {"tf"}, "jax": {"jax"},
        "optax": {"jax"}, "flax": {"jax"}, "onnx": {"onnx"}, "onnxruntime": {"onnx"},
        "torchao": {"torch"}, "qwix": {"jax"}, "ai_edge_litert": {"litert"},
    }  # fmt: skip
    assert set(importers) <= set(owners)
    for framework, files in importers.items():
        assert {file.partition("_")[0] for file in files} <= owners[framework], files


def test_a_control_imports_one_framework():
    libraries = {"transformers": "torch", "flax": "jax", "optax": "jax", "keras": "tensorflow"}
    for path in ROOT.glob("adapters/controls/*.py"):
        found = {name.split(".")[0] for name in imports(path)} & {*FRAMEWORKS, *libraries}
        assert len({libraries.get(name, name) for name in found}) <= 1, (path.name, found)


def test_no_clock_is_read_outside_the_clock():
    for path in FILES:
        names = set(imports(path))
        if path.name != "clock.py":
            assert not names & {"time", "timeit"}, f"{path} imports {names & {'time', 'timeit'}}"


def test_no_branch_on_a_framework_s_name_outside_adapters():
    from adapters.registry import BUILT_IN

    for path in FILES:
        if "adapters" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
                found = (FRAMEWORKS | set(BUILT_IN)) & {c for c in constants if isinstance(c, str)}
                assert not found, f"{path}:{node.lineno} compares with {found}"


def test_collecting_the_suites_imports_no_framework():
    code = (
        "import sys, json, pytest; "
        "status = pytest.main(['suites', '--benchmark', '--collect-only', '-q']); "
        "print(json.dumps([status, sorted(m for m in sys.modules if '.' not in m)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert "adapters" in modules
    assert not FRAMEWORKS & set(modules)
