"""The specification, its NumPy reference, the counting and the noisy implementation."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import signal, special, stats

from adapters import model as models
from adapters import ops
from adapters.counting import CountingOps, Shaped, count
from adapters.noise import NoisyOps
from adapters.numpy_reference import NumpyOps

REFERENCE = NumpyOps()
finite = st.floats(-10, 10)


def arrays(*shape):
    return hnp.arrays(np.float64, shape, elements=finite)


# -- the specification checks implementations ---------------------------------------------------


def test_complete_implementations_lack_nothing():
    for implementation in (NumpyOps, CountingOps):
        assert ops.missing(implementation) == []
        assert ops.misshapen(implementation) == []
    assert ops.missing(NoisyOps) == []


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
    for name in ops.NAMES:
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
        output, _ = model.forward(REFERENCE, {**buffers, **moved}, batch["x"], config=config,
                                  train=True)  # fmt: skip
        return REFERENCE.cross_entropy(output, batch["y"])

    complex_step = loss(1e-30j).imag / 1e-30
    central = (loss(1e-6) - loss(-1e-6)).real / 2e-6
    assert complex_step == pytest.approx(central, rel=1e-5)


# -- shapes and counts ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.names())
def test_counted_shapes_are_those_of_numpy(name):
    model = models.get(name)
    for size in ("tiny", "small"):
        config = model.sizes[size]
        params, buffers = model.initial(config, np.random.default_rng(0))
        x = model.example(config, 3)["x"]
        tensors = params | buffers
        shaped = {key: Shaped(value.shape) for key, value in tensors.items()}
        for train in (False, True):
            real, moved = model.forward(REFERENCE, tensors, x, config=config, train=train)
            ghost, _ = model.forward(
                CountingOps(), shaped, Shaped(x.shape), config=config, train=train
            )
            assert ghost.shape == real.shape == (3, 10)
            assert {k: v.shape for k, v in moved.items()} == {
                k: v.shape for k, v in buffers.items()
            }


def test_flops_and_parameters_of_the_mlp_by_hand():
    counts = count(models.get("mlp"), "small")
    assert counts.parameters == 784 * 128 + 128 + 128 * 10 + 10
    assert counts.flops_by_op == {"dense": 2 * 784 * 128 + 128 + 2 * 128 * 10 + 10, "relu": 128}


def test_flops_per_example_do_not_depend_on_the_batch():
    for name in models.names():
        model = models.get(name)
        one, many = count(model, "tiny"), count(model, "tiny", batch=7)
        assert one.flops_per_example == many.flops_per_example


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
    y = NoisyOps(REFERENCE, bits=bits, seed=0).add(x, x)
    relative = y / 2 - 1
    assert np.abs(relative).max() <= 2.0**-bits
    assert relative.std() == pytest.approx(2.0**-bits / np.sqrt(3), rel=0.05)


def test_noise_of_a_sum_grows_with_the_root_of_its_terms():
    def spread(terms):
        noisy = NoisyOps(REFERENCE, bits=24, seed=0)
        rng = np.random.default_rng(0)
        x, w = rng.normal(size=(200, terms)), rng.normal(size=(terms, 20))
        return np.linalg.norm(noisy.dense(x, w) - x @ w) / np.linalg.norm(x @ w)

    assert spread(400) / spread(100) == pytest.approx(2.0, rel=0.1)


def test_operations_that_move_values_are_left_alone():
    noisy = NoisyOps(REFERENCE, bits=4, seed=0)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    np.testing.assert_array_equal(noisy.relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(noisy.transpose(x, (0, 3, 1, 2)), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(noisy.flatten(x), x.reshape(2, -1))


def test_noise_is_new_at_every_call_and_the_same_for_a_seed():
    x = np.ones(5)
    first, second = (NoisyOps(REFERENCE, bits=24, seed=3) for _ in range(2))
    draws = [first.add(x, x) for _ in range(2)]
    assert not np.array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], second.add(x, x))
