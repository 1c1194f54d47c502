"""The integer oracle and its judge: an honest engine in NumPy is found right, and each mistake that
engines make is found."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adapters import model as models
from adapters.numpy_reference import NumpyOps
from adapters.precisions import PRECISIONS
from adapters.quantization import Layer, Numbers, Range, Scheme, decode, encode
from adapters.unfused import Unfused
from numerics import integer, quantization
from numerics.quantization import Subject

STATIC, DYNAMIC, WEIGHTS = Scheme(8, 8, "min-max"), Scheme(8, 8), Scheme(8)
ROWS = Range(axes=(-1,), symmetric=True, low=-127, high=127, divisor=127.0)
EXAMPLE = Range(axes=(-3, -2, -1), symmetric=True, low=-127, high=127, divisor=127.0)
ANY = np.zeros(1, np.int64)


def weight_numbers(w, *, per_channel=True):
    most = np.abs(w).reshape(-1, w.shape[-1]).max(axis=0)
    if not per_channel:
        most = most.max(keepdims=True)
    return Numbers((most / 127).astype(np.float32), ANY, -127, 127)


class Engine(Unfused, NumpyOps):
    """Runs layers in integers and float32, and keeps them. `twist` changes a layer before it runs:
    what is told of it is then not what it was made from."""

    def __init__(self, params, scheme, ranges, twist):
        super().__init__()
        self._names = {id(v): n for n, v in params.items()}
        self._scheme, self._ranges, self._twist = scheme, ranges, twist
        self.layers = []

    def dense(self, x, w, b=None):
        if id(w) not in self._names:  # a table of embeddings that is the output layer, too
            return super().dense(x, w, b)
        return self._layer("dense", x, w, b, {})

    def conv2d(self, x, w, b=None, **sizes):
        return self._layer("conv2d", x, w, b, sizes)

    def _layer(self, op, x, w, b, attributes):
        name, numbers = self._names[id(w)], weight_numbers(w, per_channel=self._scheme.per_channel)
        incoming = None
        if self._scheme.calibration:
            low, high = self._ranges[name]
            scale = np.float32((max(high, 0) - min(low, 0)) / 255)
            incoming = Numbers(scale, np.rint(-min(low, 0) / scale).astype(np.int64), 0, 255)
            x = incoming.quantized(x).astype(np.uint8)
        elif self._scheme.activation_bits:
            incoming, x = ROWS if op == "dense" else EXAMPLE, x.astype(np.float32)
        layer = Layer(
            name, op, x, numbers.quantized(w).astype(np.int8), np.empty(0), numbers, incoming,
            bias=b, attributes=attributes,
        )  # fmt: skip
        made, told = self._twist(layer)
        y = integer.expected(made, made.x).value.astype(np.float32)
        self.layers.append(dataclasses.replace(told, y=y))
        return y.astype(np.float64)


def honest(layer):
    return layer, layer


def subject(model="mlp", scheme=STATIC, twist=honest, clip=1.0):
    network = models.get(model)
    config, n = network.config("tiny"), network.batch["tiny"]
    params, buffers = network.initial(config, np.random.default_rng(0))
    every = network.example(config, 3 * n)
    parts = [{k: v[i * n : (i + 1) * n] for k, v in every.items()} for i in range(3)]
    empty = Subject(model, "tiny", scheme, params, buffers, parts[0], {}, tuple(parts[1:]))
    ranges = {name: (clip * s.least, clip * s.most) for name, s in empty.ranges.items()}
    engine = Engine(params, scheme, ranges, twist)
    output = empty.run(engine, parts[0])
    calibration = tuple(parts[1:]) if scheme.calibration else ()
    return dataclasses.replace(
        empty, tensors={**output, **encode(engine.layers)}, calibration=calibration
    )


def bad(found):
    return [row for row in quantization.judge(found) if row.verdict == "divergent"]


@pytest.mark.parametrize("model", ["mlp", "convnet", "lstm", "vit", "bert"])
@pytest.mark.parametrize("scheme", [STATIC, DYNAMIC, WEIGHTS], ids=["static", "dynamic", "weights"])
def test_an_honest_engine_is_right(model, scheme):
    found = subject(model, scheme)
    rows = quantization.judge(found)
    assert not bad(found), [row.reason for row in bad(found)]
    assert {"weight", "layer", "output"} <= {row.quantity for row in rows}
    assert any(row.quantity == "range" for row in rows) == bool(scheme.calibration)
    assert quantization.share(found) > 0.9
    assert 20 < quantization.sqnr_of(found.outputs, found.watched[0]) < 70


def changed(numbers, **changes):
    return dataclasses.replace(numbers, **changes)


def zero_point(layer):
    """Takes another zero away than was added."""
    numbers = layer.x_numbers
    return dataclasses.replace(layer, x_numbers=changed(numbers, zero=numbers.zero + 3)), layer


def one_scale(layer):
    """Uses the first channel's scale for all."""
    numbers = layer.w_numbers
    wrong = np.full_like(numbers.scale, numbers.scale[0])
    return dataclasses.replace(layer, w_numbers=changed(numbers, scale=wrong)), layer


def one_scale_told(layer):
    made, _ = one_scale(layer)
    return made, made


def transposed(layer):
    """Has the scales of channels in another order."""
    numbers = layer.w_numbers
    made = dataclasses.replace(layer, w_numbers=changed(numbers, scale=numbers.scale[::-1].copy()))
    return made, made


def not_requantized(layer):
    """Hands the sums of integers on as if they were real numbers."""
    numbers = layer.w_numbers
    return dataclasses.replace(
        layer, w_numbers=changed(numbers, scale=np.ones_like(numbers.scale))
    ), layer


def no_bias(layer):
    return dataclasses.replace(layer, bias=None), layer


def floats(layer):
    """Stays in float32."""
    real = layer.w_numbers.real(layer.w).astype(np.float32)
    told = dataclasses.replace(layer, w=real, w_numbers=changed(layer.w_numbers, scale=np.ones(1)))
    return dataclasses.replace(layer), told


@pytest.mark.parametrize(
    ("twist", "quantity"),
    [
        (zero_point, "layer"),
        (one_scale, "layer"),
        (one_scale_told, "weight"),
        (transposed, "weight"),
        (not_requantized, "layer"),
        (no_bias, "layer"),
        (floats, "weight"),
    ],
)
@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_a_mistake_is_found_where_it_was_made(model, twist, quantity):
    def first(layer):
        right = layer.bias is None and twist is no_bias
        return honest(layer) if right else twist(layer)

    found = bad(subject(model, STATIC, first))
    assert quantity in {row.quantity for row in found}, [row.reason for row in found]


@pytest.mark.parametrize("scheme", [STATIC, DYNAMIC, WEIGHTS], ids=["static", "dynamic", "weights"])
def test_a_mistake_between_layers_is_found(scheme, monkeypatch):
    monkeypatch.setattr(Engine, "relu", lambda self, x: np.maximum(x, 0.05), raising=False)
    found = bad(subject(scheme=scheme))
    assert "between" in {row.quantity for row in found}
    assert {row.tensor for row in found if row.quantity == "between"} == {"fc2/w"}


@pytest.mark.parametrize("clip", [0.5, 0.9, 1.2])
def test_a_range_has_to_be_what_calibration_saw(clip):
    found = bad(subject(clip=clip))
    assert {row.quantity for row in found} == {"range"}
    assert all("came in" in row.reason for row in found)


def test_a_scale_for_the_tensor_where_there_should_be_one_per_channel():
    found = subject(scheme=Scheme(8, 8, "min-max", per_channel=False))
    assert not bad(found)
    (first, *_) = bad(dataclasses.replace(found, scheme=STATIC))
    assert "one scale for the tensor, but should be one for each" in first.reason


def test_per_channel_scales_are_refused_where_one_is_asked_for():
    found = dataclasses.replace(subject(), scheme=Scheme(8, 8, "min-max", per_channel=False))
    assert any("should be one for the tensor" in row.reason for row in bad(found))


def test_a_program_that_is_not_quantized_is_silent_float32():
    found = subject()
    without = {n: t for n, t in found.tensors.items() if not n.startswith("layer")}
    (row,) = bad(dataclasses.replace(found, tensors=without))
    assert "no layer is quantized" in row.reason


def test_a_program_that_is_hardly_quantized_is_silent_float32():
    found = subject()
    last = encode([layer for layer in found.layers if layer.weight == "fc2/w"])
    (row, *_) = bad(dataclasses.replace(found, tensors={**found.outputs, **last}))
    assert "silent float32" in row.reason
    assert "fc1/w" in row.reason


def test_integers_may_be_one_away_and_no_more():
    found = subject()
    (layer, *_) = found.layers
    numbers = Numbers(np.float32(0.05), np.int64(0), -128, 127)
    right = numbers.quantized(integer.expected(layer, layer.x).value)
    for away, share, verdict in (
        (0, 1.0, "bitwise"), (1, 0.004, "rounding-equal"), (1, 0.5, "divergent"),
        (2, 0.004, "divergent"),
    ):  # fmt: skip
        y = right.copy()
        y.reshape(-1)[: max(1, int(share * y.size))] += away
        told = dataclasses.replace(layer, y=y.astype(np.int16), y_numbers=numbers)
        assert quantization._layer(told).verdict == verdict


def wide_layer(rows, rng):
    """A layer of 128 channels, and its results as an honest engine has them."""
    w, x = rng.normal(size=(256, 128)), rng.normal(size=(rows, 256)).astype(np.float32)
    numbers = weight_numbers(w)
    layer = Layer(
        "w", "dense", x, numbers.quantized(w).astype(np.int8), np.empty(0), numbers, ROWS,
        bias=None, attributes={},
    )  # fmt: skip
    return layer, integer.expected(layer, layer.x).value


@pytest.mark.parametrize("rows", [4, 8, 100])
def test_a_scale_that_is_off_in_one_channel_of_128_is_found(rows):
    """All together are right to 61 dB, and 99.2% of the elements are."""
    layer, right = wide_layer(rows, np.random.default_rng(rows))
    wrong = right.copy()
    wrong[:, 17] *= 1.01
    assert quantization.sqnr(wrong, right) > quantization.SQNR

    def judged(y):
        return quantization._layer(dataclasses.replace(layer, y=np.float32(y), y_numbers=None))

    assert judged(right).verdict == "rounding-equal"
    assert judged(wrong).verdict == "divergent"
    assert "channel 17 is off" in judged(wrong).reason


def test_an_integer_that_turns_moves_a_row_and_accuses_no_channel():
    layer, right = wide_layer(64, np.random.default_rng(0))
    step = integer.expected(layer, layer.x).step
    for turned in (1, 20, 64):  # rows, of which each has one integer rounded the other way
        y = right.copy()
        y[:turned] += step[:turned] * np.random.default_rng(1).uniform(-1, 1, size=(turned, 128))
        row = quantization._layer(dataclasses.replace(layer, y=np.float32(y), y_numbers=None))
        assert "channel" not in row.reason


def test_sensitivity_names_what_each_layer_costs():
    found = subject(scheme=DYNAMIC)
    told = quantization.sensitivity(found)
    assert set(told) == {"", "fc1/w", "fc2/w"}
    assert max(told["fc1/w"], told["fc2/w"]) > told[""]


def test_sqnr():
    assert quantization.sqnr(np.ones(4), np.ones(4)) == math.inf
    assert quantization.sqnr(np.array([1.1]), np.array([1.0])) == pytest.approx(20.0)
    assert quantization.sqnr(np.array([1.0]), np.array([0.0])) == -math.inf


FINITE = st.floats(-1e3, 1e3, width=32)


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (3, 4), elements=FINITE), st.booleans(), st.sampled_from([(-1,), None]))
def test_numbers_of_a_range_are_within_half_a_step(x, symmetric, axes):
    found = Range(axes, symmetric, -127 if symmetric else 0, 127 if symmetric else 255, 127.0)
    numbers = found.numbers(x)
    q = numbers.quantized(x)
    assert q.min() >= numbers.low
    assert q.max() <= numbers.high
    steps = np.abs(numbers.real(q) - x) / np.broadcast_to(numbers.scale, x.shape)
    assert steps.max() <= (0.5 if symmetric else 1.0) + 1e-3  # an affine zero is rounded, too


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.float32, (2, 3), elements=FINITE),
    st.sampled_from([None, ROWS, Numbers(np.float32(0.5), np.int64(3), 0, 255)]),
)
def test_layers_survive_a_file(x, incoming):
    w = np.arange(6, dtype=np.int8).reshape(3, 2)
    layer = Layer(
        "a/w", "dense", x, w, x @ w, weight_numbers(w.astype(float)), incoming,
        bias=np.ones(2), attributes={"stride": 2}, relu=True, computed="bfloat16",
    )  # fmt: skip
    (back,) = decode(encode([layer]))
    assert (back.weight, back.attributes, back.relu, back.computed) == (
        "a/w", {"stride": 2}, True, "bfloat16",
    )  # fmt: skip
    assert type(back.x_numbers) is type(incoming)
    if isinstance(incoming, Range):
        assert back.x_numbers == incoming
    for name in ("x", "w", "y", "bias"):
        assert np.array_equal(getattr(back, name), getattr(layer, name))
    assert decode({"output": x}) == []


def test_precisions_of_integers_are_for_inference_but_one():
    quantized = {name: p for name, p in PRECISIONS.items() if p.scheme is not None}
    assert {name for name, p in quantized.items() if p.trains} == {"int8_qat"}
    assert not any(p.trains for name, p in quantized.items() if name != "int8_qat")


# -- layers that were seen in another program than the step's --------------------------------------


def seen_elsewhere(away):
    """A program whose layers were seen in one that ends elsewhere, so many times its error away."""
    found = subject()
    (name,) = found.outputs
    exact = found.watched[0][name]
    step = found.outputs[name] + away * (found.outputs[name] - exact)
    outputs = {name: step, name.replace("output", "seen", 1): found.outputs[name]}
    return dataclasses.replace(found, tensors={**found.tensors, **outputs})


@pytest.mark.parametrize("away", [0.0, 0.5, 1.9])
def test_an_output_that_is_as_near_as_integers_that_turned_explain_is_right(away):
    found = seen_elsewhere(away)
    assert not bad(found)
    (row,) = [row for row in quantization.judge(found) if row.quantity == "output"]
    assert ("the step's output is" in row.reason) == (away > 0)


@pytest.mark.parametrize("away", [2.1, 50.0, math.nan])
def test_an_output_further_away_is_wrong(away):
    (row,) = bad(seen_elsewhere(away))
    assert row.quantity == "output"
    assert "but should be at most 2 times as far" in row.reason


def test_the_program_whose_layers_were_seen_is_judged_by_its_layers():
    """What is wrong with both is not excused."""
    found = subject()
    (name,) = found.outputs
    wrong = dict.fromkeys((name, name.replace("output", "seen", 1)), 1.01 * found.outputs[name])
    (row,) = bad(dataclasses.replace(found, tensors={**found.tensors, **wrong}))
    assert row.quantity == "output"


def test_of_one_example_an_engine_may_leave_the_axis_out():
    found = subject("vit")
    one = {name: value[:1] for name, value in found.batch.items()}
    engine = Engine(found.params, STATIC, {n: (s.least, s.most) for n, s in found.ranges.items()},
                    honest)  # fmt: skip
    output = found.run(engine, one)
    flat = [
        dataclasses.replace(layer, x=layer.x[0]) if layer.op == "dense" else layer
        for layer in engine.layers
    ]
    told = dataclasses.replace(found, batch=one, tensors={**output, **encode(flat)})
    rows = [row for row in quantization.judge(told) if row.quantity == "between"]
    assert rows
    assert all("shape" not in row.reason for row in rows)
