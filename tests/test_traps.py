"""The traps are alive: the semantics that each is about give something else on its inputs, by far
more than any tolerance; and the checks of dropout find a dropout that is wrong."""

import dataclasses

import numpy as np
import pytest

from adapters import base
from adapters.defaults import Defaults
from adapters.numpy_optimizers import Optimizer
from adapters.numpy_reference import NumpyOps
from adapters.training import RECIPES
from harness.protocol import load_tensors, save_tensors
from harness.requests import Requests
from numerics import exact
from numerics.errors import normwise
from numerics.exercises import cotangents, expected
from suites.conformance.tables.trap_training import DROPOUT
from suites.conformance.traps import exercises, traps

#: The least difference that counts as visible: float32's tolerance is 1e-6, float64's 1e-10.
VISIBLE = 1e-4
TRAPS = {trap.number: trap for trap in traps()}


def first(number, **arguments):
    """The first exercise of a trap with other arguments."""
    exercise = TRAPS[number].exercises[0]
    call = dataclasses.replace(exercise.call, arguments={**exercise.call.arguments, **arguments})
    return shown(number, dataclasses.replace(exercise, call=call))


def shown(number, exercise, ops=None):
    return expected(exercise, ops)[TRAPS[number].shown]


def inputs(number, index=0):
    return TRAPS[number].exercises[index].inputs


# -- the other semantics ---------------------------------------------------------------------------


def biased_running_variance(number, momentum):
    t = inputs(number)
    return (1 - momentum) * t["var"] + momentum * t["x"].var(axis=(0, 1, 2))


def tanh_gelu():
    return NumpyOps().gelu_tanh(inputs(6)["x"])


def same_padding():
    return expected(TRAPS[7].exercises[1])["output"]


def flipped_kernel():
    t = inputs(8)
    return NumpyOps().conv_transpose2d(
        t["x"], t["w"][::-1, ::-1], stride=2, padding=1, output_padding=1
    )


def bicubic_three_quarters():
    """One axis at a time, with coefficient -3/4 and weights scaled at the border as pinned."""
    x, a = inputs(11)["x"], -0.75
    centre = (np.arange(8)[:, None] + 0.5) * 5 / 8 - 0.5
    d = np.abs(np.arange(5) - centre)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    weights = np.where(d < 1, near, np.where(d < 2, far, 0.0))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ih,jw,nhwc->nijc", weights, weights, x)


def nearest_floor():
    index = np.arange(3) * 5 // 3
    return inputs(12)["x"][:, index][:, :, index]


def embedding_gradient():
    exercise = TRAPS[29].exercises[0]
    return shown(29, dataclasses.replace(
        exercise, call=dataclasses.replace(exercise.call, arguments={})
    ))  # fmt: skip


def one_median():
    x = inputs(22)["x"]
    seeds = cotangents(TRAPS[22].exercises[0], {"output": np.median(x, axis=-1)})["output"]
    chosen = np.argmax(x == np.median(x, axis=-1)[:, None], axis=-1)
    return np.eye(5)[chosen] * seeds[:, None]


def last_of_tie():
    x = inputs(21)["x"][0, :, :, 0]
    seeds = cotangents(TRAPS[21].exercises[0], expected(TRAPS[21].exercises[0]))["output"]
    found = np.zeros((4, 4))
    for i in range(2):
        for j in range(2):
            patch = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel()
            last = 3 - int(np.argmax(patch[::-1]))
            found[2 * i + last // 2, 2 * j + last % 2] = seeds[0, i, j, 0]
    return found.reshape(1, 4, 4, 1)


def from_the_end():
    """A negative index counts from the end, and is clamped then."""
    indices = inputs(24)["indices"]
    return inputs(24)["x"][np.clip(np.where(indices < 0, indices + 4, indices), 0, 3)]


def wrapped_int8():
    return inputs(25)["x"].astype(np.int64).astype(np.int8)


def seeing_all():
    """The masked row attends to all keys equally."""
    t, found = inputs(28), TRAPS[28].question()[1].copy()
    found[:, 1] = t["v"].mean(axis=1)
    return found


def loss_over_n():
    t = inputs(30)
    own = t["weights"][t["labels"]]
    return TRAPS[30].question()[1] * own.sum() / len(own)


def loss_of_clipped():
    t = inputs(31)
    p = np.clip(1 / (1 + np.exp(-t["logits"])), 1e-7, 1 - 1e-7)
    return -np.mean(t["targets"] * np.log(p) + (1 - t["targets"]) * np.log(1 - p))


def other_gates(number, order):
    """A recurrence whose gates stand in another order."""
    exercise, parts = TRAPS[number].exercises[0], len(order)
    moved = dict(exercise.inputs)
    for name in ("w", "u", "b", "b_recurrent"):
        if name in moved:
            split = np.split(moved[name], parts, axis=-1)
            moved[name] = np.concatenate([split[i] for i in order], axis=-1)
    return shown(number, dataclasses.replace(exercise, inputs=moved))


def gru_reset_before():
    t = inputs(34)
    h, every = t["h"], []
    sigmoid = NumpyOps().sigmoid
    for step in range(3):
        a = np.split(t["x"][:, step] @ t["w"] + t["b"], 3, axis=-1)
        u, b = np.split(t["u"], 3, axis=-1), np.split(t["b_recurrent"], 3, axis=-1)
        r, z = (sigmoid(a[i] + h @ u[i] + b[i]) for i in range(2))
        h = (1 - z) * np.tanh(a[2] + (r * h) @ u[2] + b[2]) + z * h
        every.append(h)
    return np.stack(every, axis=1)


def bfloat16_product():
    """One by one, rounded to 8 bits each time."""
    total = 0.0
    for _ in range(4096):
        mantissa, exponent = np.frexp(total + 1.0)
        total = float(np.ldexp(np.rint(mantissa * 2**8), exponent - 8))
    return np.full((2, 2), total)


def tf32_matmul():
    t = inputs(46)
    mantissa, exponent = np.frexp(t["a"])
    return np.ldexp(np.rint(mantissa * 2**11), exponent - 11) @ t["b"]


def swapped_names():
    t = inputs(48)
    return np.tanh(t["x"] @ t["fc10"]) @ t["fc2"]


def nan_at_zero():
    return np.where(inputs(20)["x"] == 0, np.nan, 1.0)


def zero_edge(number, at_edge):
    """The gradient of an elementwise function that is `at_edge` at its kink."""
    found = TRAPS[number].question()[1].copy()
    exercise = TRAPS[number].exercises[0]
    seeds = cotangents(exercise, expected(exercise))["output"]
    x = inputs(number)["x" if "x" in inputs(number) else "a"]
    edge = np.abs(x) == (1.0 if number == 18 else 0.0)
    if number == 16:
        edge = inputs(16)["a"] == inputs(16)["b"]
    return np.where(edge, at_edge * seeds, found)


OTHERS = {
    1: [lambda: first(1, epsilon=1e-3)],
    2: [lambda: first(2, momentum=0.9), lambda: first(2, momentum=0.01)],
    3: [lambda: biased_running_variance(3, 0.1)],
    4: [lambda: biased_running_variance(4, 1.0)],
    5: [lambda: first(5, epsilon=1e-6), lambda: first(5, epsilon=1e-3)],
    6: [tanh_gelu],
    7: [same_padding],
    8: [flipped_kernel],
    9: [lambda: first(9, include_padding=False)],
    10: [lambda: first(10, antialias=True)],
    11: [bicubic_three_quarters],
    12: [nearest_floor],
    14: [lambda: first(14, slope=0.01), lambda: first(14, slope=0.2)],
    15: [lambda: np.zeros(8)],
    16: [lambda: zero_edge(16, 1.0)],
    17: [lambda: zero_edge(17, 1.0), lambda: zero_edge(17, 0.0)],
    18: [lambda: zero_edge(18, 0.5)],
    19: [lambda: zero_edge(19, 1.0)],
    20: [nan_at_zero],
    21: [last_of_tie],
    22: [one_median],
    23: [lambda: np.array([4, 4])],
    24: [from_the_end],
    25: [wrapped_int8],
    26: [lambda: np.trunc(inputs(26)["a"] / inputs(26)["b"])],
    27: [lambda: first(27, correction=1)],
    28: [seeing_all],
    29: [embedding_gradient],
    30: [loss_over_n],
    31: [loss_of_clipped],
    32: [lambda: first(32, smoothing=0.0)],
    33: [lambda: other_gates(33, (0, 2, 1, 3))],
    34: [lambda: other_gates(34, (1, 0, 2)), gru_reset_before],
    45: [lambda: np.float32(inputs(45)["x"]) - np.float32(1)],
    47: [bfloat16_product],
    48: [swapped_names],
    49: [lambda: 2 * TRAPS[49].question()[1]],  # half of it is optax's l2_loss
}
"""Number -> other semantics, which the exercises have to tell from what is pinned."""


@pytest.mark.parametrize(
    ("number", "other"), [(n, o) for n, others in OTHERS.items() for o in others]
)
def test_other_semantics_are_visible(number, other):
    trap = TRAPS[number]
    pinned = expected(trap.exercises[0])[trap.shown]
    with np.errstate(divide="ignore"):
        assert normwise(np.asarray(other()), pinned) > VISIBLE


def test_float32_is_visible_in_a_resize():
    """Its own size is that of float32's rounding, which is a thousand times fp64's tolerance."""
    pinned = expected(TRAPS[13].exercises[0])["output"]
    assert normwise(pinned.astype(np.float32), pinned) > 1e-8


def test_tf32_is_visible():
    """The products are exact: one wrong bit is found."""
    assert TRAPS[46].exercises[0].exact
    assert (tf32_matmul() != expected(TRAPS[46].exercises[0])["output"]).any()


# -- training --------------------------------------------------------------------------------------


def updates(step, *, steps=5):
    """The sum of updates p - lr * direction over the gradients that the traps use."""
    given = TRAPS[35].question()[0]
    p, state = given["p"].copy(), {}
    for t, g in enumerate(given["gradients"][:steps], 1):
        p = p - step(t, p, g, state)
    return p - given["p"]


def moments(state, g):
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g * g
    return state["m"], state["v"]


def adam_hat(t, p, g, state):
    m, v = moments(state, g)
    return 1e-3 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)


def adam_float32_powers(t, p, g, state):
    m, v = moments(state, g)
    beta2 = float(np.float32(0.999))
    return 1e-3 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)


def nesterov_adam(t, p, g, state):
    """optax: the momentum is constant."""
    m, v = moments(state, g)
    mean = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
    return 2e-3 * mean / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def rmsprop_in_root(t, p, g, state):
    state["v"] = 0.99 * state.get("v", 0.0) + 0.01 * g * g
    return 1e-3 * g / np.sqrt(state["v"] + 1e-8)


def clipped_with_epsilon(t, p, g, state):
    g = g * min(1.0, 0.5 / (np.linalg.norm(g) + 1e-6))
    state["m"] = 0.9 * state.get("m", 0.0) + g
    return 0.01 * state["m"]


def float32_rate(t, p, g, state):
    return float(np.float32(0.05)) * g


def recipe(name, **changes):
    def step(t, p, g, state):
        rule = dataclasses.replace(RECIPES[name], **changes)
        optimizer = state.setdefault("optimizer", Optimizer(rule))
        return -optimizer.update({"p": p}, {"p": g})["p"]

    return step


def amsgrad_of_corrected(t, p, g, state):
    """optax: the maximum is of what is corrected already."""
    m, v = moments(state, g)
    state["w"] = np.maximum(state.get("w", 0.0), v / (1 - 0.999**t))
    return 1e-3 * m / (1 - 0.9**t) / (np.sqrt(state["w"]) + 1e-8)


@pytest.mark.parametrize(
    ("name", "other", "visible"),
    [
        ("adam", adam_hat, VISIBLE),
        ("adamw", recipe("adamw", weight_decay=1e-4), VISIBLE),
        ("adamw", recipe("adamw", weight_decay=0.004), VISIBLE),
        ("nadam", nesterov_adam, VISIBLE),
        ("amsgrad", amsgrad_of_corrected, VISIBLE),
        ("rmsprop", rmsprop_in_root, VISIBLE),
        ("rmsprop", recipe("rmsprop", smoothing=0.9), VISIBLE),
        ("adagrad", recipe("adagrad", initial_accumulator=0.1), VISIBLE),
        ("adagrad", recipe("adagrad", initial_accumulator=0.0), VISIBLE),
        ("sgd_nesterov", recipe("sgd_nesterov", nesterov=False), VISIBLE),
        ("sgd_dampening", recipe("sgd_dampening", dampening=0.0), VISIBLE),
        # far above float64's 1e-10, in which these cases run
        ("adam", adam_float32_powers, 1e-7),
        ("sgd", float32_rate, 1e-9),
        ("sgd_momentum_clip", clipped_with_epsilon, 1e-7),
    ],
)
def test_another_optimizer_is_visible(name, other, visible):
    with np.errstate(invalid="ignore"):
        assert normwise(updates(other), updates(recipe(name))) > visible


def test_every_trap_has_other_semantics():
    without = {n for n in TRAPS if n not in OTHERS}
    assert without == {13, 44, 46, *range(35, 44)}  # these have tests of their own
    assert all(TRAPS[n].recipes for n in range(35, 44))


# -- dropout ---------------------------------------------------------------------------------------

X = inputs(44)["x"]


class Wrong(NumpyOps):
    def __init__(self, mask, scale=4.0):
        super().__init__()
        self._mask, self._scale = mask, scale

    def dropout(self, x, *, rate, seed):
        return np.where(self._mask(np.shape(x), seed) >= rate, x * self._scale, 0.0)


def uniform(shape, seed):
    return np.random.default_rng(seed).random(shape)


class Forgetful(Wrong):
    """Its gradient has another mask than its result."""

    def dropout(self, x, *, rate, seed):
        return super().dropout(x, rate=rate, seed=seed + 100 * np.iscomplexobj(x))


RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("check", "ops"),
    [
        ("scale", Wrong(uniform, scale=1.0)),
        ("one seed, one mask", Wrong(lambda shape, seed: RANDOM.random(shape))),
        ("gradient", Forgetful(uniform)),
        ("rate", Wrong(lambda shape, seed: uniform(shape, seed) * 0.95)),
        ("mean", Wrong(uniform, scale=5.0)),
        ("neighbours", Wrong(lambda shape, seed: np.repeat(uniform(shape[0] // 2, seed), 2))),
        ("another seed", Wrong(lambda shape, seed: uniform(shape, 0))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_dropout_is_found(check, ops):
    (exercise,) = (e for e in TRAPS[44].exercises if e.name == check)
    if check in ("gradient", "neighbours", "another seed", "one seed, one mask"):
        exercise = dataclasses.replace(exercise, inputs={"x": X[:512]})  # NumPy is slow here
    right = expected(exercise)["output"]
    assert not right.any() if right.dtype != bool else right.all()
    assert not np.array_equal(expected(exercise, ops)["output"], right)


def test_dropout_is_checked_in_all_these_ways():
    assert {e.name for e in TRAPS[44].exercises} == set(DROPOUT)


# -- parameters ------------------------------------------------------------------------------------

GIVEN = {"parameter:a": np.arange(3.0) / 3, "parameter:b": np.ones(3), "buffer:m": np.ones(1)}


def verdicts(found, precision="fp32"):
    return {r.tensor: (r.verdict, r.reason) for r in exact.judge(found, GIVEN, precision)}


def test_parameters_that_are_all_there():
    found = {name: value.astype(np.float32) for name, value in GIVEN.items()}
    assert set(verdicts(found).values()) == {("bitwise", "")}
    assert set(verdicts(GIVEN, "fp64").values()) == {("bitwise", "")}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parameter:a": GIVEN["parameter:b"], "parameter:b": GIVEN["parameter:a"]},
         {"a": "3 of 3 elements differ", "b": "3 of 3 elements differ"}),
        ({"parameter:a": np.nextafter(GIVEN["parameter:a"], 1)}, {"a": "3 of 3 elements differ"}),
        ({"parameter:a": np.float32(GIVEN["parameter:a"])},
         {"a": "it is float32(3,), but should be float64(3,)"}),
        ({"parameter:c": np.ones(1)}, {"c": "nobody gave it"}),
    ],
)  # fmt: skip
def test_parameters_that_are_not_those_given(changes, told):
    found = verdicts({**GIVEN, **changes}, "fp64")
    assert {n: reason for n, (verdict, reason) in found.items() if verdict != "bitwise"} == told


def test_a_parameter_that_is_missing():
    found = verdicts({n: v for n, v in GIVEN.items() if n != "parameter:b"}, "fp64")
    assert found["b"] == ("divergent", "it is missing")


# -- defaults --------------------------------------------------------------------------------------


class Own(base.Adapter):
    def default(self, trap, inputs):
        if trap == 2:
            raise ValueError("index 9 is out of bounds")
        table = Defaults()
        table.of(1)(lambda given: (given["x"] + 1, "one more"))
        return table.ask(trap, inputs)


class Heir(Own):
    pass


@pytest.mark.parametrize(
    ("adapter", "trap", "answer"),
    [
        (Own, 1, {"shared": False, "told": "one more"}),
        (Own, 2, {"shared": False, "problem": "raises ValueError: index 9 is out of bounds"}),
        (Own, 3, {"shared": False, "problem": "the framework has nothing of the kind"}),
        (Heir, 1, {"shared": True}),
        (base.Adapter, 1,
         {"shared": False, "problem": "this adapter has no default for trap 1"}),
    ],
)  # fmt: skip
def test_what_a_default_answers(adapter, trap, answer, tmp_path):
    asked = Requests.__new__(Requests)
    asked.adapter = adapter()
    given, out = tmp_path / "given.npz", tmp_path / "out.npz"
    save_tensors(given, {"x": np.ones(2)})
    assert asked.default(trap=trap, inputs=str(given), out=str(out)) == answer
    assert out.exists() == ("told" in answer)
    if out.exists():
        assert np.array_equal(load_tensors(out)["default"], [2.0, 2.0])


# -- the table -------------------------------------------------------------------------------------


def test_the_table_is_complete_and_in_order():
    assert [trap.number for trap in traps()] == list(range(1, 50))
    assert len({trap.slug for trap in traps()}) == 49
    for trap in traps():
        assert trap.title
        assert trap.pinned
        assert trap.exercises or trap.recipes
        assert all(name in RECIPES for name in trap.recipes)


def test_every_exercise_counts_for_its_trap():
    assert {e.subject for e in exercises()} == {t.subject for t in traps() if t.exercises}


@pytest.mark.parametrize("trap", traps(), ids=lambda trap: trap.subject)
def test_every_trap_has_a_question(trap):
    given, pinned = trap.question()
    assert np.isfinite(pinned).all()
    kinds = {value.dtype.name for value in given.values() if value.dtype.kind == "f"}
    if not trap.numbers:
        alone = trap.precision == "fp64" and not trap.single
        assert kinds <= {"float64" if alone else "float32"}
        if "cotangent" in given:
            assert trap.shown.startswith("gradient:")
