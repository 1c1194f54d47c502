"""What a worker measures: blocks, memory, tensors."""

import dataclasses
import itertools

import numpy as np
import pytest

from harness import clock, memory, timing
from harness.client import WorkerFailure
from harness.lanes import agree
from harness.pool import Role
from harness.protocol import ProtocolError, decode, encode, load_tensors, save_tensors
from results.records import Case

CASE = Case("performance", "infer", "mlp", "tiny", "backend", "cpu", "fp32", 4)


@pytest.fixture
def client(toys):
    client, built = toys.build(CASE, Role("backend", "time"), timeout=20)
    assert built["build_time"] > 0
    return client


def test_blocks_of_more_steps_take_longer(client):
    one = client.request("block", timeout=20, steps=10)["seconds"]
    many = client.request("block", timeout=20, steps=1000)["seconds"]
    assert many > one > 0


def test_warm_up_reaches_its_minimum_and_sizes_blocks(client):
    warm = client.request("warm_up", timeout=20)
    assert warm["calls"] >= timing.WARM_UP_CALLS
    assert warm["seconds"] >= timing.WARM_UP_SECONDS
    block = client.request("block", timeout=20, steps=warm["steps_per_block"])
    assert block["seconds"] > timing.BLOCK_SECONDS / 3


def test_tensors_come_back_in_the_program_s_precision(client, toys):
    tensors = agree(toys, client, CASE, deadline=clock.now() + 20)
    assert tensors["output"].shape == (4, 10)
    assert tensors["output"].dtype == np.float32


def test_memory_is_measured_in_a_process_of_its_own(toys):
    role = Role("backend", "remember")
    spec, inputs = toys.spec(CASE, role), str(toys.inputs(CASE))
    found = toys.client(role).request("remember", timeout=20, spec=spec, inputs=inputs)
    assert set(found) == {"host_peak_bytes", "step_peak_bytes", "compile_peak_bytes"}


def test_peak_memory_sees_a_temporary_of_known_size():
    before = memory.resident()
    memory.reset_peak()
    np.ones(2**23)  # 64 MiB, freed at once
    assert memory.peak() - before == pytest.approx(2**26, rel=0.02)


@pytest.mark.parametrize(
    ("step_seconds", "steps"), [(1e-5, 3001), (0.02, 5), (0.099, 5), (0.1, 1), (2.0, 1)]
)
def test_steps_per_block(step_seconds, steps):
    assert timing._steps_per_block(step_seconds) == pytest.approx(steps, abs=1)


class Steps:
    """A step on a fake clock: the first calls are slow, or every window differs."""

    def __init__(self, monkeypatch, durations):
        self.time, self._durations = 0.0, durations
        monkeypatch.setattr(timing.clock, "now", lambda: self.time)

    def __call__(self):
        self.time += next(self._durations)


def test_warm_up_waits_for_steadiness(monkeypatch):
    steps = Steps(monkeypatch, iter([0.05] * 10 + [0.01] * 1000))
    warm = timing.warm_up(steps)
    timing.thaw()
    assert warm.steady
    assert warm.calls >= timing.WARM_UP_CALLS


def test_warm_up_gives_up_and_says_so(monkeypatch):
    growing = (0.01 * 1.01**n for n in range(10_000))
    warm = timing.warm_up(Steps(monkeypatch, growing))
    timing.thaw()
    assert not warm.steady


def test_a_slow_step_is_warmed_up_by_few_calls(monkeypatch):
    warm = timing.warm_up(Steps(monkeypatch, iter([2.0, 1.5, 1.0, 1.0, 1.0, 1.0])))
    timing.thaw()
    assert timing.SLOW_CALLS <= warm.calls <= 5
    assert warm.steps_per_block == 1


def test_tensors_survive_the_file_with_any_name(tmp_path):
    tensors = {"a/b:c@1": np.eye(2), "": np.float64(3), "ü": np.arange(3, dtype=np.int64)}
    save_tensors(tmp_path / "t.npz", tensors)
    back = load_tensors(tmp_path / "t.npz")
    assert list(back) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == np.asarray(value).dtype


def test_pickled_tensors_are_refused(tmp_path):
    np.savez(tmp_path / "t.npz", names=np.array(["x"]), t0=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_tensors(tmp_path / "t.npz")


def test_messages_round_trip_and_rubbish_is_refused():
    message = {"id": 3, "op": "block", "arguments": {"steps": 5}}
    assert decode(encode(message)) == message
    for rubbish in (b"", b"{", b"[]", b"7", b'{"op": 1}', b"\xff"):
        with pytest.raises(ProtocolError):
            decode(rubbish)


def test_a_clock_that_jumps_does_not_matter(monkeypatch):
    """The time of day may be set while something is timed; the harness never asks for it."""
    jumps = iter(range(0, 10**9, 3600))
    monkeypatch.setattr("time.time", lambda: float(next(jumps)))
    info = __import__("time").get_clock_info("perf_counter")
    assert info.monotonic
    assert not info.adjustable
    taken = timing.block(lambda: None, lambda value: None, 100)
    assert 0 < taken.seconds < 60


def test_single_calls_are_bounded_by_time_and_number(monkeypatch):
    fast = Steps(monkeypatch, itertools.repeat(1e-4))
    assert len(timing.latencies(fast)) == timing.LATENCY_CALLS
    slow = Steps(monkeypatch, itertools.repeat(0.125))
    assert len(timing.latencies(slow)) == 40  # what fits into 5 s
    slower = Steps(monkeypatch, itertools.repeat(60.0))
    assert timing.latencies(slower) == [60.0] * timing.SINGLE_LEAST


def test_dispatch_does_not_count_the_waiting(monkeypatch):
    step = Steps(monkeypatch, itertools.repeat(0.001))

    def wait(value):
        step.time += 0.010

    assert timing.dispatches(step, wait) == pytest.approx([0.001] * 46, rel=1e-6)


def test_transfer_counts_the_waiting(monkeypatch):
    put = Steps(monkeypatch, itertools.repeat(0.002))

    def wait(value):
        put.time += 0.003

    assert timing.transfers(put, wait) == pytest.approx([0.005] * 50, rel=1e-6)


def test_the_largest_rate_counts(monkeypatch):
    durations = itertools.cycle([0.2, 0.1, 0.4])
    assert timing.rate(Steps(monkeypatch, durations), lambda v: None, 7.0) == pytest.approx(70.0)


def test_a_device_s_own_clock_is_kept():
    def on_device(run):
        run()
        return 0.25

    calls = []
    taken = timing.block(lambda: calls.append(1), lambda value: None, 3, on_device)
    assert (taken.device_seconds, len(calls)) == (0.25, 3)


def test_a_block_counts_its_steps_and_is_refused_where_they_did_not_run(toys):
    """A device whose clock forgets to run the steps has timed nothing: that is no figure."""
    case = dataclasses.replace(CASE, adapter="times_nothing", device="cuda")
    client, _ = toys.build(case, Role("times_nothing", "time"), timeout=20)
    with pytest.raises(WorkerFailure, match="a block ran 0 steps, but should have run 7") as caught:
        client.request("block", timeout=20, steps=7)
    assert caught.value.status == "failed"


def test_a_block_that_ran_twice_is_refused():
    def twice(run):
        run()
        run()

    with pytest.raises(timing.StepCountError, match="ran 6 steps, but should have run 3"):
        timing.block(lambda: 1, lambda value: None, 3, twice)
