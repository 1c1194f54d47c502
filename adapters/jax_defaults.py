"""JAX's and optax's own defaults in the traps: jax.nn, jax.image, jnp, lax and optax as they come.
Layers are flax's, which not everybody has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from adapters.defaults import Answer, Defaults, Inputs
from adapters.ops import Unsupported

#: As it is before an adapter sets anything.
PRECISION = jax.config.jax_default_matmul_precision


class _Defaults(Defaults):
    def ask(self, number: int, inputs: Inputs) -> Answer:
        """With x64 on for inputs in float64, but for the trap that is about it."""
        double = any(value.dtype == np.float64 for value in inputs.values()) and number != 45
        with jax.enable_x64(double), jax.default_matmul_precision(PRECISION):
            value, told = super().ask(number, inputs)
            return np.array(value), told


DEFAULTS = _Defaults()


def _linen() -> Any:
    try:
        from flax import linen  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise Unsupported("a layer of flax, which is not installed") from error
    return linen


def _put(inputs: Inputs) -> dict[str, Any]:
    return {name: jnp.asarray(value) for name, value in inputs.items()}


def _slope(inputs: Inputs, by: str, function: Callable[..., jax.Array]) -> Any:
    """The gradient of <cotangent, function(tensors)> by one of them."""
    tensors = _put(inputs)
    cotangent, x = tensors.pop("cotangent"), tensors.pop(by)
    return jax.grad(lambda x: (cotangent * function(**{by: x}, **tensors)).sum())(x)


# -- normalisations ------------------------------------------------------------------------------


def _batch_norm(inputs: Inputs, *, train: bool, **arguments: Any) -> tuple[Any, Any]:
    """(result, running statistics)"""
    t, linen = _put(inputs), _linen()
    module = linen.BatchNorm(use_running_average=not train, **arguments)
    variables = {
        "params": {"scale": t["scale"], "bias": t["offset"]},
        "batch_stats": {"mean": t["mean"], "var": t["var"]},
    }
    value, changed = module.apply(variables, t["x"], mutable=["batch_stats"])
    return value, changed["batch_stats"]


@DEFAULTS.of(1)
def batch_norm_epsilon(inputs: Inputs) -> Answer:
    return _batch_norm(inputs, train=False)[0], "flax BatchNorm: epsilon 1e-5"


@DEFAULTS.of(2)
def batch_norm_momentum(inputs: Inputs) -> Answer:
    return _batch_norm(inputs, train=True)[1]["mean"], "flax BatchNorm: 0.99 of the old"


@DEFAULTS.of(3)
def batch_norm_running_variance(inputs: Inputs) -> Answer:
    found = _batch_norm(inputs, train=True, momentum=0.9)[1]["var"]
    return found, "flax BatchNorm(momentum=0.9): biased"


@DEFAULTS.of(4)
def batch_norm_returned_variance(inputs: Inputs) -> Answer:
    found = _batch_norm(inputs, train=True, momentum=0.0)[1]["var"]
    return found, "flax BatchNorm(momentum=0): biased"


@DEFAULTS.of(5)
def layer_norm(inputs: Inputs) -> Answer:
    t, linen = _put(inputs), _linen()
    params = {"params": {"scale": t["scale"], "bias": t["offset"]}}
    return linen.LayerNorm().apply(params, t["x"]), "flax LayerNorm: epsilon 1e-6"


@DEFAULTS.of(6)
def gelu(inputs: Inputs) -> Answer:
    return jax.nn.gelu(_put(inputs)["x"]), "jax.nn.gelu: tanh"


# -- images --------------------------------------------------------------------------------------

LAYOUT = ("NHWC", "HWIO", "NHWC")


@DEFAULTS.of(7)
def same_padding(inputs: Inputs) -> Answer:
    t = _put(inputs)
    y = lax.conv_general_dilated(t["x"], t["w"], (2, 2), "SAME", dimension_numbers=LAYOUT)
    return y, "jax.lax.conv_general_dilated('SAME'): (0, 1)"


@DEFAULTS.of(8)
def transposed_convolution(inputs: Inputs) -> Answer:
    t = _put(inputs)
    y = lax.conv_transpose(t["x"], t["w"], (2, 2), "SAME", dimension_numbers=LAYOUT)
    return y, "jax.lax.conv_transpose('SAME'): transpose_kernel False"


@DEFAULTS.of(9)
def average_pool_border(inputs: Inputs) -> Answer:
    found = _linen().avg_pool(_put(inputs)["x"], (3, 3), padding="SAME")
    return found, "flax avg_pool: padding counts"


def _resized(inputs: Inputs, size: int, method: str) -> jax.Array:
    x = _put(inputs)["x"]
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), method)


@DEFAULTS.of(10)
def bilinear_down(inputs: Inputs) -> Answer:
    return _resized(inputs, 4, "bilinear"), "jax.image.resize: antialiased"


@DEFAULTS.of(11)
def bicubic_coefficient(inputs: Inputs) -> Answer:
    return _resized(inputs, 8, "bicubic"), "jax.image.resize: coefficient -0.5"


@DEFAULTS.of(12)
def nearest(inputs: Inputs) -> Answer:
    return _resized(inputs, 3, "nearest"), "jax.image.resize: floor((i + 1/2) old / new)"


@DEFAULTS.of(13)
def resize_dtype(inputs: Inputs) -> Answer:
    return _resized(inputs, 6, "bilinear"), "jax.image.resize with x64: the input's dtype"


# -- slopes --------------------------------------------------------------------------------------


@DEFAULTS.of(14)
def leaky_relu_slope(inputs: Inputs) -> Answer:
    return jax.nn.leaky_relu(_put(inputs)["x"]), "jax.nn.leaky_relu: slope 0.01"


@DEFAULTS.of(15)
def softplus(inputs: Inputs) -> Answer:
    x = _put(inputs)["x"]
    return jax.nn.softplus(x) - x, "jax.nn.softplus: no threshold"


@DEFAULTS.of(16)
def maximum_tie(inputs: Inputs) -> Answer:
    return _slope(inputs, "a", lambda a, b: jnp.maximum(a, b)), "jax.numpy.maximum: half"


@DEFAULTS.of(17)
def max_zero(inputs: Inputs) -> Answer:
    found = _slope(inputs, "a", lambda a, b: jnp.maximum(a, 0))
    return found, "jax.numpy.maximum(x, 0): 1/2"


@DEFAULTS.of(18)
def clip_edge(inputs: Inputs) -> Answer:
    return _slope(inputs, "x", lambda x: jnp.clip(x, -1, 1)), "jax.numpy.clip: 1/2 at both edges"


@DEFAULTS.of(19)
def absolute_at_zero(inputs: Inputs) -> Answer:
    return _slope(inputs, "x", lambda x: jnp.abs(x)), "jax.numpy.abs: 1"


@DEFAULTS.of(20)
def norm_at_zero(inputs: Inputs) -> Answer:
    found = _slope(inputs, "x", lambda x: jnp.linalg.norm(x, axis=1))
    return found, "jax.numpy.linalg.norm: NaN"


@DEFAULTS.of(21)
def max_pool_tie(inputs: Inputs) -> Answer:
    def pool(x: jax.Array) -> jax.Array:
        window = (1, 2, 2, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")

    return _slope(inputs, "x", pool), "jax.lax.reduce_window: the first"


@DEFAULTS.of(22)
def median_tie(inputs: Inputs) -> Answer:
    return _slope(inputs, "x", lambda x: jnp.median(x, -1)), "jax.numpy.median: the middle one"


@DEFAULTS.of(23)
def argmax_tie(inputs: Inputs) -> Answer:
    return jnp.argmax(_put(inputs)["x"], 1), "jax.numpy.argmax: the first"


# -- elements ------------------------------------------------------------------------------------


@DEFAULTS.of(24)
def gather_out_of_range(inputs: Inputs) -> Answer:
    t = _put(inputs)
    return t["x"][t["indices"]], "x[indices]: clamped, negative ones from the end; jnp.take: NaN"


@DEFAULTS.of(25)
def to_int8(inputs: Inputs) -> Answer:
    return _put(inputs)["x"].astype(jnp.int8), "astype: saturates"


@DEFAULTS.of(26)
def integer_division(inputs: Inputs) -> Answer:
    t = _put(inputs)
    return t["a"] // t["b"], "//: rounds down; jax.lax.div truncates"


@DEFAULTS.of(27)
def variance(inputs: Inputs) -> Answer:
    return jnp.var(_put(inputs)["x"], axis=1), "jax.numpy.var: n"


@DEFAULTS.of(28)
def masked_attention(inputs: Inputs) -> Answer:
    t = _put(inputs)
    y = jax.nn.dot_product_attention(t["q"], t["k"], t["v"], mask=t["mask"])
    return y, "jax.nn.dot_product_attention: mean of v"


@DEFAULTS.of(29)
def embedding_padding(inputs: Inputs) -> Answer:
    found = _slope(inputs, "table", lambda table, ids: table[ids])
    return found, "table[ids]: no padding index"


# -- losses --------------------------------------------------------------------------------------


@DEFAULTS.of(30)
def weighted_cross_entropy(inputs: Inputs) -> Answer:
    t = _put(inputs)
    cost = optax.softmax_cross_entropy_with_integer_labels(t["logits"], t["labels"])
    return (t["weights"][t["labels"]] * cost).mean(), "mean of weights times optax's: divided by n"


@DEFAULTS.of(31)
def cross_entropy_on_probabilities(inputs: Inputs) -> Answer:
    t = _put(inputs)
    cost = optax.sigmoid_binary_cross_entropy(t["logits"], t["targets"])
    return cost.mean(), "optax.sigmoid_binary_cross_entropy: of logits"


@DEFAULTS.of(32)
def label_smoothing(inputs: Inputs) -> Answer:
    t = _put(inputs)
    hot = jax.nn.one_hot(t["labels"], t["logits"].shape[-1])
    cost = optax.softmax_cross_entropy(t["logits"], optax.smooth_labels(hot, 0.125))
    return cost.mean(), "optax.smooth_labels: as pinned"


@DEFAULTS.of(33)
def lstm(inputs: Inputs) -> Answer:
    t, linen = _put(inputs), _linen()
    hidden = t["h"].shape[-1]
    w, u, b = (jnp.split(t[name], 4, axis=-1) for name in "wub")
    gates = dict(zip("ifgo", range(4), strict=True))
    params = {f"i{g}": {"kernel": w[i]} for g, i in gates.items()}
    params |= {f"h{g}": {"kernel": u[i], "bias": b[i]} for g, i in gates.items()}
    y = linen.RNN(linen.LSTMCell(hidden)).apply(
        {"params": {"cell": params}}, t["x"], initial_carry=(t["c"], t["h"])
    )
    return y, "flax LSTMCell: gates i f g o by name"


@DEFAULTS.of(34)
def gru(inputs: Inputs) -> Answer:
    _linen()
    raise Unsupported("flax GRUCell has one bias for r and z: other parameters")


# -- training ------------------------------------------------------------------------------------


def _updated(inputs: Inputs, optimizer: optax.GradientTransformation) -> np.ndarray:
    """By how much an optimizer moves the parameter over the given gradients."""
    p = jnp.asarray(inputs["p"])
    state = optimizer.init(p)
    for gradient in inputs["gradients"]:
        updates, state = optimizer.update(jnp.asarray(gradient), state, p)
        p = optax.apply_updates(p, updates)
    return np.array(p) - inputs["p"]


@DEFAULTS.of(35, 42)
def adam(inputs: Inputs) -> Answer:
    return _updated(inputs, optax.adam(1e-3)), "optax.adam: eps 1e-8, outside of the root"


@DEFAULTS.of(36)
def adamw(inputs: Inputs) -> Answer:
    return _updated(inputs, optax.adamw(1e-3)), "optax.adamw: weight decay 1e-4"


@DEFAULTS.of(37)
def nadam(inputs: Inputs) -> Answer:
    return _updated(
        inputs, optax.nadam(2e-3)
    ), "optax.nadam: constant momentum; amsgrad: maximum of what is corrected"


@DEFAULTS.of(38)
def rmsprop(inputs: Inputs) -> Answer:
    return _updated(inputs, optax.rmsprop(1e-3)), "optax.rmsprop: decay 0.9, eps in the root"


@DEFAULTS.of(39)
def learning_rate_dtype(inputs: Inputs) -> Answer:
    return _updated(inputs, optax.sgd(0.05)), "optax.sgd: a Python float"


@DEFAULTS.of(40)
def adagrad_accumulator(inputs: Inputs) -> Answer:
    return _updated(inputs, optax.adagrad(0.01)), "optax.adagrad: accumulator 0.1, eps 1e-7"


@DEFAULTS.of(41)
def clip_by_global_norm(inputs: Inputs) -> Answer:
    chain = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.01, momentum=0.9))
    return _updated(inputs, chain), "optax.clip_by_global_norm: no epsilon"


@DEFAULTS.of(43)
def initialisers(inputs: Inputs) -> Answer:
    module = _linen().Dense(100)
    kernel = module.init(jax.random.key(0), jnp.ones((1, 400)))["params"]["kernel"]
    return kernel.std()[None], "flax Dense: lecun normal"


# -- conditions ----------------------------------------------------------------------------------


@DEFAULTS.of(44)
def dropout(inputs: Inputs) -> Answer:
    module = _linen().Dropout(0.75, deterministic=False)
    y = module.apply({}, jnp.ones(1000), rngs={"dropout": jax.random.key(0)})
    return y.max()[None], "flax Dropout: inverted"


@DEFAULTS.of(45)
def float64(inputs: Inputs) -> Answer:
    x = _put(inputs)["x"]
    return x - 1, f"jax.numpy.asarray without x64: {x.dtype}"


@DEFAULTS.of(46)
def tf32(inputs: Inputs) -> Answer:
    raise Unsupported(f"jax_default_matmul_precision is {PRECISION}: on a GPU it may use TF32")


@DEFAULTS.of(47)
def accumulation(inputs: Inputs) -> Answer:
    a, b = (t.astype(jnp.bfloat16) for t in _put(inputs).values())
    return (a @ b).astype(jnp.float32), "on this device"


@DEFAULTS.of(48)
def naming(inputs: Inputs) -> Answer:
    t, linen = _put(inputs), _linen()

    class Layers(linen.Module):  # type: ignore[name-defined]
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            last, first = (linen.Dense(4, use_bias=False) for _ in range(2))
            return last(jnp.tanh(first(x)))

    params = {"Dense_0": {"kernel": t["fc2"]}, "Dense_1": {"kernel": t["fc10"]}}
    return Layers().apply({"params": params}, t["x"]), "flax: in the order of construction"


@DEFAULTS.of(49)
def formulas(inputs: Inputs) -> Answer:
    t = _put(inputs)
    cost = optax.squared_error(t["x"], t["target"])
    return cost.mean(), "mean of optax.squared_error, which does not reduce; NHWC by name"
