"""What a worker measures: blocks, memory, tensors."""

import numpy as np
import pytest

from harness import clock, memory, timing
from harness.lanes import agree
from harness.protocol import ProtocolError, decode, encode, load_tensors, save_tensors
from results.records import Case

CASE = Case("performance", "infer", "mlp", "tiny", "backend", "cpu", "fp32", 4)


@pytest.fixture
def client(toys):
    client = toys.client("backend", "time")
    inputs = str(toys.inputs(CASE.model, CASE.size, CASE.batch))
    built = client.request("build", timeout=20, spec=toys.spec(CASE, "judge"), inputs=inputs)
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
    tensors = agree(toys, client, deadline=clock.now() + 20)
    assert tensors["output"].shape == (4, 10)
    assert tensors["output"].dtype == np.float32


def test_memory_is_measured_in_a_process_of_its_own(toys):
    client = toys.client("backend", "remember", fresh=True)
    inputs = str(toys.inputs(CASE.model, CASE.size, CASE.batch))
    found = client.request("remember", timeout=20, spec=toys.spec(CASE, "judge"), inputs=inputs)
    assert set(found) == {"host_peak_bytes", "compile_peak_bytes"}


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
