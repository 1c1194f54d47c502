"""TensorFlow's and Keras's own defaults in the traps: tf, tf.image and keras as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from adapters.defaults import Answer, Defaults, Inputs

DEFAULTS = Defaults()
#: As it is before an adapter sets anything.
TF32 = tf.config.experimental.tensor_float_32_execution_enabled()


def _put(inputs: Inputs) -> dict[str, Any]:
    return {name: tf.constant(value) for name, value in inputs.items()}


def _slope(inputs: Inputs, by: str, function: Callable[..., Any]) -> np.ndarray:
    """The gradient of <cotangent, function(tensors)> by one of them."""
    tensors = _put(inputs)
    cotangent = tensors.pop("cotangent")
    with tf.GradientTape() as tape:
        tape.watch(tensors[by])
        value = function(**tensors)
    gradient = tape.gradient(value, tensors[by], output_gradients=cotangent)
    return tf.convert_to_tensor(gradient).numpy()


def _built(layer: Any, shape: Sequence[int], weights: Sequence[np.ndarray]) -> Any:
    layer.build(tuple(shape))
    layer.set_weights(list(weights))
    return layer


# -- normalisations ------------------------------------------------------------------------------


def _batch_norm(inputs: Inputs, *, train: bool, **arguments: Any) -> tuple[np.ndarray, Any]:
    """(result, layer with its running statistics)"""
    weights = [inputs[name] for name in ("scale", "offset", "mean", "var")]
    layer = _built(tf.keras.layers.BatchNormalization(**arguments), inputs["x"].shape, weights)
    return layer(inputs["x"], training=train).numpy(), layer


@DEFAULTS.of(1)
def batch_norm_epsilon(inputs: Inputs) -> Answer:
    value, layer = _batch_norm(inputs, train=False)
    return value, f"keras.layers.BatchNormalization: epsilon {layer.epsilon:g}"


@DEFAULTS.of(2)
def batch_norm_momentum(inputs: Inputs) -> Answer:
    _, layer = _batch_norm(inputs, train=True)
    return layer.moving_mean.numpy(), (
        f"keras.layers.BatchNormalization: {layer.momentum:g} of the old"
    )


@DEFAULTS.of(3)
def batch_norm_running_variance(inputs: Inputs) -> Answer:
    _, layer = _batch_norm(inputs, train=True, momentum=0.9)
    told = "keras.layers.BatchNormalization(momentum=0.9): biased"
    return layer.moving_variance.numpy(), told


@DEFAULTS.of(4)
def batch_norm_returned_variance(inputs: Inputs) -> Answer:
    t = _put(inputs)
    _, _, var = tf.compat.v1.nn.fused_batch_norm(t["x"], t["scale"], t["offset"])
    return var.numpy(), "tf.compat.v1.nn.fused_batch_norm: unbiased"


@DEFAULTS.of(5)
def layer_norm(inputs: Inputs) -> Answer:
    weights = [inputs["scale"], inputs["offset"]]
    layer = _built(tf.keras.layers.LayerNormalization(), inputs["x"].shape, weights)
    told = f"keras.layers.LayerNormalization: epsilon {layer.epsilon:g}"
    return layer(inputs["x"]).numpy(), told


@DEFAULTS.of(6)
def gelu(inputs: Inputs) -> Answer:
    return tf.nn.gelu(inputs["x"]).numpy(), "tf.nn.gelu, keras.activations.gelu: erf"


# -- images --------------------------------------------------------------------------------------


@DEFAULTS.of(7)
def same_padding(inputs: Inputs) -> Answer:
    y = tf.nn.conv2d(inputs["x"], inputs["w"], 2, "SAME")
    return y.numpy(), "tf.nn.conv2d('SAME'): (0, 1)"


@DEFAULTS.of(8)
def transposed_convolution(inputs: Inputs) -> Answer:
    w = np.swapaxes(inputs["w"], 2, 3)  # (h, w, O, C)
    y = tf.nn.conv2d_transpose(inputs["x"], w, (1, 6, 6, w.shape[2]), 2)
    return y.numpy(), "tf.nn.conv2d_transpose('SAME'): kernel not flipped, another crop"


@DEFAULTS.of(9)
def average_pool_border(inputs: Inputs) -> Answer:
    y = tf.nn.avg_pool2d(inputs["x"], 3, 1, "SAME")
    return y.numpy(), "tf.nn.avg_pool2d('SAME'): padding does not count"


def _resized(inputs: Inputs, size: int, method: str) -> np.ndarray:
    return tf.image.resize(inputs["x"], (size, size), method).numpy()


@DEFAULTS.of(10)
def bilinear_down(inputs: Inputs) -> Answer:
    return _resized(inputs, 4, "bilinear"), "tf.image.resize: not antialiased"


@DEFAULTS.of(11)
def bicubic_coefficient(inputs: Inputs) -> Answer:
    return _resized(inputs, 8, "bicubic"), "tf.image.resize: coefficient -0.5"


@DEFAULTS.of(12)
def nearest(inputs: Inputs) -> Answer:
    return _resized(inputs, 3, "nearest"), "tf.image.resize: floor((i + 1/2) old / new)"


@DEFAULTS.of(13)
def resize_dtype(inputs: Inputs) -> Answer:
    found = _resized(inputs, 6, "bilinear")
    return found, f"tf.image.resize: {found.dtype} of {inputs['x'].dtype}"


# -- slopes --------------------------------------------------------------------------------------


@DEFAULTS.of(14)
def leaky_relu_slope(inputs: Inputs) -> Answer:
    return tf.nn.leaky_relu(
        inputs["x"]
    ).numpy(), "tf.nn.leaky_relu: slope 0.2; keras.layers.LeakyReLU 0.3"


@DEFAULTS.of(15)
def softplus(inputs: Inputs) -> Answer:
    x = inputs["x"]
    return (tf.nn.softplus(x) - x).numpy(), "tf.nn.softplus: linear far out only"


@DEFAULTS.of(16)
def maximum_tie(inputs: Inputs) -> Answer:
    return _slope(inputs, "a", lambda a, b: tf.maximum(a, b)), "tf.maximum: 1 to the first"


@DEFAULTS.of(17)
def max_zero(inputs: Inputs) -> Answer:
    return _slope(inputs, "a", lambda a, b: tf.maximum(a, 0.0)), "tf.maximum(x, 0): 1"


@DEFAULTS.of(18)
def clip_edge(inputs: Inputs) -> Answer:
    found = _slope(inputs, "x", lambda x: tf.clip_by_value(x, -1, 1))
    return found, "tf.clip_by_value: 1 at both edges"


@DEFAULTS.of(19)
def absolute_at_zero(inputs: Inputs) -> Answer:
    return _slope(inputs, "x", lambda x: tf.abs(x)), "tf.abs: 0"


@DEFAULTS.of(20)
def norm_at_zero(inputs: Inputs) -> Answer:
    return _slope(inputs, "x", lambda x: tf.norm(x, axis=1)), "tf.norm: NaN"


@DEFAULTS.of(21)
def max_pool_tie(inputs: Inputs) -> Answer:
    found = _slope(inputs, "x", lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"))
    return found, "tf.nn.max_pool2d: the first"


@DEFAULTS.of(22)
def median_tie(inputs: Inputs) -> Answer:
    found = _slope(inputs, "x", lambda x: tf.keras.ops.median(x, axis=-1))
    return found, "keras.ops.median: one of them"


@DEFAULTS.of(23)
def argmax_tie(inputs: Inputs) -> Answer:
    return tf.argmax(inputs["x"], 1).numpy(), "tf.argmax: the first"


# -- elements ------------------------------------------------------------------------------------


@DEFAULTS.of(24)
def gather_out_of_range(inputs: Inputs) -> Answer:
    t = _put(inputs)
    return tf.gather(t["x"], t["indices"]).numpy(), "tf.gather"


@DEFAULTS.of(25)
def to_int8(inputs: Inputs) -> Answer:
    return tf.cast(inputs["x"], tf.int8).numpy(), "tf.cast: wraps, but saturates in longer tensors"


@DEFAULTS.of(26)
def integer_division(inputs: Inputs) -> Answer:
    t = _put(inputs)
    return (t["a"] // t["b"]).numpy(), "//: rounds down"


@DEFAULTS.of(27)
def variance(inputs: Inputs) -> Answer:
    return tf.math.reduce_variance(inputs["x"], 1).numpy(), "tf.math.reduce_variance: n"


@DEFAULTS.of(28)
def masked_attention(inputs: Inputs) -> Answer:
    t = _put(inputs)
    y = tf.keras.ops.dot_product_attention(t["q"], t["k"], t["v"], mask=t["mask"])
    return y.numpy(), "keras.ops.dot_product_attention: mean of v"


@DEFAULTS.of(29)
def embedding_padding(inputs: Inputs) -> Answer:
    found = _slope(inputs, "table", lambda table, ids: tf.nn.embedding_lookup(table, ids))
    return found, "tf.nn.embedding_lookup: no padding index"


# -- losses --------------------------------------------------------------------------------------


@DEFAULTS.of(30)
def weighted_cross_entropy(inputs: Inputs) -> Answer:
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = inputs["labels"]
    found = loss(labels, inputs["logits"], sample_weight=inputs["weights"][labels])
    return found.numpy(), "keras.losses.SparseCategoricalCrossentropy: divided by n"


@DEFAULTS.of(31)
def cross_entropy_on_probabilities(inputs: Inputs) -> Answer:
    t = _put(inputs)
    found = tf.keras.losses.BinaryCrossentropy()(t["targets"], tf.sigmoid(t["logits"]))
    return found.numpy(), "keras.losses.BinaryCrossentropy: probabilities clipped at 1e-7"


@DEFAULTS.of(32)
def label_smoothing(inputs: Inputs) -> Answer:
    logits = inputs["logits"]
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.125)
    found = loss(tf.one_hot(inputs["labels"], logits.shape[-1]), logits)
    return found.numpy(), "keras.losses.CategoricalCrossentropy(label_smoothing): as pinned"


# -- recurrence ----------------------------------------------------------------------------------


@DEFAULTS.of(33)
def lstm(inputs: Inputs) -> Answer:
    t = _put(inputs)
    layer = tf.keras.layers.LSTM(t["h"].shape[-1], return_sequences=True)
    layer = _built(layer, t["x"].shape, [inputs[name] for name in "wub"])
    y = layer(t["x"], initial_state=[t["h"], t["c"]])
    return y.numpy(), "keras.layers.LSTM: gates i f c o; a bias of 1 to begin with"


@DEFAULTS.of(34)
def gru(inputs: Inputs) -> Answer:
    t = _put(inputs)
    layer = tf.keras.layers.GRU(t["h"].shape[-1], return_sequences=True)
    biases = np.stack([inputs["b"], inputs["b_recurrent"]])
    layer = _built(layer, t["x"].shape, [inputs["w"], inputs["u"], biases])
    y = layer(t["x"], initial_state=t["h"])
    return y.numpy(), "keras.layers.GRU: gates z r h, reset_after=True"


# -- training ------------------------------------------------------------------------------------


def _updated(inputs: Inputs, optimizer: Any) -> np.ndarray:
    """By how much an optimizer moves the parameter over the given gradients."""
    p = tf.Variable(inputs["p"])
    for gradient in inputs["gradients"]:
        optimizer.apply_gradients([(tf.constant(gradient), p)])
    return p.numpy() - inputs["p"]


@DEFAULTS.of(35, 42)
def adam(inputs: Inputs) -> Answer:
    told = "keras.optimizers.Adam: epsilon-hat 1e-7, powers of beta in the parameter's dtype"
    return _updated(inputs, tf.keras.optimizers.Adam()), told


@DEFAULTS.of(36)
def adamw(inputs: Inputs) -> Answer:
    return _updated(inputs, tf.keras.optimizers.AdamW()), "keras.optimizers.AdamW: decay 0.004"


@DEFAULTS.of(37)
def nadam(inputs: Inputs) -> Answer:
    found = _updated(inputs, tf.keras.optimizers.Nadam(2e-3))
    return found, "keras.optimizers.Nadam: epsilon 1e-7"


@DEFAULTS.of(38)
def rmsprop(inputs: Inputs) -> Answer:
    found = _updated(inputs, tf.keras.optimizers.RMSprop())
    return found, "keras.optimizers.RMSprop: rho 0.9, epsilon in the root"


@DEFAULTS.of(39)
def learning_rate_dtype(inputs: Inputs) -> Answer:
    optimizer = tf.keras.optimizers.SGD(0.05)
    found = _updated(inputs, optimizer)
    return found, f"keras.optimizers.SGD: learning rate in {optimizer.learning_rate.dtype}"


@DEFAULTS.of(40)
def adagrad_accumulator(inputs: Inputs) -> Answer:
    found = _updated(inputs, tf.keras.optimizers.Adagrad(0.01))
    return found, "keras.optimizers.Adagrad: accumulator 0.1, epsilon 1e-7"


@DEFAULTS.of(41)
def clip_by_global_norm(inputs: Inputs) -> Answer:
    p = tf.constant(inputs["p"])
    velocity = tf.zeros_like(p)
    for gradient in inputs["gradients"]:  # not Keras's SGD: see the learning rate above
        (clipped,), _ = tf.clip_by_global_norm([tf.constant(gradient)], 0.5)
        velocity = 0.9 * velocity + clipped
        p = p - 0.01 * velocity
    return p.numpy() - inputs["p"], "tf.clip_by_global_norm: no epsilon"


@DEFAULTS.of(43)
def initialisers(inputs: Inputs) -> Answer:
    tf.keras.utils.set_random_seed(0)
    layer = tf.keras.layers.Dense(100)
    layer.build((None, 400))
    return layer.kernel.numpy().std()[None], "keras.layers.Dense: glorot uniform"


# -- conditions ----------------------------------------------------------------------------------


@DEFAULTS.of(44)
def dropout(inputs: Inputs) -> Answer:
    y = tf.keras.layers.Dropout(0.75)(tf.ones(1000), training=True)
    return y.numpy().max()[None], "keras.layers.Dropout: inverted"


@DEFAULTS.of(45)
def float64(inputs: Inputs) -> Answer:
    x = tf.keras.ops.convert_to_tensor(inputs["x"])
    return (x - 1).numpy(), f"keras.ops.convert_to_tensor: {x.dtype.name}"


@DEFAULTS.of(46)
def tf32(inputs: Inputs) -> Answer:
    told = f"tensor_float_32_execution_enabled: {TF32}, on a GPU"
    return np.array([11.0 if TF32 else 24.0] * 2), told


@DEFAULTS.of(47)
def accumulation(inputs: Inputs) -> Answer:
    a, b = (tf.cast(t, tf.bfloat16) for t in _put(inputs).values())
    return tf.cast(a @ b, tf.float32).numpy(), "tf.matmul, on the CPU"


@DEFAULTS.of(48)
def naming(inputs: Inputs) -> Answer:
    class Layers(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.fc10, self.fc2 = (tf.keras.layers.Dense(4, use_bias=False) for _ in range(2))

        def call(self, x: Any) -> Any:
            return self.fc10(tf.tanh(self.fc2(x)))

    model = Layers()
    model(inputs["x"])
    model.set_weights([inputs["fc2"], inputs["fc10"]])  # as they are called
    return model(inputs["x"]).numpy(), "keras.Model.set_weights: in the order of construction"


@DEFAULTS.of(49)
def formulas(inputs: Inputs) -> Answer:
    found = tf.keras.losses.MeanSquaredError()(inputs["target"], inputs["x"])
    return found.numpy(), "keras.losses.MeanSquaredError: mean over the batch; NHWC"
