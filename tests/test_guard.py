"""The GPU's guard: refuses, waits or marks. Says nothing about the CPU."""

import pytest

from harness import gpu
from harness.client import WorkerFailure
from harness.guard import Guard
from results.records import Case

ON_GPU = Case("performance", "infer", "mlp", "tiny", "backend", "cuda", "fp32", 4)
ON_CPU = Case("performance", "infer", "mlp", "tiny", "backend", "cpu", "fp32", 4)
COOL = gpu.Sample(1_980_000_000, 1_593_000_000, 40, 100.0, ())
HOT = gpu.Sample(1_200_000_000, 1_593_000_000, 90, 700.0, ("hw_thermal_slowdown",))


@pytest.fixture
def others(monkeypatch):
    """What each look at the GPU's processes finds; the last one stays."""
    looks = [["pid 41 (python, 1.5 GiB)"]]
    monkeypatch.setattr(gpu, "others", lambda own: looks.pop(0) if len(looks) > 1 else looks[0])
    monkeypatch.setattr("harness.guard.POLL_SECONDS", 0.01)
    return looks


def test_the_cpu_needs_no_guard(others):
    assert Guard().flags(ON_CPU, []) == ()
    assert Guard().sample(ON_CPU) is None
    assert Guard().throttling(ON_CPU, None) == ()


def test_a_gpu_that_others_use_is_refused(others):
    with pytest.raises(
        WorkerFailure, match=r"in use by pid 41 .* --wait-for-gpu SECONDS"
    ) as caught:
        Guard().flags(ON_GPU, [])
    assert caught.value.status == "failed"


def test_a_free_gpu_is_used(others):
    others[:] = [[]]
    assert Guard().flags(ON_GPU, []) == ()


def test_waiting_ends_when_the_gpu_is_free(others):
    others.append([])
    assert Guard(wait=10).flags(ON_GPU, []) == ()
    others[:] = [["pid 41"]]
    with pytest.raises(WorkerFailure, match=r"after waiting 0\.05 s"):
        Guard(wait=0.05).flags(ON_GPU, [])


def test_sharing_is_marked(others):
    assert Guard(share=True).flags(ON_GPU, []) == ("gpu_shared",)


@pytest.mark.parametrize(
    ("before", "after", "flags"),
    [
        (COOL, COOL, ()),
        (HOT, COOL, ("throttled",)),
        (COOL, HOT, ("throttled",)),
        (None, None, ()),  # no NVML: nothing is known
    ],
)
def test_throttling_at_either_end_is_marked(monkeypatch, before, after, flags):
    monkeypatch.setattr(gpu, "sample", lambda: after)
    assert Guard().throttling(ON_GPU, before) == flags
