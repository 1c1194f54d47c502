"""Planted faults change what they say and nothing else, in NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from adapters import faults
from adapters import faulty_programs as programs
from adapters import model as models
from adapters.base import Spec, State
from adapters.faults import CONTROLS, FAULTS, FaultyOps, rounded
from adapters.numpy_reference import NumpyOps
from adapters.ops import FORMS, NAMES
from adapters.quantization import Layer, Numbers
from adapters.training import RECIPES
from numerics import examination
from numerics.exercises import expected
from suites.conformance import operations, sizes

OPS = NumpyOps()
RNG = np.random.default_rng(0)
IN_OPS = [f for f in FAULTS.values() if f.where == "op" and not f.suite]
TABLES = {"operations": operations.exercises, "sizes": sizes.exercises}
IN_EXERCISES = [f for f in FAULTS.values() if f.suite in TABLES]
X = np.ones((2, 2))
IN_GRADIENTS = {name for name in FAULTS if "gradient" in name or "unlearned" in name}


def by_name(found):
    return [pytest.param(fault, id=fault.name) for fault in found]


def inputs(fault):
    model = models.get(fault.model)
    config = model.sizes["tiny"]
    params, buffers = model.initial(config, np.random.default_rng(0))
    return model, params, buffers, model.example(config, model.batch["tiny"])


class Recorder:
    """Answers every operation with its name and arguments."""

    def __getattr__(self, name):
        return lambda *arguments, **keywords: (name, arguments, keywords)


# -- operations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", by_name(IN_OPS))
def test_other_operations_are_forwarded_as_they_are(fault):
    faulty = FaultyOps(Recorder(), fault.change, "float64")
    assert set(fault.change) <= set(NAMES + FORMS)
    for name in set(NAMES + FORMS) - set(fault.change):
        assert getattr(faulty, name)(1, b=2) == (name, (1,), {"b": 2})


@pytest.mark.parametrize("fault", by_name(IN_OPS))
def test_a_fault_in_an_operation_moves_what_the_model_computes(fault):
    model, params, buffers, batch = inputs(fault)
    train = fault.mode == "train"

    def run(ops):
        output, new = model.forward(
            ops, {**params, **buffers}, batch["x"], config=model.sizes["tiny"], train=train
        )
        return [output, ops.cross_entropy(output, batch["y"]), *new.values()]

    sound, found = run(OPS), run(faults.in_ops(OPS, fault.name, "float64"))
    assert [a.shape for a in found] == [a.shape for a in sound]
    moved = any(np.abs(a - b).max() > 1e-10 for a, b in zip(found, sound, strict=True))
    assert moved == (fault.name not in IN_GRADIENTS)


def test_what_is_taken_apart_is_the_same_where_nothing_is_changed():
    x, scale, offset = RNG.normal(size=(3, 5, 8)), RNG.normal(size=8), RNG.normal(size=8)
    op = faults._layer_norm()["layer_norm"]
    wanted = OPS.layer_norm(x, scale, offset, epsilon=1e-3)
    np.testing.assert_allclose(op(OPS, "float64", x, scale, offset, epsilon=1e-3), wanted)
    q, k, v = RNG.normal(size=(3, 2, 5, 2, 4))
    op = faults._attention()["attention"]
    np.testing.assert_allclose(op(OPS, "float64", q, k, v), OPS.attention(q, k, v))
    running = (np.zeros(8), np.ones(8))
    keywords = {"train": True, "momentum": 0.1, "epsilon": 1e-3}
    op = faults._batch_norm_taken_apart()["batch_norm"]
    found = op(OPS, "float64", x, scale, offset, *running, **keywords)
    for a, b in zip(found, OPS.batch_norm(x, scale, offset, *running, **keywords), strict=True):
        np.testing.assert_allclose(a, b)


def test_rounding_is_that_of_the_format():
    x = RNG.normal(size=1000)
    found = rounded(OPS, x, bits=24, dtype="float64")
    np.testing.assert_array_equal(found, x.astype(np.float32))
    found = rounded(OPS, x, bits=11, dtype="float64")
    normal = np.abs(x) > 2.0**-14  # of float16
    np.testing.assert_array_equal(found[normal], x[normal].astype(np.float16))


def test_a_biased_running_variance_is_that_of_n():
    x, ones = RNG.normal(size=(6, 3)), np.ones(3)
    op = FAULTS["batch_norm_running_biased"].change["batch_norm"]
    found = op(OPS, "float64", x, ones, ones, ones, ones, train=True, momentum=0.1, epsilon=1e-3)
    np.testing.assert_allclose(found[2], 0.9 + 0.1 * x.var(axis=0))


# -- what exercises show ---------------------------------------------------------------------------


def moved_in(fault, name):
    """Whether the outputs of an exercise of a fault's subject are judged divergent with it."""
    (exercise,) = (e for e in TABLES[fault.suite]() if (e.subject, e.name) == (fault.model, name))
    exercise = replace(exercise, by=())  # the complex step along every element takes long
    own = expected(exercise, faults.in_ops(OPS, fault.name, "float64"))
    rows = examination.results(exercise, own, expected(exercise), {}, "fp64")
    return any(row.verdict == "divergent" for row in rows)


@pytest.mark.parametrize("fault", by_name(IN_EXERCISES))
def test_what_only_an_exercise_shows_is_caught_by_that_exercise(fault):
    assert moved_in(fault, fault.exercise)
    if fault.suite == "operations" and "float32" not in fault.name:
        assert not moved_in(fault, "usual")


def test_a_view_that_is_read_densely_is_wrong_and_a_dense_tensor_is_not():
    x = np.array([1.0, np.nan, 2.0, np.nan])
    ops = faults.in_ops(OPS, "gapped_view", "float64")
    seen = ops.reshape(ops.slice(ops.reshape(x, (2, 2)), axis=1, start=0, stop=1), (2,))
    np.testing.assert_array_equal(ops.exp(seen), np.exp([1.0, np.nan]))
    np.testing.assert_array_equal(ops.exp(seen.copy()), np.exp([1.0, 2.0]))
    wide = ops.broadcast_to(np.array([3.0]), (2,))
    np.testing.assert_array_equal(ops.exp(wide), np.exp([3.0, 0.0]))  # zeros lie behind its end


# -- programs that suites show ---------------------------------------------------------------------


class Optimizer:
    """A program that keeps as momentum how often it stepped since that was last taken away."""

    def load(self, *state):
        self.kept = State({}, {}, slots={"m": {"w": np.zeros(())}})

    def put(self, batch):
        return batch

    def step(self, batch):
        (kept,) = self.kept.slots["m"].values()
        self.resume(State({}, {}, slots={"m": {"w": kept + 1}}))
        return np.float32(1.0)

    def state(self):
        return self.kept

    def resume(self, state):
        self.kept = state

    def fetch(self, value):
        return value


def test_momentum_is_lost_after_step_100_and_kept_before():
    program = faults.in_program(Optimizer(), "momentum_lost")
    for _ in range(2):
        program.load({}, {})
        kept = []
        for _ in range(102):
            program.step(program.put({}))
            kept.append(int(program.state().slots["m"]["w"]))
        assert kept == [*range(1, 101), 1, 1]


def test_the_first_losses_are_told_wrong_after_every_start():
    program = faults.in_program(Optimizer(), "first_losses")
    for _ in range(2):
        program.load({}, {})
        told = [float(program.fetch(program.step(program.put({})))) for _ in range(4)]
        assert told == pytest.approx([1.01, 1.01, 1.01, 1.0])


def test_one_channel_of_the_first_layer_is_off():
    numbers = Numbers(np.ones(()), np.zeros((), np.int64), -127, 127)
    layers = [Layer(n, "dense", X, X, np.ones((2, 3)), numbers) for n in ("fc1/w", "fc2/w")]

    class Quantized(Optimizer):
        def layers(self, batch):
            return layers

    program = programs.ChannelScaled(Quantized())
    first, second = program.layers(program.put({}))
    np.testing.assert_array_equal(first.y, [[1.01, 1, 1]] * 2)
    np.testing.assert_array_equal(second.y, np.ones((2, 3)))
    np.testing.assert_array_equal(layers[0].y, np.ones((2, 3)))


# -- recipes, weights, data ------------------------------------------------------------------------


@pytest.mark.parametrize("fault", by_name(f for f in FAULTS.values() if f.where == "recipe"))
def test_a_fault_in_a_recipe_is_another_recipe(fault):
    sound = RECIPES[fault.recipe]
    assert faults.in_recipe(sound, fault.name) != sound
    spec = Spec("mlp", "tiny", "train", "cpu", "fp64", fault.recipe, 1, fault=fault.name)
    assert spec.training == faults.in_recipe(sound, fault.name)


def test_a_late_schedule_is_one_step_behind():
    recipe = RECIPES["sgd_warmup_cosine"]
    late = faults.in_recipe(recipe, "schedule_late")
    assert not late.schedule.is_constant
    assert [late.rate(t) for t in (2, 3, 9)] == [recipe.rate(t) for t in (1, 2, 8)]


@pytest.mark.parametrize("fault", by_name(f for f in FAULTS.values() if f.where == "weights"))
def test_a_fault_in_loading_changes_the_tensors_that_it_names(fault):
    _, params, buffers, _ = inputs(fault)
    changed = 0
    for tensors in (params, buffers):
        found = faults.in_weights(tensors, fault.name)
        assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in tensors.items()}
        changed += sum(not np.array_equal(found[name], tensors[name]) for name in tensors)
    assert changed == (2 if "swapped" in fault.name else 1)


@pytest.mark.parametrize("fault", by_name(f for f in FAULTS.values() if f.where == "data"))
def test_a_fault_in_data_changes_the_batch(fault):
    _, _, _, batch = inputs(fault)
    found = faults.in_batch(batch, fault.name, "float64")
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in batch.items()}
    changed = [name for name in batch if not np.array_equal(found[name], batch[name])]
    assert changed == [name for name in batch if (name == "x") == fault.infer]


def test_a_fault_acts_in_its_own_place_only():
    recipe, batch = RECIPES["adamw"], {"x": np.ones((2, 3)), "y": np.ones(2)}
    assert faults.in_ops(OPS, "weight_scaled", "float64") is OPS
    assert faults.in_ops(OPS, "", "float64") is OPS
    assert faults.in_ops(OPS, "two_threads_gelu", "float64") is OPS
    assert faults.in_ops(OPS, "two_threads_gelu", "float64", threads=2) is not OPS
    assert faults.in_recipe(recipe, "gelu_tanh") is recipe
    assert faults.in_weights(batch, "gelu_tanh") == batch
    assert faults.in_batch(batch, "gelu_tanh", "float64") == batch
    with pytest.raises(KeyError):
        faults.find("no_such_fault")


def test_there_are_faults_of_every_kind_and_for_every_model():
    assert {fault.where for fault in FAULTS.values()} == {
        "op", "recipe", "threads", "program", "weights", "data"
    }  # fmt: skip
    assert {fault.model for fault in FAULTS.values()} >= {"mlp", "convnet", "vit"}
    assert {fault.suite for fault in FAULTS.values()} == {
        "", "operations", "sizes", "threads", "conformance", "convergence", "quantization"
    }  # fmt: skip
    assert len(FAULTS) > 69  # as many as in the experiment of docs/numerics.md


# -- what is no fault ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_unit_in_the_last_place(dtype):
    _, _, _, batch = inputs(FAULTS["data_scale"])
    moved = faults.in_batch(batch, "inputs_one_ulp", dtype)["x"]
    before = batch["x"].astype(dtype)
    assert moved.dtype == dtype
    steps = np.abs(moved - before) / np.spacing(np.minimum(np.abs(moved), np.abs(before)))
    np.testing.assert_array_equal(steps, 1)


def test_a_permuted_batch_has_the_same_examples_in_another_order():
    _, _, _, batch = inputs(CONTROLS["batch_permuted"])
    found = faults.in_batch(batch, "batch_permuted", "float64")
    order = faults.permutation(len(batch["y"]))
    assert not np.array_equal(order, np.arange(len(order)))
    np.testing.assert_array_equal(found["x"][np.argsort(order)], batch["x"])
    np.testing.assert_array_equal(found["y"][np.argsort(order)], batch["y"])
