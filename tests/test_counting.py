"""Counted FLOPs, parameters and bytes against PyTorch's own counter and formulas by hand."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from adapters import model as models
from adapters.counting import ELEMENT_BYTES, CountingOps, Shaped, count
from adapters.numpy_reference import NumpyOps
from adapters.ops import Unsupported

ROOT = Path(__file__).resolve().parent.parent
BATCH = 3

# PyTorch counts contractions only. `math`: the other kernels of attention compute the scores
# again in the backward pass.
FLOP_COUNTER = """
import json, sys
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from adapters import model as models
from adapters.controls.torch_native import NETWORKS

found = {}
for name, size, batch in json.loads(sys.argv[1]):
    config = models.get(name).sizes[size]
    module = NETWORKS[name](config)
    x = torch.zeros(batch, 1, config.side, config.side)
    passes = []
    for backward in (False, True):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            output = module(x)
            if backward:
                output.sum().backward()
        passes.append(counter.get_total_flops())
    found[f"{name}/{size}"] = [sum(p.numel() for p in module.parameters()), *passes]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pytorch():
    """model/size -> parameters, FLOPs of a forward pass, FLOPs of a forward and a backward pass."""
    cases = [(name, size, BATCH) for name in models.names() for size in models.get(name).sizes]
    done = subprocess.run(
        [sys.executable, "-c", FLOP_COUNTER, json.dumps(cases)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("name", models.names())
def test_contractions_and_parameters_are_those_that_pytorch_counts(pytorch, name, size):
    infer, train = (
        count(models.get(name), size, batch=BATCH, mode=mode) for mode in ("infer", "train")
    )
    found = [infer.parameters, infer.contraction_flops, train.contraction_flops]
    assert found == pytorch[f"{name}/{size}"]


def test_a_training_step_of_the_mlp_by_hand():
    n, i, h = 5, 784, 128
    counts = count(models.get("mlp"), "small", batch=n, mode="train")
    parameters = i * h + h + h * 10 + 10
    assert counts.parameters == parameters
    assert counts.flops_by_op == {
        "dense": n * (2 * i * h + h + 2 * h * 10 + 10),
        "relu": n * h,
    }
    assert counts.flops_by_part == {
        "forward": n * (2 * i * h + h + 2 * h * 10 + 10 + h),
        "loss": 5 * n * 10,
        # loss; both weights and biases; the hidden layer's gradient; not the input's
        "backward": 3 * n * 10 + n * (2 * i * h + h + 2 * h * 10 + 10) + n * (2 * h * 10 + h),
        "optimizer": 4 * parameters,
    }
    assert counts.flops == sum(counts.flops_by_part.values())
    assert counts.flops_per_example == counts.flops_by_part["forward"] / n
    # parameters and momentum are read and written
    assert counts.bytes == 4 * (n * i + 2 * 2 * parameters + 1) + 4 * n


def test_an_inference_step_of_the_mlp_by_hand():
    counts = count(models.get("mlp"), "small", batch=5)
    assert counts.flops_by_part == {"forward": counts.flops}
    assert counts.bytes == 4 * (counts.parameters + 5 * 784 + 5 * 10)


def test_buffers_are_read_and_when_training_written():
    model = models.get("convnet")
    side, buffers = 14, 2 * (4 + 8)
    infer, train = (count(model, "tiny", batch=2, mode=mode) for mode in ("infer", "train"))
    assert infer.bytes == 4 * (infer.parameters + buffers + 2 * side**2 + 2 * 10)
    assert train.bytes == 4 * (4 * train.parameters + 2 * buffers + 2 * side**2 + 1) + 4 * 2


@pytest.mark.parametrize(
    ("recipe", "flops", "slots"),
    [("sgd_momentum", 4, 1), ("sgd_momentum_clip", 7, 1), ("adamw", 16, 2), ("adamw_clip", 19, 2)],
)
def test_the_optimizer_s_share(recipe, flops, slots):
    counts = count(models.get("mlp"), "tiny", mode="train", recipe=recipe)
    assert counts.flops_by_part["optimizer"] == flops * counts.parameters
    assert counts.bytes == 4 * (14**2 + 2 * (1 + slots) * counts.parameters + 1) + 4


def test_the_recipe_is_the_model_s_own_when_none_is_named():
    for name in models.names():
        model = models.get(name)
        own = count(model, "tiny", mode="train")
        assert own == count(model, "tiny", mode="train", recipe=model.recipe)
        assert own != count(model, "tiny", mode="train", recipe="adamw")


def test_bytes_follow_the_precision_and_flops_do_not():
    counts = {p: count(models.get("vit"), "tiny", precision=p) for p in ELEMENT_BYTES}
    assert len({c.flops for c in counts.values()}) == 1
    assert counts["fp64"].bytes == 2 * counts["fp32"].bytes == 4 * counts["bf16"].bytes
    assert counts["fp16"].bytes == counts["bf16"].bytes
    with pytest.raises(Unsupported, match="precision 'fp23'; there are fp64, fp32, bf16, fp16"):
        count(models.get("vit"), "tiny", precision="fp23")


def test_attention_grows_with_the_square_of_the_length():
    model = models.get("vit")
    width, depth, heads = 128, 4, 4
    for length in model.lengths:
        counts = count(model, "small", length=length)
        wanted = depth * length**2 * (4 * width + 6 * heads)
        assert counts.flops_by_op["attention"] == wanted
    own = model.sizes["small"].tokens
    for mode in ("infer", "train"):
        fits = count(model, "small", length=own, mode=mode)
        assert fits == count(model, "small", mode=mode)


# -- the backward pass, by operation ---------------------------------------------------------------

NORM = {"epsilon": 1e-5}
RUNNING = {"mean": Shaped((3,)), "var": Shaped((3,)), "momentum": 0.1, **NORM}


def parameter(*shape):
    return Shaped(shape, needs_gradient=True)


@pytest.mark.parametrize(
    ("made", "flops"),
    [
        (lambda ops, x: ops.add(x, x), 0),
        (lambda ops, x: ops.add(x, parameter(3)), 6),
        (lambda ops, x: ops.multiply(x, x), 2 * 6),
        (lambda ops, x: ops.multiply(x, parameter(3)), 3 * 6),
        (lambda ops, x: ops.multiply(x, Shaped((3,))), 6),
        (lambda ops, x: ops.broadcast_to(x, (4, 2, 3)), 4 * 6),
        (lambda ops, x: ops.broadcast_to(x, (2, 3)), 0),
        (lambda ops, x: ops.relu(x), 6),
        (lambda ops, x: ops.gelu(x), 7 * 6),
        (lambda ops, x: ops.softmax(x), 4 * 6),
        (lambda ops, x: ops.mean(x, axis=1), 2),
        (lambda ops, x: ops.matmul(x, parameter(3, 5)), 2 * (2 * 2 * 3 * 5)),
        (lambda ops, x: ops.matmul(x, Shaped((3, 5))), 2 * 2 * 3 * 5),
        (lambda ops, x: ops.matmul(Shaped((5, 2)), x), 2 * 5 * 2 * 3),
        (lambda ops, x: ops.dense(Shaped((4, 2)), x, parameter(3)), 2 * 4 * 2 * 3 + 4 * 3),
        (lambda ops, x: ops.layer_norm(x, parameter(3), parameter(3), **NORM), 11 * 6),
        (lambda ops, x: ops.layer_norm(x, Shaped((3,)), Shaped((3,)), **NORM), 8 * 6),
        (
            lambda ops, x: ops.batch_norm(x, parameter(3), parameter(3), train=True, **RUNNING)[0],
            11 * 6,
        ),
        (
            lambda ops, x: ops.batch_norm(x, parameter(3), parameter(3), train=False, **RUNNING)[0],
            5 * 6,
        ),
        (lambda ops, x: ops.cross_entropy(x, Shaped((2,))), 3 * 6),
        (lambda ops, x: ops.concat([x, Shaped((4, 3))], axis=0), 0),
        (lambda ops, x: ops.transpose(ops.flatten(ops.slice(x, axis=0, start=0, stop=1)), (1, 0)),
         0),
    ],
)  # fmt: skip
def test_the_backward_pass_of(made, flops):
    """For a (2, 3) tensor that needs a gradient; and nothing is counted where nothing does."""
    ops = CountingOps()
    assert made(ops, parameter(2, 3)).needs_gradient
    assert ops.backward.total() == flops


@pytest.mark.parametrize(
    ("q", "k", "v", "products", "softmax"),
    [
        (True, True, True, 4, 5),
        (True, False, False, 2, 5),  # through the scores: their own, and the query's
        (False, False, True, 1, 0),
        (False, False, False, 0, 0),
    ],
)
def test_the_backward_pass_of_attention(q, k, v, products, softmax):
    ops = CountingOps()
    n, s, heads, d = 2, 3, 4, 5
    y = ops.attention(*(Shaped((n, s, heads, d), needs_gradient=needs) for needs in (q, k, v)))
    scores = n * heads * s * s
    assert y.shape == (n, s, heads, d)
    assert y.needs_gradient == (q or k or v)
    assert ops.backward.total() == scores * (products * 2 * d + softmax)
    assert ops.contraction_flops == scores * (2 + products) * 2 * d


def test_the_input_s_gradient_is_not_counted():
    ops = CountingOps()
    x, w = Shaped((1, 8, 8, 3)), parameter(3, 3, 3, 5)
    y = ops.conv2d(x, w)
    assert ops.backward == ops.flops  # one product, for the weights
    ops.conv2d(y, parameter(3, 3, 5, 7))
    first, second = 2 * 6 * 6 * 27 * 5, 2 * 4 * 4 * 45 * 7
    assert ops.backward.total() == first + 2 * second


def test_inference_needs_no_gradient():
    ops = CountingOps()
    assert not ops.dense(Shaped((2, 3)), Shaped((3, 4)), Shaped((4,))).needs_gradient
    assert not ops.constant(np.zeros(3)).needs_gradient
    assert ops.backward.total() == 0


def test_a_tensor_of_shapes_may_carry_more():
    """The graph values of an implementation that only needs the shapes."""

    @dataclass(frozen=True)
    class Value(Shaped):
        name: str

    x = Value((2, 3), "x")
    assert (x.name, x.size, x.needs_gradient) == ("x", 6, False)
    assert CountingOps().transpose(x, (1, 0)).shape == (3, 2)


# -- the derivative rules themselves ---------------------------------------------------------------


def test_the_formulas_of_the_docstring_are_derivatives():
    """What is counted computes the gradient: against the complex step through the reference."""
    ops = NumpyOps()
    rng = np.random.default_rng(0)
    x, g, scale = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=3)

    def stepped(function):
        gradient = np.zeros_like(x)
        for place in np.ndindex(x.shape):
            moved = x.astype(complex)
            moved[place] += 1e-30j
            gradient[place] = np.sum(function(moved) * g).imag / 1e-30
        return gradient

    gelu = g * (stats.norm.cdf(x) + x * stats.norm.pdf(x))
    np.testing.assert_allclose(stepped(ops.gelu), gelu, atol=1e-12)

    y = ops.softmax(x)
    softmax = y * (g - np.sum(g * y, axis=-1, keepdims=True))
    np.testing.assert_allclose(stepped(ops.softmax), softmax, atol=1e-12)

    sigma = np.sqrt(x.var(axis=-1, keepdims=True) + NORM["epsilon"])
    n, h = (x - x.mean(axis=-1, keepdims=True)) / sigma, g * scale
    normalised = (h - h.mean(-1, keepdims=True) - n * (h * n).mean(-1, keepdims=True)) / sigma
    found = stepped(lambda x: ops.layer_norm(x, scale, np.zeros(3), **NORM))
    np.testing.assert_allclose(found, normalised, atol=1e-12)
