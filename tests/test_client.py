"""Everything that can happen to a worker ends as one named failure, and the next one works."""

import dataclasses
import os
import signal
import sys
import threading

import psutil
import pytest

from harness.client import PINNED_MALLOC, Client, NotStarted, WorkerFailure, thread_environment
from harness.pool import Role
from harness.protocol import VERSION
from results.records import Case

CASE = Case("conformance", "infer", "mlp", "tiny", "backend", "cpu", "fp64", 4)


def build(pool, adapter):
    return pool.build(CASE, Role(adapter, "judge"), timeout=20)[0]


def failure_of(pool, adapter, *, timeout=20.0):
    with pytest.raises(WorkerFailure) as caught:
        build(pool, adapter).request("first_call", timeout=timeout)
    return caught.value


def test_hello_tells_versions_and_interpreter(toys):
    hello = toys.client(Role("backend", "judge")).hello
    assert hello["versions"]["toy"] == "1.0"
    assert hello["executable"] == sys.executable
    assert hello["import_time"] > 0


def test_a_worker_is_reused_until_a_fresh_one_is_asked_for(toys):
    first = toys.client(Role("backend", "judge"))
    assert toys.client(Role("backend", "judge")) is first
    assert toys.client(Role("backend", "time")) is not first
    assert toys.client(Role("backend", "judge"), fresh=True).pid != first.pid
    assert not first.alive


def test_a_step_that_never_ends_times_out(toys):
    failure = failure_of(toys, "sleeps", timeout=1.0)
    assert failure.status == "timeout"


def test_a_memory_hog_is_killed_and_named(toys):
    failure = failure_of(toys, "hogs")
    assert failure.status == "out_of_memory"
    assert "above the limit of 0.50 GiB" in failure.reason


def test_an_exception_is_reported_and_the_worker_lives(toys):
    with pytest.raises(WorkerFailure, match="RuntimeError: the toy <b>kernel</b> refused") as e:
        build(toys, "raises")
    assert e.value.status == "failed"
    assert toys.client(Role("raises", "judge")).alive


def test_a_segfault_is_a_crash_and_printed_answers_are_not_believed(toys):
    failure = failure_of(toys, "segfaults")
    assert failure.status == "crashed"
    assert "SIGSEGV" in failure.reason
    assert "about to read address 0" in failure.reason


def test_a_killed_worker_is_a_crash_and_is_replaced(toys):
    client = build(toys, "sleeps")
    threading.Timer(0.3, os.kill, (client.pid, signal.SIGKILL)).start()
    with pytest.raises(WorkerFailure) as caught:
        client.request("first_call", timeout=20)
    assert caught.value.status == "crashed"
    assert "SIGKILL" in caught.value.reason
    assert toys.client(Role("sleeps", "judge")).pid != client.pid


def test_a_worker_that_died_while_idle_is_noticed(toys):
    client = build(toys, "backend")
    os.kill(client.pid, signal.SIGTERM)
    psutil.Process(client.pid).wait(timeout=10)
    with pytest.raises(WorkerFailure) as caught:
        client.request("facts", timeout=5)
    assert caught.value.status == "crashed"


def test_a_missing_framework_is_unsupported_and_asked_for_once(toys):
    for _ in range(2):
        with pytest.raises(WorkerFailure) as caught:
            toys.client(Role("needs_missing_package", "judge"))
        assert caught.value.status == "unsupported"
        assert "'a_framework_that_nobody_has' is not installed" in caught.value.reason
    assert len(list(toys.settings.scratch.glob("*needs_missing*.log"))) == 1


def test_an_adapter_module_that_does_not_exist_is_a_failure(tmp_path):
    with pytest.raises(WorkerFailure, match=r"No module named 'tests\.toys\.nothing'") as caught:
        client(tmp_path, "tests.toys.nothing", python=sys.executable)
    assert caught.value.status == "failed"


def test_an_interpreter_that_cannot_start_is_named(tmp_path):
    with pytest.raises(NotStarted, match=r"in /nowhere/python cannot be started: No such file"):
        client(tmp_path, "tests.toys.backend", python="/nowhere/python")


def test_something_else_than_a_worker_is_a_failure(tmp_path):
    with pytest.raises(NotStarted, match="exited with status 0 before it answered") as caught:
        client(tmp_path, "tests.toys.backend", python="/bin/true")
    assert f"(log: {tmp_path / 'log'})" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worker_of_another_protocol_is_refused(toys, monkeypatch):
    monkeypatch.setattr("harness.client.VERSION", 99)
    with pytest.raises(NotStarted, match=f"speaks protocol {VERSION}, but should speak 99"):
        toys.client(Role("backend", "judge"))


def test_an_unsupported_case_says_why(toys):
    training = dataclasses.replace(CASE, mode="train")
    with pytest.raises(WorkerFailure, match="inference only") as caught:
        toys.build(training, Role("backend", "judge"), timeout=20)
    assert caught.value.status == "unsupported"


def client(tmp_path, module, *, python):
    return Client(
        module,
        python=python,
        environment={**PINNED_MALLOC, **thread_environment(1)},
        log=tmp_path / "log",
        memory_limit=2**30,
        timeout=10,
    )


@pytest.mark.parametrize("adapter", ["torch_eager", "jax_jit"])
def test_a_worker_loads_no_data_to_find_what_is_quantized_or_to_count(tmp_path, adapter, toys):
    """Nor does it need what carries data: memory of that was once counted as a program's."""
    pytest.importorskip({"torch_eager": "torchao", "jax_jit": "qwix"}[adapter])
    hidden = tmp_path / "hidden" / "sklearn"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('a worker needs no data')")
    case = Case("gate", "infer", "mlp", "tiny", adapter, "cpu", "int8_dynamic", 8)
    client = Client(
        f"adapters.{adapter}", python=sys.executable, environment={}, log=tmp_path / "log",
        memory_limit=2**33, timeout=60, folders=[hidden.parent],
    )  # fmt: skip
    try:
        spec, inputs = toys.spec(case, Role(adapter, "judge")), str(toys.inputs(case))
        client.request("build", timeout=60, spec=spec, inputs=inputs)
        assert client.request("count", timeout=60, batch=8)["flops"] > 0
    finally:
        client.close()
