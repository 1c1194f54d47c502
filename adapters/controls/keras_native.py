"""Keras as its users write it: the functional API, keras.optimizers, a step in tf.function."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

os.environ["KERAS_BACKEND"] = "tensorflow"  # before the import, which reads it

import keras
from keras import layers, ops

from adapters import model as models
from adapters import tf_graph, trees
from adapters.base import Gradients, Probe, Spec, State, Unsupported, require
from adapters.models import convnet, gpt, vit
from adapters.training import Recipe
from adapters.trees import Tree


def mlp(config: Any) -> keras.Model:
    image = keras.Input((config.side, config.side, 1))
    x = layers.Dense(config.hidden, activation="relu", name="fc1")(layers.Flatten()(image))
    return keras.Model(image, layers.Dense(10, name="fc2")(x))


def conv_net(config: Any) -> keras.Model:
    norm = {"epsilon": convnet.EPSILON, "momentum": 1 - convnet.MOMENTUM}
    image = keras.Input((config.side, config.side, 1))
    x = image
    for i, channels in enumerate(config.channels, start=1):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"conv{i}")(x)
        x = layers.BatchNormalization(**norm, name=f"norm{i}")(x)
        x = layers.MaxPooling2D()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(10, name="head")(layers.Flatten()(x)))


def block(
    x: Any, i: int, config: Any, *, epsilon: float, activation: Any, causal: bool = False
) -> Any:
    d = config.width
    h = layers.LayerNormalization(epsilon=epsilon, name=f"block{i}_norm1")(x)
    attention = layers.MultiHeadAttention(config.heads, d // config.heads, name=f"block{i}")
    x = layers.add([x, attention(h, h, use_causal_mask=causal)])
    h = layers.LayerNormalization(epsilon=epsilon, name=f"block{i}_norm2")(x)
    h = layers.Dense(4 * d, activation=activation, name=f"block{i}_mlp_fc1")(h)
    return layers.add([x, layers.Dense(d, name=f"block{i}_mlp_fc2")(h)])


class Patches(layers.Layer):
    """Puts the class token before the patches, and adds the positions."""

    def build(self, shape: Any) -> None:
        _, patches, width = shape
        self.class_token = self.add_weight(shape=(1, 1, width), name="class_token")
        self.position = self.add_weight(shape=(1, patches + 1, width), name="position")

    def call(self, x: Any) -> Any:
        first = ops.broadcast_to(self.class_token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([first, x], axis=1) + self.position


def vision_transformer(config: Any) -> keras.Model:
    d = config.width
    image = keras.Input((config.side, config.side, config.channels))
    x = layers.Conv2D(d, config.patch, strides=config.patch, name="patch")(image)
    x = Patches(name="patches")(layers.Reshape((-1, d))(x))
    for i in range(config.depth):
        x = block(x, i, config, epsilon=vit.EPSILON, activation="gelu")
    x = layers.LayerNormalization(epsilon=vit.EPSILON, name="norm")(x)
    return keras.Model(image, layers.Dense(config.classes, name="head")(x[:, 0]))


class Embeddings(layers.Layer):
    """Of tokens and of their positions."""

    def __init__(self, config: Any, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.tokens = layers.ReversibleEmbedding(config.vocabulary, config.width, name="tokens")
        self.positions = layers.Embedding(config.positions, config.width, name="positions")

    def call(self, ids: Any) -> Any:
        return self.tokens(ids) + self.positions(ops.arange(ids.shape[1]))


def gelu_tanh(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def gpt2(config: Any) -> keras.Model:
    ids = keras.Input((config.length,), dtype="int32")
    embeddings = Embeddings(config, name="embeddings")
    x = embeddings(ids)  # (N, S, D)
    for i in range(config.depth):
        x = block(x, i, config, epsilon=gpt.EPSILON, activation=gelu_tanh, causal=True)
    x = layers.LayerNormalization(epsilon=gpt.EPSILON, name="norm")(x)
    return keras.Model(ids, embeddings.tokens(x, reverse=True))


NETWORKS: dict[str, Callable[[Any], keras.Model]] = {
    "mlp": mlp, "convnet": conv_net, "vit": vision_transformer, "gpt": gpt2
}  # fmt: skip

#: What a model calls a tensor of a layer -> what Keras calls it.
LEAVES = {
    "w": "kernel", "b": "bias", "scale": "gamma", "offset": "beta", "mean": "moving_mean",
    "var": "moving_variance", "class_token": "patches/class_token", "position": "patches/position",
    "tokens": "embeddings/tokens/embeddings",
    "positions": "embeddings/positions/embeddings",
}  # fmt: skip


class AdamW(keras.optimizers.AdamW):
    """With the formula of the recipe. Keras's own adds epsilon to the root before it is corrected,
    which changes the first updates of weights with small gradients by 14% in vit."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        t = ops.cast(self.iterations + 1, variable.dtype)
        c1, c2 = (-ops.expm1(t * math.log(beta)) for beta in (self.beta_1, self.beta_2))
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        alpha = ops.cast(learning_rate, variable.dtype) / c1
        self.assign_sub(variable, alpha * m / (ops.sqrt(v / c2) + self.epsilon))


def optimizer(recipe: Recipe) -> Any:
    """Keras's, with the constants of the recipe."""
    fixed = recipe.schedule.is_constant and recipe.accumulation == 1 and not recipe.average
    require(fixed and not recipe.frozen, "native controls train at one rate, all parameters")
    clip = {"global_clipnorm": recipe.clip_norm, "clipvalue": recipe.clip_value}
    if recipe.optimizer == "sgd" and not recipe.weight_decay and not recipe.dampening:
        return keras.optimizers.SGD(
            recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, **clip
        )
    require(recipe.optimizer == "adamw", f"no native control trains with {recipe.optimizer}")
    beta1, beta2 = recipe.betas
    return AdamW(
        recipe.learning_rate, weight_decay=recipe.weight_decay, beta_1=beta1, beta_2=beta2,
        epsilon=recipe.epsilon, **clip,
    )  # fmt: skip


class Adapter(tf_graph.Adapter):
    def versions(self) -> dict[str, str]:
        return {**super().versions(), "keras": keras.__version__}

    def program(self, spec: Spec) -> Program:
        require(spec.model in NETWORKS, f"there is no native Keras control of {spec.model}")
        return Program(spec)

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through tf_graph")


class Program(tf_graph.Program):
    """Runs a keras.Model, whose variables are `_params` and `_buffers` under Keras's own paths.
    Each tensor of the model is one of them, or several side by side."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        keras.config.set_floatx(spec.dtype)
        self._config = models.get(spec.model).config(spec.size, spec.length)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def network(self) -> keras.Model:
        """The model; its variables may have any values."""
        return NETWORKS[self._spec.model](self._config)

    def has(self, path: str) -> bool:
        """Whether the model has a variable of Keras, too."""
        return True

    def paths(self, name: str) -> tuple[str, ...]:
        """The variables that make up a tensor of the model, side by side in its last axis."""
        *owners, leaf = name.split("/")
        leaf = LEAVES[leaf]
        if owners[-2:] == ["attention", "qkv"]:
            return tuple(f"{owners[0]}/{part}/{leaf}" for part in ("query", "key", "value"))
        if owners[-2:] == ["attention", "out"]:
            return (f"{owners[0]}/attention_output/{leaf}",)
        return (f"{'_'.join(owners)}/{leaf}" if owners else leaf,)

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        if not self._params:
            self._make_variables(params, buffers)
        for name, value in {**params, **buffers}.items():
            paths = self.paths(name)
            for path, part in zip(paths, np.split(value, len(paths), axis=-1), strict=True):
                variable = self._own[path]
                variable.assign(part.reshape(variable.shape))
        for variable, start in self._starts:
            variable.assign(start)
        self._steps = 0

    def _make_variables(
        self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]
    ) -> None:
        """Once, because a trace belongs to its variables."""
        with tf.device(self._device):
            self._module = self.network()
            self._own = {variable.path: variable for variable in self._module.variables}
            self._shapes = {name: value.shape for name, value in {**params, **buffers}.items()}
            given = [path for name in params for path in self.paths(name)]
            trainable = [variable.path for variable in self._module.trainable_variables]
            trained = {path for path in trainable if self.has(path)}
            require(trained == set(given), f"no value for {sorted(trained ^ set(given))}")
            self._params = {path: self._own[path].value for path in given}
            kept = [path for name in buffers for path in self.paths(name)]
            self._buffers = {path: self._own[path].value for path in kept}
            self._starts: list[tuple[Any, np.ndarray]] = []
            if self._spec.trains:
                self._trainer = optimizer(self._spec.training)
                self._trainer.build(self._module.trainable_variables)
                self._starts = [(v, np.array(v)) for v in self._trainer.variables]

    def _forward(self, x: Tree) -> Tree:
        with tf.device(self._device):
            output = self._module(x, training=False)
        self._output_dtype = trees.dtypes(output, lambda dtype: str(dtype.name))
        return output

    def _update(self, x: Tree, y: Tree, *rate: tf.Tensor) -> tf.Tensor:
        with tf.device(self._device):
            loss, _, gradients, _ = self._backward(x, y)
            self._trainer.apply_gradients(
                zip(gradients, self._module.trainable_variables, strict=True)
            )
        return loss

    def _backward(self, x: Tree, y: Tree) -> tuple[Any, ...]:
        with tf.device(self._device):
            with tf.GradientTape() as tape:
                output = self._module(x, training=True)
                loss = self._loss(y, output)
            self._output_dtype = trees.dtypes(output, lambda dtype: str(dtype.name))
            return loss, output, tape.gradient(loss, self._module.trainable_variables), {}

    def gradients(self, batch: Any) -> Gradients:
        before = {path: np.array(variable) for path, variable in self._buffers.items()}
        loss, output, gradients, _ = self._differentiate(*batch)
        for path, value in before.items():
            self._buffers[path].assign(value)
        paths = [variable.path for variable in self._module.trainable_variables]
        found = dict(zip(paths, gradients, strict=True))
        return Gradients(self.fetch(loss), self.fetch(output), self._boundary(found))

    def state(self) -> State:
        return State(self._boundary(self._params), self._boundary(self._buffers))

    def _boundary(self, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tensors by Keras's paths -> arrays by the model's names, in the boundary's layout."""
        found = {}
        for name, shape in self._shapes.items():
            paths = self.paths(name)
            if paths[0] in tensors:
                whole = (*shape[:-1], shape[-1] // len(paths))
                parts = [np.array(tf.convert_to_tensor(tensors[p])).reshape(whole) for p in paths]
                found[name] = np.concatenate(parts, axis=-1)
        return found
