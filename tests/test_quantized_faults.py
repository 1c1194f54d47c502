"""Mistakes of quantization in a real engine: made in the graph that ONNX Runtime runs, each is
called divergent, and the graph itself is not."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from adapters import model as models
from adapters import trees
from adapters.base import Spec
from adapters.precisions import PRECISIONS
from adapters.quantization import encode
from numerics import quantization
from numerics.quantization import Subject

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
)
CALIBRATION = 2  # batches


def judged(model, break_graph):
    """The divergent rows of a model in int8_static after `break_graph(graph)`."""
    from adapters.onnx_quantized import Quantized

    class Broken(Quantized):
        def _build(self, inputs):
            made = super()._build(inputs)
            break_graph(made.graph)
            return made

    network = models.get(model)
    config, n = network.config("tiny"), network.batch["tiny"]
    params, buffers = network.initial(config, np.random.default_rng(0))
    every = network.example(config, (1 + CALIBRATION) * n)
    batch, *calibration = (
        {name: value[i * n : (i + 1) * n] for name, value in every.items()}
        for i in range(1 + CALIBRATION)
    )
    program = Broken(Spec(model, "tiny", "infer", "cpu", "int8_static", network.recipe, 1))
    program.load(params, buffers)
    program.calibrate(calibration)
    put = program.put(batch)
    output = program.fetch(program.step(put))
    tensors = {**trees.named(output, "output"), **encode(program.layers(put))}
    scheme = PRECISIONS["int8_static"].scheme
    subject = Subject(
        model, "tiny", scheme, params, buffers, batch, tensors, calibration=tuple(calibration)
    )
    return [row for row in quantization.judge(subject) if row.verdict == "divergent"]


def initializer(graph, name):
    return next(tensor for tensor in graph.initializer if tensor.name == name)


def change(graph, name, function):
    """Puts function(values) in the place of an initializer."""
    from onnx import numpy_helper

    tensor = initializer(graph, name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(function(values).astype(values.dtype), name))


def activations(graph):
    """(scale, zero) of what comes into the first layer, by their names."""
    node = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    return node.input[1], node.input[2]


def weights(graph):
    """(integers, scale, zero) of the first weight that has a scale per channel."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    return next(
        tuple(node.input)
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in constants
        and np.prod(constants[node.input[1]].dims) > 1
        and len(constants[node.input[0]].dims) > 1
    )


def nothing(graph):
    pass


def wrong_zero(graph):
    change(graph, activations(graph)[1], lambda zero: zero + 25)


def wrong_zero_of_weights(graph):
    change(graph, weights(graph)[2], lambda zero: zero + 1)


def clipped(graph):
    change(graph, activations(graph)[0], lambda scale: scale / 2)


def one_scale(graph):
    change(graph, weights(graph)[1], lambda scale: np.full_like(scale, scale.max()))


def reversed_scales(graph):
    change(graph, weights(graph)[1], lambda scale: scale[::-1])


def not_scaled_back(graph):
    change(graph, weights(graph)[1], np.ones_like)


@pytest.mark.parametrize("model", ["mlp", "convnet", "vit"])
def test_the_graph_itself_is_right(model):
    assert judged(model, nothing) == []


@pytest.mark.parametrize(
    ("model", "mistake", "quantity", "told"),
    [
        ("mlp", wrong_zero, "range", "came in"),
        ("mlp", wrong_zero_of_weights, "weight", "not the nearest"),
        ("mlp", clipped, "range", "came in"),
        ("mlp", one_scale, "weight", "not the nearest"),
        ("mlp", reversed_scales, "weight", "not the nearest"),
        ("mlp", not_scaled_back, "weight", "not the nearest"),
        # of a convolution no scale alone can change: its bias is in steps of both scales
        ("convnet", wrong_zero, "range", "came in"),
        ("convnet", wrong_zero_of_weights, "weight", "not the nearest"),
    ],
)
def test_a_mistake_in_the_graph_is_divergent(model, mistake, quantity, told):
    found = judged(model, mistake)
    assert any(row.quantity == quantity and told in row.reason for row in found), found
