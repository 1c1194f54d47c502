"""What a program keeps of earlier calls, does to its input, and reads that nobody wrote."""

import numpy as np
import pytest

from adapters import base, faulty_programs
from harness import memory, turns
from numerics import determinism
from numerics.judge import Reference

RNG = np.random.default_rng(0)
BATCHES = {name: {"x": RNG.normal(size=(4, 3))} for name in ("output", "output@2", "output@3")}
WANTED = {name: batch["x"] * 2 + 1 for name, batch in BATCHES.items()}


class Sound(base.Program):
    def put(self, batch):
        return np.array(batch["x"])

    def memory_of(self, placed):
        return [placed]

    def step(self, placed):
        return placed * 2 + 1

    def wait(self, value):
        pass

    def fetch(self, value):
        return np.array(value)


class Alias(Sound):
    """Its output lies where its input does."""

    def step(self, placed):
        return placed


class InPlace(Sound):
    """Works in place, on the framework's memory alone."""

    def step(self, placed):
        placed *= 2
        return placed + 1


def wrong(program):
    """The outputs that are not what they should be, and those that a repeated call changed."""
    tensors, again = turns.split(turns.infer(program, BATCHES, repeat=True))
    return {n for n, value in tensors.items() if not np.array_equal(value, WANTED[n])}, set(again)


def test_a_sound_program_is_right_on_every_batch():
    assert wrong(Sound()) == (set(), set())


@pytest.mark.parametrize(
    ("change", "outputs"),
    [
        (faulty_programs.Stale, {"output@2", "output@3"}),
        (faulty_programs.StaleOnce, {"output@2"}),
        (faulty_programs.Baked, {"output@2", "output@3"}),
        (faulty_programs.BatchBefore, {"output@2", "output@3"}),
    ],
)
def test_what_is_kept_of_earlier_batches_shows(change, outputs):
    assert wrong(change(Sound())) == (outputs, set())


@pytest.mark.parametrize("program", [Alias(), faulty_programs.View(Sound())])
def test_an_output_that_is_a_view_of_its_input_is_divergent(program):
    with pytest.raises(turns.Divergent, match="view"):
        turns.infer(program, BATCHES, repeat=True)


@pytest.mark.parametrize("program", [InPlace(), faulty_programs.InputChanged(Sound())])
def test_an_input_that_the_call_changes_is_divergent(program):
    with pytest.raises(turns.Divergent, match="changed its input"):
        turns.infer(program, BATCHES, repeat=True)


def test_what_reads_memory_that_nobody_wrote_differs_when_it_runs_again():
    outputs, again = wrong(faulty_programs.Unwritten(Sound()))
    assert (outputs, again) == (set(), {"output"})


@pytest.mark.parametrize("elements", [8, 100, 2**10, 2**16, 2**20])
@pytest.mark.parametrize("byte", turns.FILLS)
def test_free_memory_is_full_of_a_byte(elements, byte):
    import torch  # whose allocator is not NumPy's

    kept = torch.ones(elements)
    del kept  # a block that was used and freed
    with memory.filled(byte):
        found = torch.empty(elements).numpy().view(np.uint8)
        assert (found[16:] == byte).mean() > 0.9  # malloc's own links are in the first bytes


def test_after_that_it_is_left_alone():
    with memory.filled(0x7F):
        pass
    assert not (np.empty(2**24, np.uint8) == 0x7F).all()


def test_a_repeated_call_that_differs_is_judged_by_its_noise():
    first = {"output": np.array([1.0, 2.0]), "gradient:w": np.array([3.0, 4.0])}
    noise = Reference(first, "", {"output": 1e-7, "gradient:w": 1e-7})
    assert determinism.memory({}, noise, "fp32") == []
    (row,) = determinism.memory({"output": first["output"] * (1 + 1e-7)}, noise, "fp32")
    assert (row.quantity, row.tensor, row.verdict) == ("again", "output", "rounding-equal")
    again = {"output": first["output"], "gradient:w": np.array([3.0, np.inf])}
    for precision in ("fp32", "fp64"):
        (row,) = determinism.memory(again, noise, precision)
        assert (row.tensor, row.verdict) == ("gradient w", "divergent")
        assert "reads memory that it did not write" in row.reason
