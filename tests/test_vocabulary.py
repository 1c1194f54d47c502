"""The specification, its NumPy reference, the counting and the noisy implementation."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import signal, special, stats

from adapters import model as models
from adapters import ops, trees
from adapters.counting import CountingOps, Shaped, count
from adapters.noise import Noise, NoisyOps
from adapters.numpy_reference import NumpyOps
from adapters.resizing import matrix

REFERENCE = NumpyOps()
finite = st.floats(-10, 10)


def arrays(*shape):
    return hnp.arrays(np.float64, shape, elements=finite)


# -- the specification checks implementations ---------------------------------------------------


def test_complete_implementations_lack_nothing():
    assert ops.missing(NumpyOps) == []
    assert ops.misshapen(NumpyOps) == []
    assert ops.missing(NoisyOps) == []
    assert set(ops.missing(CountingOps)) <= set(ops.FORMS)  # it knows shapes, no values
    assert ops.misshapen(CountingOps) == []


def test_a_missing_and_a_misshapen_operation_are_named():
    class Partial(ops.Ops):
        def relu(self, x, slope):
            return x

    assert "relu" not in ops.missing(Partial)
    assert "gelu" in ops.missing(Partial)
    expected = "relu(self, x, slope), but should be relu(self, x)"
    assert [line for line in ops.misshapen(Partial) if line.startswith("relu")] == [expected]


def test_a_missing_operation_is_unsupported_by_name():
    with pytest.raises(ops.Unsupported, match="Ops has no op 'gelu'"):
        ops.Ops().gelu(np.zeros(3))


def test_every_operation_is_specified():
    for name in ops.NAMES + ops.FORMS:
        assert inspect.getdoc(getattr(ops.Ops, name)), f"{name} has no docstring"
    assert set(ops.NAMES) >= ops.EXACT
    assert set(ops.NAMES) >= ops.DERIVED


# -- the reference against independent formulas -------------------------------------------------


@given(arrays(2, 6, 5, 3), arrays(3, 2, 3, 4), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_conv2d_is_cross_correlation(x, w, stride, padding):
    y = REFERENCE.conv2d(x, w, stride=stride, padding=padding)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    for n in range(2):
        for o in range(4):
            full = sum(
                signal.correlate(padded[n, :, :, c], w[:, :, c, o], mode="valid") for c in range(3)
            )
            np.testing.assert_allclose(y[n, :, :, o], full[::stride, ::stride], atol=1e-9)


@given(arrays(7))
def test_gelu_is_x_times_the_normal_distribution_function(x):
    np.testing.assert_allclose(REFERENCE.gelu(x), x * stats.norm.cdf(x), atol=1e-14)


@given(arrays(3, 5))
def test_softmax_is_scipy_s(x):
    np.testing.assert_allclose(REFERENCE.softmax(x), special.softmax(x, axis=-1), atol=1e-14)


@given(arrays(4, 6), st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_cross_entropy_is_the_mean_negative_log_probability(logits, labels):
    wanted = -np.mean(special.log_softmax(logits, axis=-1)[range(4), labels])
    np.testing.assert_allclose(REFERENCE.cross_entropy(logits, np.array(labels)), wanted)


@given(arrays(2, 5, 2, 3), arrays(2, 5, 2, 3), arrays(2, 5, 2, 3))
@settings(deadline=None)
def test_attention_of_each_head_and_position(q, k, v):
    y = REFERENCE.attention(q, k, v)
    for n in range(2):
        for h in range(2):
            weights = special.softmax(q[n, :, h] @ k[n, :, h].T / np.sqrt(3), axis=-1)
            np.testing.assert_allclose(y[n, :, h], weights @ v[n, :, h], atol=1e-9)


def test_max_pool_drops_what_does_not_fill_a_window():
    x = np.arange(25.0).reshape(1, 5, 5, 1)
    y = REFERENCE.max_pool2d(x, window=2, stride=2)
    np.testing.assert_array_equal(y[0, :, :, 0], [[6, 8], [16, 18]])


def test_max_pool_takes_the_derivative_of_the_first_of_equal_elements():
    x = np.zeros((1, 2, 2, 1), complex)
    x[0, 0, 1, 0] += 1j
    assert REFERENCE.max_pool2d(x, window=2, stride=2)[0, 0, 0, 0].imag == 0
    x[0, 0, 0, 0] += 2j
    assert REFERENCE.max_pool2d(x, window=2, stride=2)[0, 0, 0, 0].imag == 2


@given(arrays(4, 3, 3, 2))
def test_batch_norm_normalises_and_keeps_unbiased_running_variance(x):
    ones, zeros = np.ones(2), np.zeros(2)
    y, mean, var = REFERENCE.batch_norm(
        x, ones, zeros, zeros, ones, train=True, momentum=0.25, epsilon=1e-5
    )
    flat = x.reshape(-1, 2)
    np.testing.assert_allclose(mean, 0.25 * flat.mean(0), atol=1e-12)
    np.testing.assert_allclose(var, 0.75 + 0.25 * flat.var(0, ddof=1), atol=1e-12)
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y.reshape(-1, 2), expected, atol=1e-9)


class Held(NumpyOps):
    """What `stop_gradient` gave in the first run it gives in all: real steps do not pass it."""

    def __init__(self):
        super().__init__()
        self.values, self.turn = [], None

    def stop_gradient(self, x):
        if self.turn is None:
            self.values.append(super().stop_gradient(x))
            return self.values[-1]
        return self.values[next(self.turn)]


@pytest.mark.parametrize("name", models.names())
def test_every_model_is_complex_differentiable(name):
    """The complex step, which the oracle relies on, equals a central difference."""
    model = models.get(name)
    config = model.sizes["tiny"]
    params, buffers = model.initial(config, np.random.default_rng(1))
    batch = model.example(config, 2)
    rng = np.random.default_rng(2)
    direction = {key: rng.normal(size=value.shape) for key, value in params.items()}

    def loss(step):
        moved = {key: value + step * direction[key] for key, value in params.items()}
        x, y = trees.part(batch, "x"), trees.part(batch, "y")
        output, _ = model.forward(held, {**buffers, **moved}, x, config=config, train=True)
        found = model.loss(held, output, y)
        held.turn = iter(range(len(held.values)))
        return found

    held = Held()
    complex_step = loss(1e-30j).imag / 1e-30
    central = (loss(1e-7) - loss(-1e-7)) / 2e-7
    assert complex_step == pytest.approx(central, rel=1e-5)


# -- what the vocabulary pins at kinks, ties and overflows ----------------------------------------


def slope(function, x):
    """The derivative of function(x), the sum over its elements, by x."""
    (gradient,) = REFERENCE.gradient(lambda x: np.sum(function(x)), np.array(x, float))
    return gradient.tolist()


def test_gradients_at_kinks():
    assert slope(REFERENCE.relu, [-1, 0, 1]) == [0, 0, 1]
    assert slope(REFERENCE.absolute, [-1, 0, 1]) == [-1, 0, 1]
    assert slope(lambda x: REFERENCE.leaky_relu(x, slope=0.25), [-1, 0, 1]) == [0.25, 0.25, 1]
    assert slope(lambda x: REFERENCE.clip(x, -1, 1), [-2, -1, 0, 1, 2]) == [0, 1, 1, 1, 0]
    assert slope(lambda x: REFERENCE.maximum(x, 1.0), [0, 1, 2]) == [0, 0.5, 1]
    assert slope(lambda x: REFERENCE.smooth_l1(x, np.zeros(1), beta=1.0), [1]) == [1]
    assert slope(REFERENCE.softplus, [0]) == [0.5]


def test_gradients_of_what_ties():
    assert slope(lambda x: REFERENCE.max(x, axis=0), [2, 1, 2, 2, 2]) == [0.25, 0, 0.25, 0.25, 0.25]
    assert slope(REFERENCE.median, [3, 1, 3, 0, 9]) == [0.5, 0, 0.5, 0, 0]
    assert slope(lambda x: REFERENCE.norm(x, axis=1), [[0, 0], [3, 4]]) == [[0, 0], [0.6, 0.8]]
    ids, table = np.array([0, 1, 1]), [[1, 2], [3, 4]]
    padded = slope(lambda t: REFERENCE.embedding(t, ids, padding_index=1), table)
    assert padded == [[1, 1], [0, 0]]


@pytest.mark.parametrize("name", "sigmoid tanh softplus gelu gelu_tanh silu".split())
def test_nothing_overflows_far_from_0(name):
    x = np.array([-1e4, 1e4])
    limits = {"sigmoid": [0, 1], "tanh": [-1, 1]}.get(name, [0, 1e4])
    np.testing.assert_array_equal(getattr(REFERENCE, name)(x), limits)
    np.testing.assert_array_equal(getattr(REFERENCE, name)(x + 1e-30j).real, limits)
    assert np.isnan(getattr(REFERENCE, name)(np.array([np.nan]))).all()


def test_domains_of_log_and_sqrt():
    x = np.array([-1.0, 0.0, 1.0, np.inf])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(REFERENCE.log(x), [np.nan, -np.inf, 0, np.inf])
        np.testing.assert_array_equal(REFERENCE.sqrt(x), [np.nan, 0, 1, np.inf])
        assert np.isnan(REFERENCE.sqrt(x + 1e-30j)[0])


def test_a_query_without_keys_gets_zeros_and_no_gradient():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 1, 2, 1, 3))
    mask = np.array([[True, True], [False, False]])
    y = REFERENCE.attention(q, k, v, mask=mask)
    assert y[0, 0].any()
    assert not y[0, 1].any()
    gradient = np.array(slope(lambda q: REFERENCE.attention(q, k, v, mask=mask) ** 2, q))
    assert gradient[0, 0].any()
    assert not gradient[0, 1].any()


def test_to_int8_truncates_and_saturates():
    x = np.array([1.9, -1.9, 127.9, 128.0, -128.9, -129.0, 1e9, -np.inf])
    assert REFERENCE.to_int8(x).tolist() == [1, -1, 127, 127, -128, -128, 127, -128]


# -- resizing ----------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from(["nearest", "bilinear", "bicubic"]),
       st.booleans())  # fmt: skip
def test_weights_of_a_resized_axis_sum_to_one(old, new, method, antialias):
    weights = matrix(old, new, method=method, antialias=antialias)
    assert weights.shape == (new, old)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_array_equal(matrix(old, old, method=method, antialias=antialias), np.eye(old))


@given(st.integers(2, 20), st.integers(2, 20))
def test_bilinear_resizing_interpolates_between_pixel_centres(old, new):
    x = np.random.default_rng(old).normal(size=old)
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    wanted = np.interp(centres, np.arange(old), x)
    resized = matrix(old, new, method="bilinear", antialias=False) @ x
    np.testing.assert_allclose(resized, wanted, atol=1e-12)


def test_weights_by_hand():
    nearest = matrix(4, 2, method="nearest", antialias=True)
    np.testing.assert_array_equal(nearest, [[0, 1, 0, 0], [0, 0, 0, 1]])
    cubic = matrix(8, 4, method="bicubic", antialias=False)[1, 1:5]  # halfway between two pixels
    np.testing.assert_allclose(cubic, np.array([-1, 9, 9, -1]) / 16)
    stretched = matrix(4, 2, method="bilinear", antialias=True)
    np.testing.assert_allclose(stretched[0], np.array([3, 3, 1, 0]) / 7)
    with pytest.raises(ValueError, match="nearest, bilinear, bicubic"):
        matrix(4, 2, method="lanczos", antialias=False)


def test_a_matrix_can_be_changed_without_harm():
    matrix(3, 2, method="bilinear", antialias=False)[:] = 0
    assert matrix(3, 2, method="bilinear", antialias=False).any()


# -- forms ---------------------------------------------------------------------------------------


def cube(x):
    return np.sum(x * x * x)


@given(arrays(3))
def test_gradient_of_a_gradient(x):
    (first,) = REFERENCE.gradient(cube, x)
    np.testing.assert_allclose(first, 3 * x * x, atol=1e-12)

    def length(x):
        (g,) = REFERENCE.gradient(cube, x)
        return np.sum(g * g)

    (second,) = REFERENCE.gradient(length, x)
    np.testing.assert_allclose(second, 36 * x**3, atol=1e-7)


def test_gradient_of_a_gradient_of_a_gradient():
    x = np.array([0.5, -1.0, 2.0])

    def once(function):
        return lambda x: np.sum(REFERENCE.gradient(function, x)[0])

    (third,) = REFERENCE.gradient(once(once(lambda x: np.sum(np.exp(x)))), x)
    np.testing.assert_allclose(third, np.exp(x), rtol=1e-9)


def test_gradient_by_every_argument_and_beside_a_moving_tensor():
    x, w = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    by_x, by_w = REFERENCE.gradient(lambda x, w: np.sum(x * x * w), x, w)
    np.testing.assert_allclose(by_x, [6, 20])
    np.testing.assert_allclose(by_w, [1, 4])
    (nothing,) = REFERENCE.gradient(lambda x: np.sum(w), x)
    np.testing.assert_array_equal(nothing, [0, 0])

    def penalty(x):  # the inner function closes over x, which moves
        (by_w,) = REFERENCE.gradient(lambda w: np.sum(x * w * w), w)
        return np.sum(by_w)

    np.testing.assert_allclose(slope(penalty, x), 2 * w, rtol=1e-11)


def test_stop_gradient_stops_at_every_level():
    x = np.array([1.5, -2.0])
    assert slope(lambda x: REFERENCE.stop_gradient(x) * x, x) == [1.5, -2.0]

    def inner(x):
        (g,) = REFERENCE.gradient(lambda x: np.sum(REFERENCE.stop_gradient(x) * x * x), x)
        return g * x  # 2 stopped x x

    np.testing.assert_allclose(slope(inner, x), 4 * x * x, rtol=1e-11)


def test_custom_gradient_is_what_backward_says():
    x = np.array([1.5, -2.0])

    def odd(x):  # x^2, which claims to have the derivative x^3
        return REFERENCE.custom_gradient(lambda x: x * x, lambda x, g: x**3 * g, x)

    np.testing.assert_array_equal(odd(x), x * x)
    np.testing.assert_allclose(slope(odd, x), x**3)

    def inner(x):
        (g,) = REFERENCE.gradient(lambda x: np.sum(odd(x)), x)
        return g

    np.testing.assert_allclose(slope(inner, x), 3 * x * x, rtol=1e-11)
    np.testing.assert_allclose(slope(lambda x: inner(x) * x, x), 4 * x**3, rtol=1e-11)


def test_custom_gradient_to_another_shape():
    def total(x):
        return REFERENCE.custom_gradient(
            lambda x: np.sum(x, axis=1), lambda x, g: np.broadcast_to(2 * g[:, None], x.shape), x
        )

    x = np.arange(6.0).reshape(2, 3)
    assert slope(lambda x: total(x) * np.array([1, 10]), x) == [[2, 2, 2], [20, 20, 20]]


def test_control_flow():
    def double(x):
        return x + x

    small, large = np.array([1.0]), np.array([5.0])
    for x, wanted in ((small, 2.0), (large, -5.0)):
        y = REFERENCE.cond(REFERENCE.greater(3.0, x[0]), double, lambda x: -x, x)
        assert y == wanted
    grown = REFERENCE.while_loop(lambda x: REFERENCE.greater(100.0, x[0]), double, small)
    assert grown == 128
    xs = np.array([[2.0], [3.0]])
    scanned = REFERENCE.scan(lambda state, x: state * x + 1, small, xs)
    assert scanned == (1 * 2 + 1) * 3 + 1
    assert slope(lambda x: REFERENCE.scan(lambda state, x: state * x, x, xs), small) == [6.0]
    pair = REFERENCE.scan(lambda state, x: (state[1], state[0] * x), (small, 2 * small), xs)
    np.testing.assert_array_equal(pair, [[2.0], [6.0]])
    each = REFERENCE.per_example(lambda a, b: np.sum(a * b), xs, xs)
    np.testing.assert_array_equal(each, [4, 9])


# -- shapes and counts ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.names())
def test_counted_shapes_are_those_of_numpy(name):
    model = models.get(name)
    for size in ("tiny", "small"):
        config = model.sizes[size]
        params, buffers = model.initial(config, np.random.default_rng(0))
        x = trees.part(model.example(config, 3), "x")
        examples = trees.over(lambda t: Shaped(t.shape), x)
        tensors = params | buffers
        shaped = {key: Shaped(value.shape) for key, value in tensors.items()}
        for train in (False, True):
            real, moved = model.forward(REFERENCE, tensors, x, config=config, train=train)
            ghost, _ = model.forward(CountingOps(), shaped, examples, config=config, train=train)
            shapes = trees.over(lambda t: t.shape, real)
            assert trees.over(lambda t: t.shape, ghost) == shapes
            assert {shape[0] for shape in trees.leaves(shapes)} == {3}
            # a part that is frozen updates nothing
            assert all(v.shape == buffers[k].shape for k, v in moved.items())


def test_flops_and_parameters_of_the_mlp_by_hand():
    counts = count(models.get("mlp"), "small")
    assert counts.parameters == 784 * 128 + 128 + 128 * 10 + 10
    assert counts.flops_by_op == {"dense": 2 * 784 * 128 + 128 + 2 * 128 * 10 + 10, "relu": 128}


def test_flops_per_example_do_not_depend_on_the_batch():
    for name in models.names():
        model = models.get(name)
        one, many = count(model, "tiny"), count(model, "tiny", batch=7)
        # but for the predicate of a branch, which is one for the batch
        assert one.flops_per_example == pytest.approx(many.flops_per_example, rel=1e-3)


def test_shapes_that_do_not_fit_are_refused():
    counting = CountingOps()
    with pytest.raises(ValueError, match="inner sizes differ"):
        counting.dense(Shaped((2, 3)), Shaped((4, 5)))
    with pytest.raises(ValueError, match="channels differ"):
        counting.conv2d(Shaped((1, 8, 8, 3)), Shaped((3, 3, 4, 5)))
    with pytest.raises(ValueError, match="element count"):
        counting.reshape(Shaped((2, 3)), (4, -1))


# -- noise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 24])
def test_noise_has_the_size_of_the_unit_roundoff(bits):
    x = np.ones(10_000)
    y = NoisyOps(REFERENCE, Noise(bits=bits, seed=0)).add(x, x)
    relative = y / 2 - 1
    assert np.abs(relative).max() <= 2.0**-bits
    assert relative.std() == pytest.approx(2.0**-bits / np.sqrt(3), rel=0.05)


def test_noise_of_a_sum_grows_with_the_root_of_its_terms():
    def spread(terms):
        noisy = NoisyOps(REFERENCE, Noise(bits=24, seed=0))
        rng = np.random.default_rng(0)
        x, w = rng.normal(size=(200, terms)), rng.normal(size=(terms, 20))
        return np.linalg.norm(noisy.dense(x, w) - x @ w) / np.linalg.norm(x @ w)

    assert spread(400) / spread(100) == pytest.approx(2.0, rel=0.1)


def test_operations_that_move_values_are_left_alone():
    noisy = NoisyOps(REFERENCE, Noise(bits=4, seed=0))
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    np.testing.assert_array_equal(noisy.relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(noisy.transpose(x, (0, 3, 1, 2)), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(noisy.flatten(x), x.reshape(2, -1))


def test_noise_is_new_at_every_call_and_the_same_for_a_seed():
    x = np.ones(5)
    first, second = (NoisyOps(REFERENCE, Noise(bits=24, seed=3)) for _ in range(2))
    draws = [first.add(x, x) for _ in range(2)]
    assert not np.array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], second.add(x, x))


def test_the_inputs_of_a_contraction_are_rounded_where_it_does_that():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(200, 16)), rng.normal(size=(16, 20))

    def spread(**noise):
        y = NoisyOps(REFERENCE, Noise(bits=24, seed=0, **noise)).dense(x, w)
        return np.linalg.norm(y - x @ w) / np.linalg.norm(x @ w)

    # of a uniform number in [-1, 1] the standard deviation is 1 / sqrt 3, for both operands
    assert spread(input_bits=11) == pytest.approx(2.0**-11 * np.sqrt(2 / 3), rel=0.1)
    assert spread(input_bits=24) == spread()
    assert spread() < 2.0**-20


def test_recurrence_is_disturbed_at_every_step():
    rng = np.random.default_rng(0)
    noisy = NoisyOps(REFERENCE, Noise(bits=16, seed=0))
    n, hidden = 5, 4
    for op, gates in (("lstm", 4), ("gru", 3)):
        shapes = [(n, 7, 3), (n, hidden), (3, gates * hidden), (hidden, gates * hidden)]
        shapes += [(gates * hidden,)]
        shapes.insert(2, (n, hidden)) if op == "lstm" else shapes.append((gates * hidden,))
        tensors = [rng.normal(size=shape) for shape in shapes]
        wanted, found = (getattr(o, op)(*tensors) for o in (REFERENCE, noisy))
        for a, b in zip(wanted, found, strict=True):
            assert a.shape == b.shape
            assert 0 < np.linalg.norm(a - b) < 2.0**-11 * np.linalg.norm(a)


def test_forms_run_functions_over_noisy_operations():
    noisy = NoisyOps(REFERENCE, Noise(bits=10, seed=0))
    (gradient,) = noisy.gradient(lambda x: noisy.sum(noisy.multiply(x, x), axis=0), np.ones(3))
    np.testing.assert_allclose(gradient, 2.0, rtol=2.0**-6)
    assert (gradient != 2.0).any()
