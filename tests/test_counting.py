"""Counted FLOPs, parameters and bytes against PyTorch's own counter and formulas by hand."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from adapters import counting
from adapters import model as models
from adapters.counting import ELEMENT_BYTES, CountingOps, Shaped, count
from adapters.numpy_reference import NumpyOps
from adapters.ops import FORMS, NAMES, Ops, Unsupported
from adapters.resizing import matrix
from adapters.training import KNOBS, RECIPES

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


CONTROLLED = ("mlp", "convnet", "vit")  # models over images that PyTorch has as modules, too


@pytest.fixture(scope="module")
def pytorch():
    """model/size -> parameters, FLOPs of a forward pass, FLOPs of a forward and a backward pass."""
    cases = [(name, size, BATCH) for name in CONTROLLED for size in ("tiny", "small")]
    done = subprocess.run(
        [sys.executable, "-c", FLOP_COUNTER, json.dumps(cases)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("name", CONTROLLED)
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
    [
        ("sgd", 2, 0),
        ("sgd_momentum", 4, 1),
        ("sgd_nesterov", 6, 1),
        ("sgd_dampening", 5, 1),
        ("sgd_momentum_clip", 7, 1),
        ("sgd_clip_value", 4, 0),
        ("sgd_coupled_decay", 6, 1),
        ("sgd_decoupled_decay", 6, 1),
        ("sgd_cosine", 4, 1),
        ("adam", 14, 2),
        ("adam_coupled_decay", 16, 2),
        ("adamw", 16, 2),
        ("adamw_clip", 19, 2),
        ("nadam", 16, 2),
        ("amsgrad", 15, 3),
        ("rmsprop", 9, 1),
        ("rmsprop_momentum", 11, 2),
        ("adagrad", 7, 1),
    ],
)
def test_the_optimizer_s_share(recipe, flops, slots):
    counts = count(models.get("mlp"), "tiny", mode="train", recipe=recipe)
    assert counts.flops_by_part["optimizer"] == flops * counts.parameters
    assert counts.bytes == 4 * (14**2 + 2 * (1 + slots) * counts.parameters + 1) + 4


def test_micro_batches_cost_the_mean_of_their_gradients():
    whole, parts = (
        count(models.get("mlp"), "tiny", batch=4, mode="train", recipe=recipe)
        for recipe in ("sgd_momentum", "sgd_accumulation")
    )
    k = RECIPES["sgd_accumulation"].accumulation
    assert k > 1
    assert parts.flops - whole.flops == k * whole.parameters
    assert parts.bytes == whole.bytes


def test_every_optimizer_is_counted():
    assert set(counting.OPTIMIZER_FLOPS) == set(counting.OPTIMIZER_SLOTS) == set(KNOBS)


def test_the_recipe_is_the_model_s_own_when_none_is_named():
    for name in models.names():
        model = models.get(name)
        own = count(model, "tiny", mode="train")
        assert own == count(model, "tiny", mode="train", recipe=model.recipe)
        assert own != count(model, "tiny", mode="train", recipe="amsgrad")


def test_bytes_follow_the_precision_and_flops_do_not():
    counts = {p: count(models.get("vit"), "tiny", precision=p) for p in ELEMENT_BYTES}
    assert len({c.flops for c in counts.values()}) == 1
    assert counts["fp64"].bytes == 2 * counts["fp32"].bytes == 4 * counts["bf16"].bytes
    assert counts["fp16"].bytes == counts["bf16"].bytes
    with pytest.raises(Unsupported, match="precision 'fp23'; there are fp64, fp32, "):
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
        (lambda ops, x: ops.cross_entropy(x, Shaped((2,)), smoothing=0.1), 3 * 6),
        (lambda ops, x: ops.cross_entropy(x, Shaped((2,)), weights=Shaped((3,))), 4 * 6),
        (lambda ops, x: ops.pad(x, ((1, 0), (2, 3))), 0),
        (lambda ops, x: ops.take(x, Shaped((5, 4)), axis=1), 2 * 5 * 4),
        (lambda ops, x: ops.embedding(x, Shaped((4,)), padding_index=0), 4 * 3),
        (lambda ops, x: ops.where(Shaped((2, 3)), x, x), 0),
        (lambda ops, x: ops.where(Shaped((4, 2, 3)), x, Shaped(())), 4 * 6),
        (lambda ops, x: ops.subtract(x, parameter(3)), (1 + 1) * 6),  # -g, and its sum
        (lambda ops, x: ops.subtract(x, Shaped((3,))), 0),
        (lambda ops, x: ops.divide(x, parameter(3)), (1 + 3 + 1) * 6),
        (lambda ops, x: ops.divide(x, Shaped((3,))), 6),
        (lambda ops, x: ops.maximum(x, parameter(3)), (2 + 1) * 6),
        (lambda ops, x: ops.minimum(x, parameter(3)), (2 + 1) * 6),
        (lambda ops, x: ops.gather(x, Shaped((2, 5))), 2 * 5),
        (lambda ops, x: ops.top_k(x, 2)[0], 2 * 2),
        (lambda ops, x: ops.sin(x), 2 * 6),
        (lambda ops, x: ops.cos(x), 3 * 6),
        (lambda ops, x: ops.clip(x, 0.0, 1.0), 6),
        (lambda ops, x: ops.absolute(x), 6),
        (lambda ops, x: ops.exp(x), 6),
        (lambda ops, x: ops.log(x), 6),
        (lambda ops, x: ops.sqrt(x), 2 * 6),
        (lambda ops, x: ops.tanh(x), 3 * 6),
        (lambda ops, x: ops.sigmoid(x), 3 * 6),
        (lambda ops, x: ops.silu(x), 5 * 6),
        (lambda ops, x: ops.softplus(x), 5 * 6),
        (lambda ops, x: ops.leaky_relu(x, slope=0.1), 6),
        (lambda ops, x: ops.gelu_tanh(x), 9 * 6),
        (lambda ops, x: ops.dropout(x, rate=0.5, seed=0), 6),
        (lambda ops, x: ops.sum(x, axis=0), 0),
        (lambda ops, x: ops.variance(x, axis=0), 6 + 3),
        (lambda ops, x: ops.max(x, axis=1), 3 * 6 + 2),
        (lambda ops, x: ops.median(x), 3 * 6 + 2),
        (lambda ops, x: ops.norm(x, axis=0), 6 + 3),
        (lambda ops, x: ops.rms_norm(x, parameter(3), **NORM), 8 * 6),
        (lambda ops, x: ops.group_norm(x, parameter(3), parameter(3), groups=3, **NORM), 11 * 6),
        (lambda ops, x: ops.bce_with_logits(x, Shaped((2, 3))), 6 * 6),
        (lambda ops, x: ops.bce_with_logits(x, x), 7 * 6),
        (lambda ops, x: ops.mse(x, Shaped((2, 3))), 6),
        (lambda ops, x: ops.mse(Shaped((2, 3)), x), 6),
        (lambda ops, x: ops.smooth_l1(x, x, beta=1.0), 5 * 6),
        (lambda ops, x: ops.avg_pool2d(ops.reshape(x, (1, 2, 3, 1)), window=2, stride=1), 2 * 5),
        (lambda ops, x: ops.resize(ops.reshape(x, (1, 2, 3, 1)), (4, 6), method="nearest"), 24),
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


def test_the_comparisons_of_the_largest_k():
    for n, k, compared in ((8, 1, 7), (8, 2, 7 - 1 + 3), (5, 5, 1 + 2 + 2 + 3), (1, 1, 0)):
        ops = CountingOps()
        values, indices = ops.top_k(parameter(3, n), k)
        assert values.shape == indices.shape == (3, k)
        assert (values.needs_gradient, indices.needs_gradient) == (True, False)
        assert ops.flops.total() == 3 * compared
    with pytest.raises(ValueError, match="there are no 4 values"):
        CountingOps().top_k(Shaped((2, 3)), 4)


def test_convolutions_in_three_dimensions():
    ops = CountingOps()
    x, w = Shaped((2, 4, 7, 9, 3)), parameter(1, 3, 3, 3, 5)
    y = ops.conv3d(x, w, stride=(1, 2, 2), padding=(0, 1, 1))
    assert y.shape == (2, 4, 4, 5, 5)
    assert ops.flops.total() == ops.backward.total() == 2 * (2 * 4 * 4 * 5 * 5) * (1 * 3 * 3 * 3)
    ops = CountingOps()
    w, b = parameter(2, 2, 2, 3, 5), parameter(5)
    y = ops.conv_transpose3d(Shaped((2, 4, 3, 2, 3)), w, b, stride=2)
    assert y.shape == (2, 8, 6, 4, 5)
    products = 2 * (2 * 4 * 3 * 2) * w.size
    assert ops.flops.total() == ops.backward.total() == products + y.size
    with pytest.raises(ValueError, match="channels differ"):
        CountingOps().conv_transpose3d(x, parameter(2, 2, 2, 4, 5))


def test_a_padded_pool():
    ops = CountingOps()
    y = ops.max_pool2d(parameter(1, 6, 5, 2), window=3, stride=2, padding=1)
    assert y.shape == (1, 3, 3, 2)
    assert (ops.flops.total(), ops.backward.total()) == (8 * 18, 18)


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_a_scan_counts_all_steps(steps):
    """Also the first ones, in which a part of the state does not need a gradient yet."""
    w, x = parameter(3, 3), Shaped((steps, 2, 3))

    def body(ops):
        return lambda state, x: (ops.tanh(ops.add(state[1], x)), ops.dense(state[0], w))

    once, each = CountingOps(), CountingOps()
    start = state = (Shaped((2, 3)), Shaped((2, 3)))
    for _ in range(steps):
        state = body(each)(state, Shaped((2, 3)))
    assert once.scan(body(once), start, x) == state
    assert (once.flops, once.backward) == (each.flops, each.backward)
    assert once.contraction_flops == each.contraction_flops


def test_a_branch_counts_as_the_larger():
    for branches in (("exp", "gelu"), ("gelu", "exp")):
        ops = CountingOps()
        true, false = (getattr(ops, name) for name in branches)
        y = ops.cond(Shaped(()), true, false, parameter(2, 3))
        assert y == parameter(2, 3)
        assert (ops.flops, ops.backward) == ({"gelu": 5 * 6}, {"gelu": 7 * 6})
    assert not CountingOps().stop_gradient(y).needs_gradient


def test_a_mask_costs_nothing_and_keys_may_be_fewer_than_queries():
    ops = CountingOps()
    q, k = Shaped((2, 3, 4, 5)), Shaped((2, 7, 4, 5))
    y = ops.attention(q, k, k, mask=Shaped((3, 7)), causal=True)
    assert y.shape == q.shape
    assert ops.flops.total() == 2 * 4 * 3 * 7 * (2 * 2 * 5 + 6)


@pytest.mark.parametrize(
    ("stepped", "first_state"),
    [(True, True), (True, False), (False, True), (False, False)],
)
def test_the_backward_pass_of_recurrences(stepped, first_state):
    """The products of a step with x, w, h and u; the state of all but the first step needs a
    gradient if anything does."""
    n, s, i, h = 2, 5, 3, 4
    x, w, b = (Shaped(shape, needs_gradient=stepped) for shape in ((n, s, i), (i, 4 * h), (4 * h,)))
    u, state = Shaped((h, 4 * h)), Shaped((n, h), needs_gradient=first_state)
    ops = CountingOps()
    y, last, cell = ops.lstm(x, state, state, w, u, b)
    assert (y.shape, last.shape, cell.shape) == ((n, s, h), (n, h), (n, h))
    of_x, of_h = 2 * n * i * 4 * h, 2 * n * h * 4 * h  # of one step
    assert ops.flops.total() == s * (of_x + of_h + 26 * n * h)
    some = stepped or first_state
    assert y.needs_gradient == last.needs_gradient == cell.needs_gradient == some
    wanted = stepped * (2 * s * of_x + s * 4 * n * h)  # x and w; b
    wanted += first_state * of_h + some * ((s - 1) * of_h + s * 21 * n * h)
    assert ops.backward.total() == wanted


def test_a_gru_by_hand():
    n, s, i, h = 2, 5, 3, 4
    x, w, u, b = Shaped((n, s, i)), parameter(i, 3 * h), parameter(h, 3 * h), parameter(3 * h)
    ops = CountingOps()
    y, last = ops.gru(x, Shaped((n, h)), w, u, b, b)
    assert (y.shape, last.shape) == ((n, s, h), (n, h))
    of_x, of_h = 2 * n * i * 3 * h, 2 * n * h * 3 * h
    assert ops.flops.total() == s * (of_x + of_h + 23 * n * h)
    # w; u; every state but the first; the gates; both biases
    wanted = s * of_x + s * of_h + (s - 1) * of_h + s * n * h * (15 + 2 * 3)
    assert ops.backward.total() == wanted
    assert ops.contraction_flops == s * (of_x + of_h) + s * of_x + (2 * s - 1) * of_h


def test_convolutions_by_hand():
    ops = CountingOps()
    x = Shaped((2, 9, 8, 4))
    y = ops.conv2d(x, Shaped((3, 2, 2, 6)), stride=2, padding=1, dilation=2, groups=2)
    assert y.shape == (2, 4, 4, 6)
    assert ops.flops.total() == 2 * (2 * 4 * 4 * 6) * (3 * 2 * 2)
    ops = CountingOps()
    y = ops.conv_transpose2d(
        x, parameter(3, 2, 4, 5), parameter(5), stride=2, padding=1, output_padding=1
    )
    assert y.shape == (2, 18, 15, 5)
    products = 2 * (2 * 9 * 8 * 4) * (3 * 2 * 5)
    assert ops.contraction_flops == 2 * products  # and one for the weights' gradient
    assert ops.flops.total() == products + 2 * 18 * 15 * 5
    assert ops.backward.total() == products + 2 * 18 * 15 * 5


def test_resizing_by_hand():
    """From 4 x 3 to 2 x 6: rows have 2 weights that are not 0, columns 2 but 1 at both edges."""
    ops = CountingOps()
    y = ops.resize(parameter(2, 4, 3, 5), (2, 6), method="bilinear")
    assert y.shape == (2, 2, 6, 5)
    wanted = 2 * 2 * 5 * (2 * 2 * 3 + (1 + 2 + 2 + 2 + 2 + 1) * 2)
    assert (ops.flops.total(), ops.backward.total()) == (wanted, wanted)
    assert np.count_nonzero(matrix(3, 6, method="bilinear", antialias=False)) == 10


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


#: Forward FLOPs per element of a (2, 3) tensor.
ELEMENTWISE = {
    "absolute": 1, "exp": 1, "log": 1, "sqrt": 1, "tanh": 1, "relu": 1, "to_int8": 3, "sigmoid": 4,
    "silu": 5, "gelu": 5, "softmax": 5, "softplus": 6, "gelu_tanh": 9,
}  # fmt: skip


@pytest.mark.parametrize(("name", "flops"), ELEMENTWISE.items())
def test_the_forward_pass_of_elementwise(name, flops):
    ops = CountingOps()
    assert getattr(ops, name)(Shaped((2, 3))).shape == (2, 3)
    assert ops.flops == {name: 6 * flops}


@pytest.mark.parametrize(
    ("made", "shape", "flops"),
    [
        (lambda ops, x: ops.pad(x, ((1, 0), (2, 3))), (3, 8), 0),
        (lambda ops, x: ops.take(x, Shaped((5, 4)), axis=0), (5, 4, 3), 0),
        (lambda ops, x: ops.embedding(x, Shaped((5, 4))), (5, 4, 3), 0),
        (lambda ops, x: ops.where(Shaped((4, 1, 1)), x, Shaped(())), (4, 2, 3), 0),
        (lambda ops, x: ops.subtract(x, Shaped((4, 1, 1))), (4, 2, 3), 24),
        (lambda ops, x: ops.divide(x, Shaped(())), (2, 3), 6),
        (lambda ops, x: ops.maximum(x, x), (2, 3), 6),
        (lambda ops, x: ops.greater(x, Shaped((3,))), (2, 3), 6),
        (lambda ops, x: ops.floor_divide(x, Shaped((4, 1, 1))), (4, 2, 3), 0),
        (lambda ops, x: ops.clip(x, 0.0, 1.0), (2, 3), 2 * 6),
        (lambda ops, x: ops.leaky_relu(x, slope=0.1), (2, 3), 2 * 6),
        (lambda ops, x: ops.dropout(x, rate=0.5, seed=0), (2, 3), 6),
        (lambda ops, x: ops.sum(x, axis=(0, 1)), (), 6),
        (lambda ops, x: ops.mean(x, axis=-1), (2,), 6),
        (lambda ops, x: ops.variance(x, axis=0, correction=1), (3,), 4 * 6),
        (lambda ops, x: ops.max(x, axis=1), (2,), 2 * 2),
        (lambda ops, x: ops.argmax(x, axis=0), (3,), 3),
        (lambda ops, x: ops.median(x), (2,), 3 * 6),
        (lambda ops, x: ops.norm(x, axis=1), (2,), 2 * 6 + 2),
        (lambda ops, x: ops.rms_norm(x, Shaped((3,)), **NORM), (2, 3), 4 * 6),
        (
            lambda ops, x: ops.group_norm(x, Shaped((3,)), Shaped((3,)), groups=1, **NORM),
            (2, 3), 8 * 6,
        ),
        (lambda ops, x: ops.cross_entropy(x, Shaped((2,))), (), 5 * 6),
        (lambda ops, x: ops.cross_entropy(x, Shaped((2,)), ignore=1), (), 5 * 6),
        (lambda ops, x: ops.cross_entropy(x, Shaped((2,)), smoothing=0.1), (), 7 * 6),
        (
            lambda ops, x: ops.cross_entropy(
                x, Shaped((2,)), weights=Shaped((3,)), smoothing=0.1
            ),
            (), 8 * 6 + 2 * 2,
        ),
        (lambda ops, x: ops.bce_with_logits(x, x), (), 9 * 6),
        (lambda ops, x: ops.mse(x, x), (), 3 * 6),
        (lambda ops, x: ops.smooth_l1(x, x, beta=1.0), (), 7 * 6),
        (
            lambda ops, x: ops.avg_pool2d(
                ops.reshape(x, (1, 2, 3, 1)), window=2, stride=1, padding=1
            ),
            (1, 3, 4, 1), 4 * 12,
        ),
        (
            lambda ops, x: ops.conv3d(ops.reshape(x, (1, 1, 2, 3, 1)), Shaped((1, 2, 2, 1, 7))),
            (1, 1, 1, 2, 7), 2 * 14 * 4,
        ),
    ],
)  # fmt: skip
def test_the_forward_pass_of(made, shape, flops):
    """For a (2, 3) tensor."""
    ops = CountingOps()
    assert made(ops, Shaped((2, 3))).shape == shape
    assert ops.flops.total() == flops


def test_every_operation_is_counted_and_the_forms_that_models_use():
    counted = {*NAMES, "stop_gradient", "cond", "scan"} - {"shape", "flatten"}
    for name in (*NAMES, *FORMS):
        is_counted = getattr(CountingOps, name) is not getattr(Ops, name)
        assert is_counted == (name in counted), name


def test_what_has_no_gradient():
    ops = CountingOps()
    x = parameter(2, 3)
    for y in (ops.greater(x, x), ops.argmax(x, axis=0), ops.to_int8(x), ops.floor_divide(x, x)):
        assert not y.needs_gradient


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda ops: ops.conv_transpose2d(Shaped((1, 4, 4, 3)), Shaped((3, 3, 2, 5))), "channels"),
        (lambda ops: ops.conv3d(Shaped((1, 4, 4, 4, 3)), Shaped((3, 3, 3, 2, 5))), "channels"),
        (lambda ops: ops.conv2d(Shaped((1, 4, 4, 4)), Shaped((3, 3, 4, 4)), groups=2), "channels"),
        (
            lambda ops: ops.group_norm(
                Shaped((1, 4)), Shaped((4,)), Shaped((4,)), groups=3, epsilon=0.0
            ),
            "3 groups do not divide",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(made, problem):
    with pytest.raises(ValueError, match=problem):
        made(CountingOps())


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

    a = np.sqrt(2 / np.pi)
    t, b = np.tanh(a * (x + 0.044715 * x**3)), 3 * 0.044715 * a
    gelu_tanh = g * ((1 + t) / 2 + x / 2 * (1 - t * t) * (a + b * x * x))
    np.testing.assert_allclose(stepped(ops.gelu_tanh), gelu_tanh, atol=1e-12)

    s = ops.sigmoid(x)
    np.testing.assert_allclose(stepped(ops.silu), g * s * (1 + x * (1 - s)), atol=1e-12)
    np.testing.assert_allclose(stepped(ops.softplus), g * s, atol=1e-12)

    y = ops.softmax(x)
    softmax = y * (g - np.sum(g * y, axis=-1, keepdims=True))
    np.testing.assert_allclose(stepped(ops.softmax), softmax, atol=1e-12)

    sigma = np.sqrt(x.var(axis=-1, keepdims=True) + NORM["epsilon"])
    n, h = (x - x.mean(axis=-1, keepdims=True)) / sigma, g * scale
    normalised = (h - h.mean(-1, keepdims=True) - n * (h * n).mean(-1, keepdims=True)) / sigma
    found = stepped(lambda x: ops.layer_norm(x, scale, np.zeros(3), **NORM))
    np.testing.assert_allclose(found, normalised, atol=1e-12)

    root = np.sqrt((x * x).mean(axis=-1, keepdims=True) + NORM["epsilon"])
    n = x / root
    normalised = (h - n * (h * n).mean(-1, keepdims=True)) / root
    found = stepped(lambda x: ops.rms_norm(x, scale, **NORM))
    np.testing.assert_allclose(found, normalised, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in models.names() for size in models.get(name).published],
)
def test_full_sizes_are_as_published(name, size):
    model = models.get(name)
    published, config = model.published[size], model.sizes[size]
    params, _ = model.initial(config, np.random.default_rng(0))
    counted = sum(v.size for n, v in params.items() if not n.startswith(published.without))
    assert counted == published.parameters
    if published.gmac is not None:
        gmac = count(model, size).contraction_flops / 2e9
        assert gmac == pytest.approx(published.gmac, rel=0.02)


def test_the_sizes_that_everybody_cites_are_there():
    wanted = {"resnet50": 25_557_032, "vit": 86_567_656, "bert": 109_482_240, "gpt": 124_439_808}
    found = {name: models.get(name).published["full"].parameters for name in wanted}
    assert found == wanted
