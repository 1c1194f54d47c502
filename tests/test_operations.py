"""The table of operations' exercises, and the NumPy reference that it is judged by."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import ops
from adapters.exercise import Call
from adapters.noise import Noise, NoisyOps
from adapters.numpy_reference import NumpyOps
from numerics.errors import normwise
from numerics.exercises import PRECISIONS, Exercise, cotangents, expected
from suites.conformance.operations import BITS, exercises, holds
from suites.conformance.tables import far

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinities are meant
REFERENCE = NumpyOps()
EXAMINED = set(ops.NAMES) - {"shape", "dtype_of", "dropout"}  # chance is judged by statistics
ACCUMULATED = "accumulated in float32"  # exact where sums are, whatever the precision of results
FAR = {exercise.key for exercise in far.exercises()}
INFINITE = "cast/above the largest, float16"
#: What has no exercise of that name, because the operation has no such thing.
WITHOUT = {
    "integers": EXAMINED - ops.LINEAR - ops.EXACT - {"mean", "avg_pool2d", "mse"},
    "non-contiguous": {"constant"},
    "odd sizes": {"constant"},
    "size one": {"constant"},
    "empty": {"constant", "flatten", "cross_entropy", "bce_with_logits", "mse", "smooth_l1"},
    "large reduction": EXAMINED
    - set("matmul dense conv2d conv_transpose2d conv3d conv_transpose3d attention lstm gru".split())
    - set("sum mean variance top_k take gather".split())
    - set("max median norm softmax avg_pool2d rms_norm group_norm layer_norm batch_norm".split())
    - set("cross_entropy bce_with_logits mse smooth_l1 resize max_pool2d argmax".split()),
    "ties": EXAMINED
    - set("maximum minimum greater clip absolute relu leaky_relu max argmax top_k".split())
    - set("median max_pool2d".split()),
}


def of(subject):
    return [e for e in exercises() if e.subject == subject]


def spoilt(exercise):
    return any(x.dtype.kind == "f" and not np.isfinite(x).all() for x in exercise.inputs.values())


# -- the table -----------------------------------------------------------------------------------


def test_every_operation_is_examined():
    assert {e.subject for e in exercises()} == EXAMINED
    keys = [e.key for e in exercises()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("kind", WITHOUT)
def test_every_operation_has_the_exercises_that_it_should(kind):
    have = {e.subject for e in exercises() if kind in e.name}
    assert EXAMINED - WITHOUT[kind] - have == set()


def test_every_argument_of_every_operation_varies():
    for subject in sorted(EXAMINED):
        function = getattr(ops.Ops, subject)
        for name, default in (function.__kwdefaults__ or {}).items():
            given = [e for e in of(subject) if name in e.call.arguments or name in e.inputs]
            values = [e.call.arguments.get(name) for e in given if name not in e.inputs]
            assert given, f"no exercise of {subject} gives {name}"
            assert not values or any(v != default for v in values), f"{subject}: {name}"


def test_non_contiguous_exercises_hand_over_views():
    for exercise in exercises():
        if exercise.name.startswith("non-contiguous") and exercise.subject != "concat":
            assert exercise.call.views, exercise.key


def test_references_are_finite_unless_the_inputs_are_not():
    for exercise in exercises():
        results = expected(exercise)
        assert set(exercise.by) == {n[9:] for n in results if n.startswith("gradient:")}
        for name, value in results.items():
            usable = value.dtype.kind != "f" or np.isfinite(value).all()
            assert usable or spoilt(exercise) or exercise.key == INFINITE, f"{exercise.key}: {name}"


def test_exact_exercises_are_exact_in_every_precision_that_they_claim():
    for exercise in exercises():
        if exercise.exact and exercise.subject != "floor_divide":
            fewest = min(BITS[precision] for precision in exercise.precisions)
            if exercise.name == ACCUMULATED:
                assert not holds(exercise, fewest)
                fewest = BITS["fp32"]
            assert holds(exercise, fewest), f"{exercise.key} in {fewest} bits"


def test_the_check_of_exact_exercises_can_fail():
    x = np.full((1, 512), 1.0)
    x[0, ::2] = -1.0  # it sums to 0, but half of it does not fit
    long = Exercise("sum", "long", Call("sum", {"axis": 1}), {"x": x}, by=("x",), exact=True)
    assert not holds(long, 8)
    assert holds(long, 11)
    third = replace(long, subject="mean", name="third", call=Call("mean", {"axis": 1}),
                    inputs={"x": np.array([[1.0, 0.0, 0.0]])})  # fmt: skip
    assert not holds(third, 24)


def test_inputs_fit_float16_where_it_runs():
    for exercise in exercises():
        if "fp16" in exercise.precisions:
            for name, value in exercise.at("fp16").inputs.items():
                if value.dtype.kind == "f":
                    half = value.astype(np.float16).astype(np.float64)
                    assert np.array_equal(half, value, equal_nan=True), f"{exercise.key}: {name}"


# -- the reference -------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", sorted(EXAMINED - {"cast"}))  # its gradient ignores rounding
def test_gradients_are_central_differences(subject):
    """Of the usual exercise, which is away from kinks, without any complex number."""
    for exercise in [e for e in of(subject) if "usual" in e.name and e.by][-1:]:
        results = expected(exercise)
        seeds = cotangents(exercise, {n: v for n, v in results.items() if ":" not in n})
        for name in exercise.by:
            slopes = _central(exercise, name, seeds)
            assert normwise(slopes, results[f"gradient:{name}"]) < 1e-7, f"{exercise.key}: {name}"


def _central(exercise, name, seeds):
    def total(x):
        outputs = exercise.call(REFERENCE, {**exercise.inputs, name: x})
        return sum(np.sum(outputs[n] * seed) for n, seed in seeds.items())

    x, step = exercise.inputs[name], 1e-5
    steps = step * np.eye(x.size).reshape(x.size, *x.shape)
    return np.array([total(x + s) - total(x - s) for s in steps]).reshape(x.shape) / (2 * step)


def test_noise_is_small_and_spares_what_moves_values():
    """Over all exercises at once, so that every operation is tried in every form."""
    for exercise in exercises():
        if spoilt(exercise) or exercise.key in FAR:  # where noise is amplified, as it should be
            continue
        noisy = NoisyOps(REFERENCE, Noise(bits=30, seed=0))
        exact = exercise.call(REFERENCE, exercise.handed)
        found = exercise.call(noisy, exercise.handed)
        for name, value in exact.items():
            if exercise.subject in ops.EXACT - {"constant"}:
                np.testing.assert_array_equal(found[name], value, err_msg=exercise.key)
            else:
                error = np.linalg.norm(np.ravel(found[name] - value))
                assert error < 2.0**-17 * max(1.0, np.linalg.norm(np.ravel(value))), exercise.key


@given(n=st.integers(1, 4), kernel=st.integers(1, 4), stride=st.integers(1, 3), data=st.data())
@settings(max_examples=40, deadline=None)
def test_conv_transpose2d_is_the_adjoint_of_conv2d(n, kernel, stride, data):
    """<conv(x), y> = <x, transposed(y)>, with the kernel's channels exchanged."""
    padding = data.draw(st.integers(0, (kernel - 1) // 2))
    rest = data.draw(st.integers(0, stride - 1))
    size = (n - 1) * stride - 2 * padding + kernel + rest
    rng = np.random.default_rng(n)
    x, w = rng.normal(size=(2, size, size, 3)), rng.normal(size=(kernel, kernel, 3, 2))
    y = rng.normal(size=(2, n, n, 2))
    there = REFERENCE.conv2d(x, w, stride=stride, padding=padding)
    back = REFERENCE.conv_transpose2d(
        y, w.swapaxes(2, 3), stride=stride, padding=padding, output_padding=rest
    )
    assert back.shape == x.shape
    assert np.sum(there * y) == pytest.approx(np.sum(x * back))


@given(n=st.integers(1, 3), kernel=st.integers(1, 3), stride=st.integers(1, 3), data=st.data())
@settings(max_examples=20, deadline=None)
def test_conv_transpose3d_is_the_adjoint_of_conv3d(n, kernel, stride, data):
    padding = data.draw(st.integers(0, (kernel - 1) // 2))
    rest = data.draw(st.integers(0, stride - 1))
    size = (n - 1) * stride - 2 * padding + kernel + rest
    rng = np.random.default_rng(n)
    x, w = rng.normal(size=(2, *[size] * 3, 2)), rng.normal(size=(*[kernel] * 3, 2, 3))
    y = rng.normal(size=(2, n, n, n, 3))
    there = REFERENCE.conv3d(x, w, stride=stride, padding=padding)
    back = REFERENCE.conv_transpose3d(
        y, w.swapaxes(3, 4), stride=stride, padding=padding, output_padding=rest
    )
    assert back.shape == x.shape
    assert np.sum(there * y) == pytest.approx(np.sum(x * back))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_groups_are_convolutions_side_by_side(groups, inputs, outputs):
    rng = np.random.default_rng(groups)
    x = rng.normal(size=(1, 5, 5, groups * inputs))
    w = rng.normal(size=(3, 3, inputs, groups * outputs))
    each = [
        REFERENCE.conv2d(
            x[..., g * inputs : (g + 1) * inputs], w[..., g * outputs : (g + 1) * outputs]
        )
        for g in range(groups)
    ]
    whole = REFERENCE.conv2d(x, w, groups=groups)
    np.testing.assert_allclose(whole, np.concatenate(each, axis=-1), atol=1e-12)


def test_dilation_is_a_kernel_with_zeros_between():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 8, 9, 2)), rng.normal(size=(3, 2, 2, 3))
    spread = np.zeros((5, 3, 2, 3))
    spread[::2, ::2] = w
    np.testing.assert_allclose(
        REFERENCE.conv2d(x, w, dilation=2, stride=2), REFERENCE.conv2d(x, spread, stride=2),
        atol=1e-12,
    )  # fmt: skip


def test_conv3d_of_one_slice_is_conv2d():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 5, 6, 3)), rng.normal(size=(3, 2, 3, 4)), rng.normal(size=4)
    flat = REFERENCE.conv2d(x, w, b, stride=2)
    np.testing.assert_allclose(
        REFERENCE.conv3d(x[:, None], w[None], b, stride=2)[:, 0], flat, atol=1e-12
    )


def test_conv3d_along_each_axis_its_own():
    """A kernel of one voxel picks: strides and paddings show one by one."""
    x, w = np.arange(60.0).reshape(1, 3, 4, 5, 1), np.ones((1, 1, 1, 1, 1))
    whole = np.pad(x, [(0, 0), (1, 1), (0, 0), (2, 2), (0, 0)])
    picked = REFERENCE.conv3d(x, w, stride=(2, 1, 3), padding=(1, 0, 2))
    np.testing.assert_array_equal(picked, whole[:, ::2, :, ::3])


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_lstm_and_gru_unit_by_unit(length, inputs, hidden):
    rng = np.random.default_rng(length)
    x, h, c = rng.normal(size=(1, length, inputs)), rng.normal(size=(1, hidden)), 0.5
    w, u = rng.normal(size=(inputs, 4 * hidden)), rng.normal(size=(hidden, 4 * hidden))
    b, recurrent = rng.normal(size=(2, 4 * hidden))

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def pre(state, t, gate, unit):  # the two products of one gate of one unit
        column = gate * hidden + unit
        return x[0, t] @ w[:, column] + b[column], state @ u[:, column]

    state, cell = h[0], np.full(hidden, c)
    for t in range(length):
        i, f, g, o = (np.array([sum(pre(state, t, k, n)) for n in range(hidden)]) for k in range(4))
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
    every, last, memory = REFERENCE.lstm(x, h, np.full((1, hidden), c), w, u, b)
    np.testing.assert_allclose(last[0], state, atol=1e-12)
    np.testing.assert_allclose(memory[0], cell, atol=1e-12)
    np.testing.assert_array_equal(every[:, -1], last)

    state, s = h[0], recurrent
    for t in range(length):
        new = np.zeros(hidden)
        for n in range(hidden):
            (a_r, s_r), (a_z, s_z), (a_n, s_n) = (pre(state, t, k, n) for k in range(3))
            r, z = sigmoid(a_r + s_r + s[n]), sigmoid(a_z + s_z + s[hidden + n])
            new[n] = (1 - z) * np.tanh(a_n + r * (s_n + s[2 * hidden + n])) + z * state[n]
        state = new
    part = slice(0, 3 * hidden)
    every, last = REFERENCE.gru(x, h, w[:, part], u[:, part], b[part], s[part])
    np.testing.assert_allclose(last[0], state, atol=1e-12)
    np.testing.assert_array_equal(every[:, -1], last)


def test_losses_against_plain_formulas():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 4)), np.array([2, -100, 3, 0, 1])
    weights, smoothing = np.array([0.5, 1.0, 2.0, 0.25]), 0.25
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    total = divisor = 0.0
    for row, label in zip(log_p, labels, strict=True):
        if label != -100:
            total -= (1 - smoothing) * weights[label] * row[label]
            total -= smoothing / 4 * np.sum(weights * row)
            divisor += weights[label]
    loss = REFERENCE.cross_entropy(
        logits, labels, weights=weights, smoothing=smoothing, ignore=-100
    )
    assert loss == pytest.approx(total / divisor)

    x, t = rng.normal(size=7), rng.random(7)
    p = 1 / (1 + np.exp(-x))
    plain = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    assert REFERENCE.bce_with_logits(x, t) == pytest.approx(plain)


def test_normalisations_leave_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(2, 4, 5, 6))
    y = REFERENCE.group_norm(x, np.ones(6), np.zeros(6), groups=3, epsilon=0.0)
    for n in range(2):
        for g in range(3):
            group = y[n, :, :, 2 * g : 2 * g + 2]
            assert group.mean() == pytest.approx(0, abs=1e-12)
            assert group.var() == pytest.approx(1)
    y = REFERENCE.rms_norm(x, np.ones(6), epsilon=0.0)
    np.testing.assert_allclose((y * y).mean(axis=-1), 1.0)


def test_average_pool_counts_padding_or_not():
    x = np.ones((1, 2, 2, 1))
    options = {"window": 2, "stride": 1, "padding": 1}
    counted = REFERENCE.avg_pool2d(x, **options)[0, :, :, 0]
    np.testing.assert_array_equal(counted, [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    without = REFERENCE.avg_pool2d(x, include_padding=False, **options)
    np.testing.assert_array_equal(without, np.ones((1, 3, 3, 1)))


def test_padding_never_wins_a_maximum():
    x = -np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    found = REFERENCE.max_pool2d(x, window=3, stride=2, padding=1)[0, :, :, 0]
    np.testing.assert_array_equal(found, [[-1.0, -2.0], [-4.0, -5.0]])
    (slope,) = REFERENCE.gradient(
        lambda x: np.sum(REFERENCE.max_pool2d(x, window=3, stride=2, padding=1)),
        np.full_like(x, -1),
    )  # the first of those that tie is in the image
    np.testing.assert_array_equal(slope[0, :, :, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=8), st.data())
def test_top_k_is_python_s_sorting(values, data):
    k = data.draw(st.integers(1, len(values)))
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    found, indices = REFERENCE.top_k(np.array([values], np.float64), k)
    assert indices.tolist() == [order]
    assert found.tolist() == [[values[i] for i in order]]


def test_minimum_shares_the_gradient_of_a_tie():
    def total(a, b):
        return np.sum(REFERENCE.minimum(a, b))

    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 1.0])
    np.testing.assert_array_equal(REFERENCE.gradient(total, a, b), [[1, 0.5, 0], [0, 0.5, 1]])


def test_gather_looks_up_every_example_by_its_own_indices():
    x, indices = np.arange(12).reshape(2, 3, 2), np.array([[2, 0], [1, 1]])
    expected_rows = [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
    np.testing.assert_array_equal(REFERENCE.gather(x, indices), expected_rows)


def test_one_hot_of_what_is_out_of_range_is_zeros():
    found = REFERENCE.one_hot(np.array([1, -1, 3]), 3)
    np.testing.assert_array_equal(found, [[0, 1, 0], [0, 0, 0], [0, 0, 0]])


def test_dropout_keeps_the_mean():
    x = np.ones(10_000)
    y = REFERENCE.dropout(x, rate=0.25, seed=3)
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert y.mean() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(y, REFERENCE.dropout(x, rate=0.25, seed=3))


def test_precisions_are_those_with_known_bits():
    assert set(BITS) == set(PRECISIONS)
