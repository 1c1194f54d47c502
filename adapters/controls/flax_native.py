"""Flax as its users write it: nnx.Module, optax, nnx.Optimizer.

A step is a function of the module's state in jax.jit, between nnx.split and nnx.merge: the faster
of the two ways that Flax documents. nnx.jit takes 0.3 ms more for every call, in which Python walks
through the module."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from adapters import base, jax_jit, trees
from adapters import model as models
from adapters.base import Gradients, Probe, Spec, State, Stopwatch, Unsupported, require
from adapters.models import convnet, gpt, vit
from adapters.training import Recipe
from adapters.trees import Tree


class Mlp(nnx.Module):
    def __init__(self, config: Any, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(config.side**2, config.hidden, rngs=rngs)
        self.fc2 = nnx.Linear(config.hidden, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(nnx.relu(self.fc1(x.reshape(len(x), -1))))


class ConvNet(nnx.Module):
    def __init__(self, config: Any, rngs: nnx.Rngs) -> None:
        first, second = config.channels
        norm = {"epsilon": convnet.EPSILON, "momentum": 1 - convnet.MOMENTUM, "rngs": rngs}
        conv = {"kernel_size": (3, 3), "use_bias": False, "rngs": rngs}
        self.conv1, self.norm1 = nnx.Conv(1, first, **conv), nnx.BatchNorm(first, **norm)
        self.conv2, self.norm2 = nnx.Conv(first, second, **conv), nnx.BatchNorm(second, **norm)
        self.head = nnx.Linear((config.side // 4) ** 2 * second, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = nnx.max_pool(nnx.relu(norm(conv(x))), (2, 2), strides=(2, 2))
        return self.head(x.reshape(len(x), -1))


class Perceptron(nnx.Module):
    def __init__(self, width: int, activation: Callable[..., Any], rngs: nnx.Rngs) -> None:
        self.activation = activation
        self.fc1 = nnx.Linear(width, 4 * width, rngs=rngs)
        self.fc2 = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.activation(self.fc1(x)))


class Block(nnx.Module):
    def __init__(
        self, config: Any, rngs: nnx.Rngs, *, epsilon: float, activation: Callable[..., Any]
    ) -> None:
        d = config.width
        self.norm1 = nnx.LayerNorm(d, epsilon=epsilon, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(config.heads, d, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(d, epsilon=epsilon, rngs=rngs)
        self.mlp = Perceptron(d, activation, rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.mlp(self.norm2(x))


def gelu(x: jax.Array) -> jax.Array:
    return nnx.gelu(x, approximate=False)


class VisionTransformer(nnx.Module):
    def __init__(self, config: Any, rngs: nnx.Rngs) -> None:
        d, patch = config.width, (config.patch, config.patch)
        self.patch = nnx.Conv(config.channels, d, patch, strides=patch, padding="VALID", rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros((1, 1, d)))
        self.position = nnx.Param(jnp.zeros((1, config.tokens, d)))
        self.blocks = nnx.List(
            Block(config, rngs, epsilon=vit.EPSILON, activation=gelu) for _ in range(config.depth)
        )
        self.norm = nnx.LayerNorm(d, epsilon=vit.EPSILON, rngs=rngs)
        self.head = nnx.Linear(d, config.classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        n, d = len(x), self.class_token.shape[-1]
        x = self.patch(x).reshape(n, -1, d)  # (N, S - 1, D)
        first = jnp.broadcast_to(self.class_token[...], (n, 1, d))
        x = jnp.concatenate([first, x], axis=1) + self.position[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Gpt(nnx.Module):
    def __init__(self, config: Any, rngs: nnx.Rngs) -> None:
        d = config.width
        self.tokens = nnx.Embed(config.vocabulary, d, rngs=rngs)
        self.positions = nnx.Embed(config.positions, d, rngs=rngs)
        self.blocks = nnx.List(
            Block(config, rngs, epsilon=gpt.EPSILON, activation=nnx.gelu)
            for _ in range(config.depth)
        )
        self.norm = nnx.LayerNorm(d, epsilon=gpt.EPSILON, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.tokens(ids) + self.positions(jnp.arange(ids.shape[1]))  # (N, S, D)
        mask = nnx.make_causal_mask(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.tokens.attend(self.norm(x))


NETWORKS: dict[str, Callable[[Any, nnx.Rngs], nnx.Module]] = {
    "mlp": Mlp, "convnet": ConvNet, "vit": VisionTransformer, "gpt": Gpt
}  # fmt: skip

#: What a model calls a tensor of a layer -> what Flax calls it; others have the same name.
LEAVES = {
    "w": "kernel", "b": "bias", "offset": "bias",
    "tokens": "tokens.embedding", "positions": "positions.embedding",
}  # fmt: skip


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Of optax, with the constants of the recipe."""
    fixed = recipe.schedule.is_constant and recipe.accumulation == 1 and not recipe.average
    require(fixed and not recipe.frozen, "native controls train at one rate, all parameters")
    parts = []
    if recipe.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(recipe.clip_norm))
    if recipe.clip_value is not None:
        parts.append(optax.clip(recipe.clip_value))
    if recipe.optimizer == "sgd" and not recipe.weight_decay and not recipe.dampening:
        momentum = recipe.momentum or None
        parts.append(optax.sgd(recipe.learning_rate, momentum, nesterov=recipe.nesterov))
        return optax.chain(*parts)
    require(recipe.optimizer == "adamw", f"no native control trains with {recipe.optimizer}")
    beta1, beta2 = recipe.betas
    adamw = optax.adamw(
        recipe.learning_rate, beta1, beta2, recipe.epsilon, weight_decay=recipe.weight_decay
    )
    return optax.chain(*parts, adamw)


def loss_of(module: nnx.Module, x: Tree, y: Tree) -> tuple[jax.Array, Tree]:
    output = module(x)
    return optax.softmax_cross_entropy_with_integer_labels(output, y).mean(), output


class Adapter(jax_jit.Adapter):
    def versions(self) -> dict[str, str]:
        return {**super().versions(), "flax": flax.__version__}

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        require(spec.model in NETWORKS, f"there is no native Flax control of {spec.model}")
        program = Program(spec, self._configure(spec.device, x64=spec.dtype == "float64"))
        program.load(params, buffers)
        return program

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        raise Unsupported("measured through jax_jit")


class Program(jax_jit.Program):
    """Runs a module. Each tensor of the model is one of its variables, or several side by side."""

    def network(self) -> nnx.Module:
        """The module; its variables may have any values."""
        config = models.get(self._spec.model).config(self._spec.size, self._spec.length)
        return NETWORKS[self._spec.model](config, nnx.Rngs(0))

    def paths(self, name: str) -> tuple[str, ...]:
        """The variables that make up a tensor of the model, side by side in its last axis."""
        *owners, leaf = re.sub(r"^block(\d+)/", r"blocks/\1/", name).split("/")
        parts = ("query", "key", "value") if owners[-1:] == ["qkv"] else owners[-1:]
        leaf = LEAVES.get(leaf, leaf)
        return tuple(".".join((*owners[:-1], part, leaf)) for part in parts) or (leaf,)

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._shapes = {name: value.shape for name, value in {**params, **buffers}.items()}
        module = self.network()
        own = _variables(module)
        trained = {path for path, variable in own.items() if isinstance(variable, nnx.Param)}
        given = {path for name in params for path in self.paths(name)}
        require(trained == given, f"no value for {sorted(trained ^ given)}")
        for name, value in {**params, **buffers}.items():
            paths = self.paths(name)
            for path, part in zip(paths, np.split(value, len(paths), axis=-1), strict=True):
                own[path].set_value(self._array(part.reshape(own[path].shape)))
        nodes: Any = module
        if self._spec.trains:
            module.train()
            transformation = optimizer(self._spec.training)
            nodes = module, nnx.Optimizer(module, transformation, wrt=nnx.Param)
        else:
            module.eval()
        self._graph, self._live = nnx.split(nodes)

    def _forward(self, live: Any, x: Tree) -> Tree:
        output = nnx.merge(self._graph, live)(x)
        self._output_dtype = trees.dtypes(output, lambda dtype: str(dtype.name))
        return output

    def _update(self, live: Any, x: Tree, y: Tree) -> tuple[jax.Array, Any]:
        module, optimizer = nnx.merge(self._graph, live)
        loss, _, gradients = self._gradients(module, x, y)
        optimizer.update(module, gradients)
        return loss, nnx.state((module, optimizer))

    def _backward(self, live: Any, x: Tree, y: Tree) -> Any:
        return self._gradients(nnx.merge(self._graph, live)[0], x, y)

    def _gradients(self, module: nnx.Module, x: Tree, y: Tree) -> Any:
        (loss, output), gradients = nnx.value_and_grad(loss_of, has_aux=True)(module, x, y)
        self._output_dtype = trees.dtypes(output, lambda dtype: str(dtype.name))
        return loss, output, gradients

    def step(self, batch: Any) -> Any:
        x, y = batch
        if not self._spec.trains:
            return self._infer(self._live, x)
        loss, self._live = self._train(self._live, x, y)
        return loss

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        return base.Program.first_step(self, batch, watch)

    def wait(self, value: Any) -> None:
        jax.block_until_ready((value, self._live))

    @property
    def _state(self) -> jax_jit.Tensors:
        """The variables by Flax's own paths."""
        nodes = nnx.merge(self._graph, self._live)
        own = _variables(nodes[0] if self._spec.trains else nodes)
        params = {n: v[...] for n, v in own.items() if isinstance(v, nnx.Param)}
        buffers = {n: v[...] for n, v in own.items() if isinstance(v, nnx.BatchStat)}
        return jax_jit.Tensors(params, {}, buffers, (), {}, {})

    def gradients(self, batch: Any) -> Gradients:
        loss, output, gradients = self._differentiate(self._live, *batch)
        found = {path: variable[...] for path, variable in _variables(gradients).items()}
        return Gradients(self.fetch(loss), self.fetch(output), self._boundary(found))

    def state(self) -> State:
        own = self._state
        return State(self._boundary(own.params), self._boundary(own.buffers))

    def _boundary(self, tensors: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        """Tensors by Flax's paths -> arrays by the model's names, in the boundary's layout."""
        found = {}
        for name, shape in self._shapes.items():
            paths = self.paths(name)
            if paths[0] in tensors:
                whole = (*shape[:-1], shape[-1] // len(paths))
                parts = [np.array(tensors[path]).reshape(whole) for path in paths]
                found[name] = np.concatenate(parts, axis=-1)
        return found


def _variables(node: Any) -> dict[str, nnx.Variable]:
    """The variables of a module, or of gradients that have its structure, by their paths."""
    if isinstance(node, nnx.Module):
        found = [(path, v) for path, v in nnx.iter_graph(node) if isinstance(v, nnx.Variable)]
    else:
        found = nnx.to_flat_state(node)
    return {".".join(map(str, path)): variable for path, variable in found}
