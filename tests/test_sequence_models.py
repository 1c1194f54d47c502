"""Perceptrons, sequence models and the like, in NumPy float64: what they compute, that they can be
differentiated, and that no decision they take is near a tie."""

from dataclasses import replace

import numpy as np
import pytest

from adapters import layers, trees
from adapters import model as models
from adapters.counting import CountingOps, Shaped, count
from adapters.models import bert, branching, dlrm, gpt, moe
from adapters.numpy_reference import NumpyOps

MODELS = (
    "halving convnet_dropout branching sequence_loop self_attention lstm gru bert gpt moe dlrm vit"
).split()
PUBLISHED = ("vit", "bert", "gpt")
OPS = NumpyOps()
STEP = 2.0**-100  # along the imaginary axis
NEAR = 1e-6  # along the real axis: no kink of a ReLU is closer
MARGIN = 1e-4  # of a decision, far above what float32 rounds


def made(name, size="tiny", batch=0):
    """(the model, its configuration, parameters, inputs, targets)"""
    model = models.get(name)
    config = model.sizes[size]
    params, _ = model.initial(config, np.random.default_rng(0))
    examples = model.example(config, batch or model.batch[size])
    return model, config, params, trees.part(examples, "x"), trees.part(examples, "y")


def loss(name, params, *, size="tiny"):
    model, config, _, x, y = made(name, size)
    output, _ = model.forward(OPS, params, x, config=config, train=True)
    return model.loss(OPS, output, y)


class Shapes:
    """A generator whose normal numbers take no memory, to count parameters of large models."""

    def normal(self, mean, deviation, shape):
        return np.broadcast_to(0.0, shape)

    def uniform(self, low, high, shape):
        return np.broadcast_to(0.0, shape)


# -- every model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("name", MODELS)
def test_values_are_of_order_one_when_training_starts(name, size):
    model, config, params, x, y = made(name, size)
    output, buffers = model.forward(OPS, params, x, config=config, train=True)
    assert buffers == {}
    for value in trees.leaves(output):
        assert value.shape[0] == model.batch[size]
        assert 0.05 < np.std(value) < 3
    assert 0 < model.loss(OPS, output, y) < 10


@pytest.mark.parametrize("name", MODELS)
def test_the_slope_of_the_loss_is_its_central_difference(name):
    params, rng = made(name)[2], np.random.default_rng(1)
    way = {n: rng.normal(size=v.shape) for n, v in params.items()}

    def moved(step):
        return loss(name, {n: v + step * way[n] for n, v in params.items()})

    slope = np.imag(moved(1j * STEP)) / STEP
    assert slope == pytest.approx((moved(NEAR) - moved(-NEAR)) / (2 * NEAR), rel=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_moves_the_loss(name):
    params, rng = made(name)[2], np.random.default_rng(2)
    for moved, value in params.items():
        there = params | {moved: value + 1j * STEP * rng.normal(size=value.shape)}
        assert abs(np.imag(loss(name, there))) / STEP > 1e-6, moved


@pytest.mark.parametrize("name", sorted({*MODELS} - {"branching"}))
def test_an_example_does_not_depend_on_its_neighbours(name):
    model, config, params, x, _ = made(name)
    together, _ = model.forward(OPS, params, x, config=config, train=False)
    alone, _ = model.forward(
        OPS, params, trees.over(lambda t: t[1:2], x), config=config, train=False
    )
    for one, all_ in zip(trees.leaves(alone), trees.leaves(together), strict=True):
        np.testing.assert_allclose(one, all_[1:2], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", MODELS)
def test_an_example_is_the_same_in_a_larger_batch(name):
    model = models.get(name)
    few, many = (model.example(model.sizes["tiny"], batch) for batch in (2, 5))
    for part, value in few.items():
        np.testing.assert_array_equal(value, many[part][:2])


@pytest.mark.parametrize("name", [name for name in MODELS if models.get(name).lengths])
def test_a_sequence_can_have_every_length_of_the_sweep(name):
    model = models.get(name)
    for size in model.sizes:
        for length in model.lengths:
            config = model.config(size, length)
            assert {config.tokens if name == "vit" else config.length} == {length}
    config = model.config("tiny", model.lengths[1])
    params, _ = model.initial(config, np.random.default_rng(0))
    x = trees.part(model.example(config, 2), "x")
    output, _ = model.forward(OPS, params, x, config=config, train=False)
    assert all(np.isfinite(value).all() for value in trees.leaves(output))


@pytest.mark.parametrize("name", ["sequence_loop", "self_attention", "lstm", "gru", "moe"])
def test_a_length_in_rows_is_one_of_whole_digits(name):
    with pytest.raises(ValueError, match="12 rows, but should be a multiple of 8"):
        models.get(name).config("tiny", 12)


@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("name", MODELS)
def test_operations_are_counted(name, mode):
    counts = count(models.get(name), "tiny", batch=2, mode=mode)
    assert counts.parameters == sum(value.size for value in made(name)[2].values())
    assert 0 < counts.contraction_flops < counts.flops


# -- what was published ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_published(name):
    model = models.get(name)
    published = model.published["full"]
    params, _ = model.initial(model.sizes["full"], Shapes())
    own = [v.size for n, v in params.items() if not n.startswith(published.without or "\0")]
    assert sum(own) == published.parameters


def test_multiply_adds_of_vit_are_as_published():
    model = models.get("vit")
    config, published = model.sizes["full"], model.published["full"]
    params, _ = model.initial(config, Shapes())
    ops = CountingOps()
    x = Shaped((1, config.side, config.side, config.channels))
    shaped = {name: Shaped(value.shape) for name, value in params.items()}
    model.forward(ops, shaped, x, config=config, train=False)
    assert ops.contraction_flops / 2e9 == pytest.approx(published.gmac, rel=0.01)


# -- decisions are not near a tie ------------------------------------------------------------------


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_next_token_is_no_near_tie(size):
    model, config, params, x, _ = made("gpt", size)
    logits, _ = model.generate(OPS, params, x, config=config)
    first, second = np.sort(logits, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
    assert (first - second).min() > 1e-3


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_choice_of_experts_is_no_near_tie(size):
    _, config, params, x, _ = made("moe", size)
    gates, _, _ = moe.gating(OPS, params, x, config=config)
    ordered = np.sort(gates, axis=-1)[..., ::-1]  # the order of the two matters, too
    assert (ordered[..., : moe.CHOICES] - ordered[..., 1 : moe.CHOICES + 1]).min() > MARGIN


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_branch_is_no_near_tie(size):
    _, _, params, x, _ = made("branching", size)
    h = branching.hidden(OPS, params, x)
    assert abs(h.mean()) > 0.01 * h.std()


# -- single models ---------------------------------------------------------------------------------


def test_dropout_is_for_training_and_takes_its_mask_from_the_batch():
    model, config, params, x, _ = made("convnet_dropout")
    no_mask = {**x, "keep": np.ones_like(x["keep"])}
    run = {
        (mask, train): model.forward(OPS, params, batch, config=config, train=train)[0]
        for mask, batch in (("drawn", x), ("ones", no_mask))
        for train in (True, False)
    }
    np.testing.assert_array_equal(run["drawn", False], run["ones", True])
    assert np.abs(run["drawn", True] - run["drawn", False]).max() > 0.1


def test_the_branch_is_softmax_above_zero_and_sigmoid_below():
    model, config, params, x, _ = made("branching")
    h = branching.hidden(OPS, params, x)
    for sign, activation in ((1, OPS.softmax), (-1, OPS.sigmoid)):
        away = sign * (abs(h.mean()) + 1)
        there = params | {"fc1/b": params["fc1/b"] + away}
        output, _ = model.forward(OPS, there, x, config=config, train=False)
        wanted = OPS.dense(activation(h + away), params["fc2/w"], params["fc2/b"])
        np.testing.assert_allclose(output, wanted, rtol=1e-12)


def test_padding_and_what_is_not_asked_for_do_not_count_in_bert():
    model, config, params, x, y = made("bert")
    assert not x["mask"].all()
    assert (y["tokens"] == bert.NOT_ASKED).any()
    other = {**x, "ids": np.where(x["mask"], x["ids"], 7)}
    found, changed = (
        model.forward(OPS, params, batch, config=config, train=True)[0] for batch in (x, other)
    )
    assert (found["tokens"] != changed["tokens"]).any()
    np.testing.assert_array_equal(found["tokens"][x["mask"]], changed["tokens"][x["mask"]])
    np.testing.assert_array_equal(found["class"], changed["class"])
    assert model.loss(OPS, found, y) == model.loss(OPS, changed, y)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_generated_logits_are_those_of_the_growing_text(size):
    model, config, params, text, _ = made("gpt", size)
    logits, _ = model.generate(OPS, params, text, config=config)
    assert logits.shape == (len(text), config.new, config.vocabulary)
    for step in range(config.new):
        longer = replace(config, length=config.length + step)
        wanted = gpt.forward(OPS, params, text, config=longer, train=False)[0][:, -1]
        np.testing.assert_allclose(logits[:, step], wanted, rtol=1e-12, atol=1e-12)
        text = np.concatenate([text, wanted.argmax(axis=1)[:, None]], axis=1)


def test_a_token_of_gpt_does_not_see_the_next():
    model, config, params, x, _ = made("gpt")
    last = x.copy()
    last[:, -1] += 1
    found, changed = (
        model.forward(OPS, params, ids, config=config, train=True)[0] for ids in (x, last)
    )
    np.testing.assert_array_equal(found[:, :-1], changed[:, :-1])
    assert (found[:, -1] != changed[:, -1]).any()


def _queued(gates, room):
    """Who has which place, token by token: {(token, expert): place}, those without room left out,
    for the gates (S, E) of one example."""
    chosen = np.argsort(-gates, axis=1)[:, : moe.CHOICES]
    length, places = np.zeros(gates.shape[1], int), {}
    for choice in range(moe.CHOICES):
        for token, expert in enumerate(chosen[:, choice]):
            if length[expert] < room:
                places[token, expert] = length[expert]
            length[expert] += 1
    return places


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_tokens_queue_for_experts_first_choices_first(size):
    _, config, params, x, _ = made("moe", size)
    gates, _, _ = moe.gating(OPS, params, x, config=config)
    dispatch, combine, balance = moe.route(OPS, gates, config=config)
    turned_away = 0
    for n, own in enumerate(gates):
        wanted = np.zeros(dispatch.shape[1:])
        share = np.zeros_like(wanted)
        best = np.sort(own, axis=1)[:, -moe.CHOICES :].sum(axis=1)
        for (token, expert), place in _queued(own, config.room).items():
            wanted[token, expert, place] = 1
            share[token, expert, place] = own[token, expert] / best[token]
        np.testing.assert_array_equal(dispatch[n], wanted)
        np.testing.assert_allclose(combine[n], share, rtol=1e-12)
        first = np.bincount(own.argmax(axis=1), minlength=config.experts) / len(own)
        uneven = config.experts * np.sum(first * own.mean(axis=0))
        assert balance[n] == pytest.approx(uneven, rel=1e-12)
        turned_away += moe.CHOICES * len(own) - wanted.sum()
    assert turned_away > 0  # else the room is not tried


def test_experts_compute_what_their_tokens_alone_would():
    model, config, params, x, _ = made("moe")
    gates, before, h = moe.gating(OPS, params, x, config=config)
    mixed = np.zeros_like(before)
    for n, own in enumerate(gates):
        best = np.sort(own, axis=1)[:, -moe.CHOICES :].sum(axis=1)
        for token, expert in _queued(own, config.room):
            w = {
                key: params[f"experts/{key}"][expert]
                for key in ("fc1/w", "fc1/b", "fc2/w", "fc2/b")
            }
            y = OPS.gelu(h[n, token] @ w["fc1/w"] + w["fc1/b"]) @ w["fc2/w"] + w["fc2/b"]
            mixed[n, token] += own[token, expert] / best[token] * y[0]
    after = layers.norm(OPS, params, "norm", before + mixed, epsilon=moe.EPSILON)
    wanted = layers.dense(OPS, params, "head", after.mean(axis=1))
    found, _ = model.forward(OPS, params, x, config=config, train=True)
    np.testing.assert_allclose(found["logits"], wanted, rtol=1e-12)


def test_dlrm_multiplies_every_pair_of_vectors():
    _, config, params, x, _ = made("dlrm")
    relu, p = OPS.relu, params
    dense = relu(
        relu(x["dense"] @ p["bottom/fc1/w"] + p["bottom/fc1/b"]) @ p["bottom/fc2/w"]
        + p["bottom/fc2/b"]
    )
    bags = [p[f"table{i}"][x["ids"][:, i]].sum(axis=1) for i in range(config.fields)]
    vectors = np.stack([dense, *bags], axis=1)
    rows, columns = np.tril_indices(config.fields + 1, -1)
    pairs = np.einsum("nid,njd->nij", vectors, vectors)[:, rows, columns]
    assert pairs.shape[1] == config.pairs
    h = np.concatenate([dense, pairs], axis=1)
    for name in ("top/fc1", "top/fc2"):
        h = relu(layers.dense(OPS, params, name, h))
    wanted = layers.dense(OPS, params, "top/fc3", h)[:, 0]
    found, _ = dlrm.forward(OPS, params, x, config=config, train=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_large_vit_sees_colour_photographs():
    model = models.get("vit")
    batch = model.example(model.sizes["full"], 2)
    assert batch["x"].shape == (2, 224, 224, 3)
    assert set(batch["y"]) == {0, 1}
