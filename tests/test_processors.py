"""Timed processes with fewer threads than cores share the same cores."""

import os

import pytest

from harness import processors
from harness.pool import Role


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes a machine: processor -> the text of its siblings' file."""

    def make(siblings):
        for processor, text in siblings.items():
            folder = tmp_path / f"cpu{processor}" / "topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(text + "\n")
        monkeypatch.setattr(processors, "TOPOLOGY", tmp_path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(siblings))

    return make


@pytest.mark.parametrize(
    ("siblings", "threads", "chosen"),
    [
        ({0: "0", 1: "1", 2: "2", 3: "3"}, 1, [3]),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, 3, [1, 2, 3]),
        ({0: "0", 1: "1"}, 2, []),  # as many threads as cores: nothing to choose
        ({0: "0", 1: "1"}, 8, []),
        ({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, 1, [1, 3]),  # a core with two hardware threads
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, 1, [2, 3]),
        ({0: "0,4", 1: "1,5"}, 1, [1]),  # 5 is not allowed to this process
        ({0: "rubbish", 1: ""}, 1, [1]),
    ],
)
def test_the_last_cores_are_chosen(machine, siblings, threads, chosen):
    machine(siblings)
    assert processors.chosen(threads) == chosen


def test_a_timed_worker_is_bound_and_a_judging_one_is_not(toys):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor leaves nothing to choose")
    timed = toys.client(Role("backend", "time", threads=1))
    judging = toys.client(Role("backend", "judge"))
    assert os.sched_getaffinity(timed.pid) == set(processors.chosen(1))
    assert os.sched_getaffinity(judging.pid) == allowed
