"""`python -m adapters`: what it lists, and that no adapter can spoil the list."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adapters import __main__ as command
from adapters import model as models
from adapters.counting import count
from adapters.registry import BUILT_IN
from tests.test_architecture import FRAMEWORKS

ROOT = Path(__file__).resolve().parent.parent
ADAPTER_KEYS = {
    "name": str, "installed": bool, "version": (str, type(None)), "versions": dict,
    "framework": str, "devices": list, "precisions": list, "compile_cache": bool, "reason": str,
    "known_bad": list,
}  # fmt: skip


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "adapters", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, **options,
    )  # fmt: skip


def toys(*names):
    return [f"--adapter-module=tests.toys.{name}" for name in names] + [
        "--adapters=" + ",".join(names)
    ]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes an adapter's module to where every process finds it; returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code, name="a_toy"):
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write


def toy(body):
    """The code of an adapter that describes itself, changed by `body`."""
    return f"from tests.toys import backend\nclass Adapter(backend.Adapter):\n    {body}\n"


@pytest.fixture(scope="module")
def listed():
    done = run("list", "--json", *toys("backend", "needs_missing_package", "nobody_wrote_this"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- what is listed --------------------------------------------------------------------------------


def test_the_schema(listed):
    assert set(listed) == {"adapters", "models"}
    for row in listed["adapters"]:
        assert set(row) == set(ADAPTER_KEYS)
        for key, kind in ADAPTER_KEYS.items():
            assert isinstance(row[key], kind), key
        assert row["installed"] == (row["reason"] == "")
    for row in listed["models"]:
        assert set(row) == {"name", "recipe", "sizes", "lengths"}
        for size in row["sizes"].values():
            assert set(size) == {"parameters", "flops_per_example", "batch", "infer", "train"}
            assert set(size["infer"]) == set(size["train"]) == {"flops", "bytes"}


def test_an_adapter_that_is_there_and_two_that_are_not(listed):
    there, lacking, unknown = listed["adapters"]
    assert there == {
        "name": "backend", "installed": True, "version": "1.0", "versions": {"toy": "1.0"},
        "framework": "toy", "devices": ["cpu"], "precisions": ["fp64", "fp32"],
        "compile_cache": False, "reason": "", "known_bad": [],
    }  # fmt: skip
    assert (lacking["name"], lacking["version"]) == ("needs_missing_package", None)
    assert lacking["reason"] == "Python package 'a_framework_that_nobody_has' is not installed"
    assert unknown["reason"] == "there is no module 'tests.toys.nobody_wrote_this'"


def test_the_models_are_counted(listed):
    assert [row["name"] for row in listed["models"]] == models.names()
    for row in listed["models"]:
        model = models.get(row["name"])
        assert (row["recipe"], row["lengths"]) == (model.recipe, list(model.lengths))
        assert list(row["sizes"]) == list(model.sizes)
        for size, told in row["sizes"].items():
            assert told["batch"] == model.batch[size]
            for mode in ("infer", "train"):
                counts = count(model, size, batch=model.batch[size], mode=mode)
                assert told["parameters"] == counts.parameters
                assert told[mode] == {"flops": counts.flops, "bytes": counts.bytes}
                if mode == "infer":
                    assert told["flops_per_example"] == counts.flops_per_example


def test_a_missing_framework_is_named(tmp_path, monkeypatch):
    """A package that cannot be imported stands in front of the real one."""
    hidden = tmp_path / "tensorflow"
    hidden.mkdir()
    error = "raise ModuleNotFoundError('No module named tensorflow', name='tensorflow')"
    (hidden / "__init__.py").write_text(error)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("list", "--json", "--adapters", "tf_graph")
    (row,) = json.loads(done.stdout)["adapters"]
    assert done.returncode == 0
    assert (row["name"], row["installed"], row["framework"]) == ("tf_graph", False, "")
    assert row["reason"] == "Python package 'tensorflow' is not installed"


def test_listing_imports_no_framework():
    code = (
        "import sys, json; from adapters.__main__ import main; "
        f"status = main(['list', *{toys('backend')}]); "
        "print(json.dumps([status, sorted(m for m in sys.modules if '.' not in m)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert "adapters" in modules
    assert not FRAMEWORKS & set(modules)


def test_all_adapters_are_listed_unless_some_are_named(monkeypatch, capsys):
    monkeypatch.setattr(command, "ask", lambda module, **_: {"reason": f"{module} is away"})
    assert command.main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["adapters"]
    assert {(f"{row['name']}", row["reason"]) for row in rows} >= {
        (name, f"adapters.{name} is away") for name in BUILT_IN
    }


# -- adapters that misbehave -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no such device')", "RuntimeError: no such device"),
        ("x = 1", "AttributeError: module 'a_toy' has no attribute 'Adapter'"),
        ("import a_toy.part", "Python package 'a_toy.part' is not installed"),
        (toy("versions = None"), "TypeError: 'NoneType' object is not callable"),
        ("import os; os._exit(3)", "crashed (exit 3): it printed no error"),
        ("import ctypes; ctypes.string_at(0)", "crashed (signal 11)"),
        (toy("precisions = (1, 2)"), "gave an answer that cannot be read"),
        (toy("compile_cache = 'yes'"), "gave an answer that cannot be read"),
        ("import sys; sys.exit(0)", "gave an answer that cannot be read"),
        ("import os; print('[3]', flush=True); os._exit(0)", "gave an answer that cannot be read"),
        ("import os; print('hello', flush=True); os._exit(0)", "gave an answer that cannot be"),
        (toy("def devices(self): return {object()}"), "crashed (exit 1): TypeError: Object of"),
    ],
)
def test_a_reason_for(module, code, reason):
    answer = command.ask(module(code))
    assert set(answer) == {"reason"}
    assert reason in answer["reason"]


def test_an_adapter_that_hangs(module):
    answer = command.ask(module("import threading; threading.Event().wait()"), timeout=1.0)
    assert answer == {"reason": "gave no answer within 1 s"}


def test_chatter_is_no_answer(module):
    name = module(
        "print('{}', end='')\nfrom tests.toys.backend import Adapter\nprint('hi', end='')"
    )
    assert command.ask(name)["framework"] == "toy"


def test_an_interpreter_that_cannot_be_started(tmp_path):
    file = tmp_path / "python"
    file.write_text("")
    file.chmod(0o755)
    assert "cannot be started" in command.ask("tests.toys.backend", python=str(file))["reason"]


def test_another_interpreter_is_asked(tmp_path):
    python = tmp_path / "python"
    answer = {**command.NOTHING_KNOWN, "framework": "toy", "versions": {"toy": "another"}}
    python.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    python.chmod(0o755)
    done = run("list", "--json", *toys("backend", "raises"), f"--python=backend={python}")
    versions = [row["version"] for row in json.loads(done.stdout)["adapters"]]
    assert versions == ["another", "1.0"]


def test_describe_answers_in_its_last_line():
    done = run("describe", "tests.toys.backend")
    assert json.loads(done.stdout.splitlines()[-1])["versions"] == {"toy": "1.0"}
    assert "describe" not in run("--help").stdout


# -- for people ------------------------------------------------------------------------------------


def test_the_table(module, capsys):
    name = module("raise RuntimeError('[red]no\\x1b[31m such \\u202e device')")
    assert command.main(["list", f"--adapter-module={name}", f"--adapters={name}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["adapter", "framework", "devices", "precisions", "why", "not"]
    assert r"RuntimeError: [red]no\x1b[31m such \u202e device" in lines[1]
    assert any(line.split()[:3] == ["mlp", "small", "sgd_momentum"] for line in lines)
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required"),
        (["show"], "invalid choice: 'show'"),
        (["list", "--jsn"], "unrecognized arguments: --jsn"),
        (["list", "--adapters", "torch_eagre"], "did you mean 'torch_eager'?"),
        (["list", "--python", "jaxx=/bin/true"], "unknown adapter 'jaxx'"),
        (["list", "--python", "jax_jit=/nowhere"], "/nowhere is not an executable file"),
        (["list", "--python", "jax_jit"], "nothing is not an executable file"),
        (["list", "--python", "jax_jit=/"], "/ is not an executable file"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, told, capsys):
    try:
        code = command.main(arguments)
    except SystemExit as error:
        code = error.code
    told_lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(told_lines) == 1
    assert told in told_lines[0]
