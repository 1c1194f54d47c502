"""Training that one framework begins and another goes on with: what is lost on the way is named."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import State
from adapters.registry import Registry
from harness.pool import Role
from harness.protocol import load_tensors
from harness.requests import Requests
from harness.runner import Ended, Runner
from harness.travel import STEPS
from results.records import Agreement, Case, Outcome

CASE = Case("travel", "train", "convnet", "tiny", "trains", "cpu", "fp64", 8, "adamw_warmup")
TOYS = ("backend", "trains", "trains_too", "forgets_momentum", "forgets_steps", "loses_buffers",
        "moves_frozen")  # fmt: skip

# -- a state as a file -----------------------------------------------------------------------------

NAMES = st.text("abc/:_0", min_size=1, max_size=6)
ARRAYS = st.lists(st.floats(width=32), max_size=3).map(np.array)
PARTS = st.dictionaries(NAMES, ARRAYS, max_size=3)
SLOTS = st.dictionaries(st.sampled_from("mvw"), PARTS.filter(bool), max_size=3)


def same(a, b):
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)


@given(PARTS, PARTS, PARTS, SLOTS, st.integers(0, 10**9))
def test_a_state_comes_back_from_its_flat_form(params, buffers, averages, slots, steps):
    state = State(params, buffers, averages, slots, steps)
    back = State.of(state.flat())
    assert same(state.flat(), back.flat())
    assert same(back.params, params)
    assert same(back.buffers, buffers)
    assert same(back.averages, averages)
    assert back.slots.keys() == slots.keys()
    assert all(same(back.slots[letter], slots[letter]) for letter in slots)
    assert back.steps == steps


def test_the_flat_form_by_hand():
    one = np.ones(1)
    state = State({"fc/w": one}, {"norm/mean": one}, {"fc/w": one}, {"m": {"fc/w": one}}, 3)
    assert list(state.flat()) == [
        "parameter:fc/w", "buffer:norm/mean", "average:fc/w", "slot:m:fc/w", "steps",
    ]  # fmt: skip
    assert State.of({"steps": np.array(0)}) == State({}, {})


# -- journeys --------------------------------------------------------------------------------------


class Records(list):
    """Sink and listener."""

    def phase(self, case, phase):
        pass

    def ended(self, outcome, note):
        self.note = note

    def of(self, kind):
        return [record for record in self if isinstance(record, kind)]


@pytest.fixture
def pool(toys, monkeypatch):
    """`trains` is what others start from."""
    modules = {name: f"tests.toys.{name}" for name in TOYS}
    settings = dataclasses.replace(toys.settings, registry=Registry(modules), memory_limit=2**31)
    toys.settings = settings
    monkeypatch.setattr("harness.referee.ORACLE", ("trains",))
    return toys


@pytest.fixture
def records():
    return Records()


@pytest.fixture
def runner(pool, records):
    runner = Runner(pool, records, records)
    yield runner
    runner.close()


def travel(runner, **changes):
    with runner.case(dataclasses.replace(CASE, **changes), reproduce="x") as attempt:
        attempt.travel()


def found(records):
    return {(row.quantity, row.tensor): row for row in records.of(Agreement)}


def test_a_state_that_arrives_is_ok_in_training_and_in_inference(runner, records):
    travel(runner)
    rows = found(records)
    after = f"after {STEPS} steps"
    assert set(rows) == {("state", "own format"), ("state", "from trains"), (after, "from trains")}
    assert {row.verdict for row in rows.values()} == {"bitwise", "identical"}
    assert rows["state", "from trains"].reference == "what was saved there"
    records.clear()
    travel(runner, adapter="backend", mode="infer")  # which trains nothing, and needs not
    (row,) = records.of(Agreement)
    assert (row.quantity, row.tensor, row.verdict) == ("output", "from trains", "identical")
    assert row.reference == "numpy on the saved weights"


def test_averages_travel(runner, records):
    travel(runner, adapter="trains_too", model="mlp", recipe="sgd_average")
    assert {row.verdict for row in records.of(Agreement)} == {"bitwise", "identical"}


def reason_of(runner, **changes):
    with pytest.raises(Ended) as caught:
        travel(runner, **changes)
    assert caught.value.outcome.status == "divergent"
    return caught.value.outcome.reason


def test_a_momentum_that_is_forgotten_is_named(runner, records):
    reason = reason_of(runner, adapter="forgets_momentum")
    rows = found(records)
    assert rows["state", "from trains"].verdict == "divergent"
    told = rows["state", "from trains"].reason
    assert re.search(r"16 of \d+ tensors, most slot (m|v):\S+; it is missing", told), told
    assert rows[f"after {STEPS} steps", "from trains"].verdict == "divergent"
    assert "state from trains" in reason


def test_steps_that_are_forgotten_are_seen_in_what_comes_after(runner, records):
    """The state that it shows is right in every bit; what it does with it is not."""
    reason = reason_of(runner, adapter="forgets_steps")
    rows = found(records)
    assert rows["state", "from trains"].verdict == "bitwise"
    after = rows[f"after {STEPS} steps", "from trains"]
    assert after.verdict == "divergent"
    assert "tensors, most parameter" in after.reason or "tensors, most slot" in after.reason
    assert f"after {STEPS} steps from trains" in reason


def test_an_own_format_that_loses_buffers_is_named(runner, records, monkeypatch):
    monkeypatch.setattr("harness.referee.ORACLE", ("loses_buffers",))
    reason = reason_of(runner, adapter="loses_buffers")
    rows = found(records)
    assert rows["state", "own format"].verdict == "divergent"
    assert rows["state", "own format"].reason == "4 tensors differ, first buffer:norm1/mean"
    assert "state own format" in reason
    # a safetensors file has all of it
    assert rows["state", "from loses_buffers"].verdict == "bitwise"


def test_where_nothing_departs_nothing_is_judged(runner, monkeypatch):
    monkeypatch.setattr("harness.referee.ORACLE", ("backend",))
    with pytest.raises(Ended) as caught:
        travel(runner, adapter="trains")
    assert caught.value.outcome.status == "unsupported"
    assert caught.value.outcome.reason == "no adapter that trains is installed"


def test_who_does_not_train_takes_no_training_over(runner, records):
    with pytest.raises(Ended) as caught:
        travel(runner, adapter="backend")
    assert caught.value.outcome.status == "unsupported"
    assert records.of(Outcome)[0].reason == "the toy backend runs inference only"


# -- what a recipe freezes -------------------------------------------------------------------------


def agreed(pool, module, tmp_path):
    """The tensors to be judged of a toy in this process."""
    case = dataclasses.replace(CASE, model="mlp", recipe="sgd_frozen")
    requests = Requests(f"tests.toys.{module}")
    requests.build(spec=pool.spec(case, Role(module, "judge")), inputs=str(pool.inputs(case)))
    requests.agree(steps=[1, 3], out=str(tmp_path / "tensors.npz"))
    return set(load_tensors(tmp_path / "tensors.npz"))


def test_what_is_frozen_has_no_gradient_and_no_update(pool, tmp_path):
    names = agreed(pool, "trains", tmp_path)
    rest = {"fc2/w", "fc2/b"}
    assert {n for n in names if n.startswith("gradient:")} == {f"gradient:{n}" for n in rest}
    assert {n for n in names if n.startswith("update@3:")} == {f"update@3:{n}" for n in rest}


def test_what_is_frozen_and_moves_is_a_failure(pool, tmp_path):
    with pytest.raises(RuntimeError, match=r"fc1/. is frozen by the recipe, but training changed"):
        agreed(pool, "moves_frozen", tmp_path)


def test_what_is_frozen_and_moves_is_the_failure_of_its_case(runner):
    case = dataclasses.replace(
        CASE, suite="conformance", adapter="moves_frozen", model="mlp", recipe="sgd_frozen"
    )
    with pytest.raises(Ended) as caught, runner.case(case, reproduce="x") as attempt:
        attempt.agree()
    assert caught.value.outcome.status == "failed"
    assert "is frozen by the recipe, but training changed it" in caught.value.outcome.reason
