"""The vision models, and what they are made of: boxes and losses."""

import numpy as np
import pytest

from adapters import boxes, losses, trees
from adapters import model as models
from adapters.convolutions import Convolutions, Initial
from adapters.counting import count
from adapters.models import detector, mobilenet, resnet50
from adapters.numpy_reference import NumpyOps
from adapters.training import RECIPES

NAMES = (
    "detector", "diffusion", "mobilenet", "resnet50", "resnet50_finetune", "slowfast", "unet",
    "vnet3d",
)  # fmt: skip
SIZES = ("tiny", "small")
MARGIN = 1e-4  # of a decision to the other one: rounding in float32 is a hundred times less
STEP = 1e-30


class Case:
    """A model at a size with its initial state and the usual batch, or the first of it."""

    def __init__(self, name, size, *, batch=0):
        self.model = models.get(name)
        self.config = self.model.sizes[size]
        self.params, self.buffers = self.model.initial(self.config, np.random.default_rng(0))
        self.batch = self.model.example(self.config, batch or self.model.batch[size])

    def forward(self, ops, *, train, params=None, batch=None):
        p = {**self.buffers, **(params or self.params)}
        x = trees.part(batch or self.batch, "x")
        return self.model.forward(ops, p, x, config=self.config, train=train)

    def loss(self, ops, params=None):
        output, _ = self.forward(ops, train=True, params=params)
        return self.model.loss(ops, output, trees.part(self.batch, "y"))


# -- all models --------------------------------------------------------------------------------


class Held(NumpyOps):
    """Gives what `stop_gradient` gave the first time again, in the order of the calls: a constant,
    also when what it is made of moves."""

    def __init__(self):
        super().__init__()
        self.values, self.position = [], None

    def rewind(self):
        self.position = 0
        return self

    def stop_gradient(self, x):
        if self.position is None:
            self.values.append(np.real(x))
            return self.values[-1]
        self.position += 1
        return self.values[self.position - 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_has_the_slope_of_a_central_difference(name):
    case, ops, rng = Case(name, "tiny"), Held(), np.random.default_rng(1)
    direction = {name: rng.normal(size=value.shape) for name, value in case.params.items()}
    length = np.sqrt(sum(np.sum(v * v) for v in direction.values()))

    def moved(step):
        return {n: v + step / length * direction[n] for n, v in case.params.items()}

    case.loss(ops)  # at the point itself
    slope = np.imag(case.loss(ops.rewind(), moved(1j * STEP))) / STEP
    h = 1e-5
    there, back = (case.loss(ops.rewind(), moved(step)) for step in (h, -h))
    assert slope == pytest.approx((there - back) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_values_are_neither_small_nor_large_at_first(name, size):
    case = Case(name, size)
    for train in (False, True):
        output, _ = case.forward(NumpyOps(), train=train)
        parts = trees.named(output, "output")
        for part in {"output:anchors", "output:proposals"} & set(parts):
            del parts[part]  # pixels
        for part, value in parts.items():
            assert 0.02 < np.sqrt(np.mean(value * value)) < 6, part


@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_not_depend_on_its_neighbours(name):
    case = Case(name, "tiny", batch=3)
    together, _ = case.forward(NumpyOps(), train=False)
    for i in range(3):
        batch = {key: value[i : i + 1] for key, value in case.batch.items()}
        alone, _ = case.forward(NumpyOps(), train=False, batch=batch)
        for key, value in trees.named(alone, "output").items():
            whole = trees.named(together, "output")[key]
            np.testing.assert_allclose(value[0], whole[i], rtol=1e-10, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_only_training_changes_running_statistics(name):
    case = Case(name, "tiny")
    _, kept = case.forward(NumpyOps(), train=False)
    for buffer, value in kept.items():
        np.testing.assert_array_equal(value, case.buffers[buffer])
    _, updated = case.forward(NumpyOps(), train=True)
    assert set(updated) <= set(case.buffers)
    assert all((updated[buffer] != case.buffers[buffer]).any() for buffer in updated)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_a_step_can_be_counted(name, size):
    model = models.get(name)
    infer, train = (count(model, size, batch=2, mode=mode) for mode in ("infer", "train"))
    assert 0 < infer.flops < train.flops
    params, _ = model.initial(model.sizes[size], np.random.default_rng(0))
    assert infer.parameters == sum(value.size for value in params.values())


# -- what was published --------------------------------------------------------------------------


def test_resnet50_is_the_published_one():
    found, published = count(resnet50.MODEL, "full"), resnet50.MODEL.published["full"]
    assert found.parameters == published.parameters == 25_557_032
    assert found.contraction_flops / 2e9 == pytest.approx(published.gmac, abs=0.05)


def test_mobilenet_s_blocks_are_the_published_ones():
    """torchvision's mobilenet_v2 has 3,504,872 parameters."""
    config = mobilenet.Config(side=224, stem=32, stages=mobilenet.STAGES, last=1280, classes=1000)
    params, _ = mobilenet.initial(config, np.random.default_rng(0))
    assert sum(value.size for value in params.values()) == 3_504_872


def test_fine_tuning_trains_the_head_alone_and_drops_in_training_alone():
    case = Case("resnet50_finetune", "tiny")
    recipe = RECIPES[case.model.recipe]
    assert {n.split("/")[0] for n in case.params if recipe.trains(n)} == {"head"}
    assert case.buffers
    other = {**case.batch, "x/keep": 2 - case.batch["x/keep"]}
    outputs = [
        [case.forward(NumpyOps(), train=train, batch=batch)[0] for batch in (case.batch, other)]
        for train in (False, True)
    ]
    np.testing.assert_array_equal(*outputs[0])
    assert (outputs[1][0] != outputs[1][1]).any()


# -- decisions of the detector --------------------------------------------------------------------


class Decisions(NumpyOps):
    """Notes how far every decision is from another one."""

    def __init__(self):
        super().__init__()
        self.margins, self.kept = [], None

    def top_k(self, x, k):
        falling = -np.sort(-x, axis=-1)[:, : k + 1]
        self.margins.append(np.min(falling[:, :-1] - falling[:, 1:]) / np.max(np.abs(x)))
        return super().top_k(x, k)

    def greater(self, a, b):
        self.margins.append(np.min(np.abs(a - b)))
        return super().greater(a, b)

    def argmax(self, x, *, axis):
        rising = np.moveaxis(np.sort(x, axis=axis), axis, -1)
        gaps = (rising[..., -1] - rising[..., -2])[rising[..., -1] > 0]  # 0 is no overlap
        self.margins.append(np.min(gaps, initial=1.0))
        return super().argmax(x, axis=axis)

    def scan(self, body, state, xs):
        self.kept = super().scan(body, state, xs)
        return self.kept


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("train", [False, True])
def test_no_decision_of_the_detector_is_close_and_all_kinds_occur(size, train):
    case, ops = Case("detector", size), Decisions()
    output, _ = case.forward(ops, train=train)
    target = trees.part(case.batch, "y")
    case.model.loss(ops, output, target)
    assert min(ops.margins) > MARGIN
    assert 0 < ops.kept.mean() < 1  # something is suppressed
    overlap = boxes.iou(NumpyOps(), output["proposals"], target["boxes"])
    there = overlap.max(axis=2) > detector.FOREGROUND
    assert there.any()
    assert not there.all()


def test_all_four_losses_of_the_detector_have_gradients():
    case, ops = Case("detector", "tiny"), NumpyOps()
    output, _ = case.forward(ops, train=True)
    target, rng = trees.part(case.batch, "y"), np.random.default_rng(2)
    for name in ("objectness", "deltas", "classes", "moves"):
        moved = output[name] + 1j * STEP * rng.normal(size=output[name].shape)
        loss = case.model.loss(ops, {**output, name: moved}, target)
        assert abs(np.imag(loss)) > 1e-4 * STEP, name


# -- boxes -----------------------------------------------------------------------------------------


def random_boxes(n, count, *, side=20.0, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, side / 2, (n, count, 2))
    return np.concatenate([low, low + rng.uniform(1, side / 2, (n, count, 2))], axis=2)


def overlap_of(a, b):
    """IoU of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.prod(np.maximum(sides, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def test_anchors_lie_around_the_centres_of_cells():
    found = boxes.anchors(8, 4, [(2, 4), (6, 6)])
    assert found.shape == (2 * 2 * 2, 4)
    np.testing.assert_array_equal(found[0], [1, 0, 3, 4])
    np.testing.assert_array_equal(found[1], [-1, -1, 5, 5])
    np.testing.assert_array_equal(found[2], [1, 4, 3, 8])  # the next column
    np.testing.assert_array_equal(found[4], [5, 0, 7, 4])  # the next row


def test_intersection_over_union():
    a, b = random_boxes(2, 5), random_boxes(2, 3, seed=1)
    wanted = [[[overlap_of(p, q) for q in b[n]] for p in a[n]] for n in range(2)]
    np.testing.assert_allclose(boxes.iou(NumpyOps(), a, b), wanted, rtol=1e-13)
    apart = np.array([[[0.0, 0, 1, 1]]]), np.array([[[5.0, 5, 6, 6]]])
    assert boxes.iou(NumpyOps(), *apart) == 0


def test_what_is_decoded_was_encoded():
    a, b = random_boxes(2, 5), random_boxes(2, 5, seed=1)
    ops = NumpyOps()
    np.testing.assert_allclose(boxes.decode(ops, boxes.encode(ops, a, b), b), a, rtol=1e-12)
    moves = boxes.encode(ops, np.array([[[2.0, 3, 6, 5]]]), np.array([[[0.0, 0, 2, 4]]]))
    np.testing.assert_allclose(moves[0, 0], [1.5, 0.5, np.log(2), np.log(0.5)])


def test_a_decoded_box_is_never_beyond_all_bounds():
    wild = np.full((1, 1, 4), 1e3)
    found = boxes.decode(NumpyOps(), wild, np.array([[[0.0, 0, 2, 2]]]))
    assert np.isfinite(found).all()


def test_a_box_inside_the_image_is_at_least_a_pixel():
    given = np.array([[[-5.0, 2, 3, 30], [25, 25, 30, 30], [-9, -9, -2, -2], [3, 3, 3.2, 3.2]]])
    wanted = [[[0, 2, 3, 16], [15, 15, 16, 16], [0, 0, 1, 1], [3, 3, 4, 4]]]
    np.testing.assert_array_equal(boxes.inside(NumpyOps(), given, 16), wanted)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_suppression_is_the_greedy_one(seed, threshold):
    given = random_boxes(3, 12, seed=seed)
    found = boxes.non_maximum_suppression(NumpyOps(), given, threshold=threshold)
    for n in range(3):
        kept = []
        for i in range(12):
            if all(overlap_of(given[n, i], given[n, j]) <= threshold for j in kept):
                kept.append(i)
        np.testing.assert_array_equal(np.flatnonzero(found[n]), kept)


def test_a_suppressed_box_suppresses_none():
    chain = np.array([[[0.0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]]])  # IoU .43, .43, .11
    found = boxes.non_maximum_suppression(NumpyOps(), chain, threshold=0.4)
    np.testing.assert_array_equal(found, [[1, 0, 1]])


def test_roi_align_interpolates_in_the_middle_of_bins():
    rng, stride, size = np.random.default_rng(3), 4, 3
    features = rng.normal(size=(2, 5, 6, 2))
    given = random_boxes(2, 4, seed=4)
    found = boxes.roi_align(NumpyOps(), features, given, stride=stride, size=size)
    assert found.shape == (2, 4, size, size, 2)

    def sample(image, y, x):
        y, x = (np.clip(v / stride - 0.5, 0, n - 1) for v, n in zip((y, x), (5, 6), strict=True))
        i, j = min(int(y), 3), min(int(x), 4)
        a, b = y - i, x - j
        return (1 - a) * ((1 - b) * image[i, j] + b * image[i, j + 1]) + a * (
            (1 - b) * image[i + 1, j] + b * image[i + 1, j + 1]
        )

    for n, k, p, q in np.ndindex(2, 4, size, size):
        y1, x1, y2, x2 = given[n, k]
        y, x = y1 + (p + 0.5) / size * (y2 - y1), x1 + (q + 0.5) / size * (x2 - x1)
        np.testing.assert_allclose(found[n, k, p, q], sample(features[n], y, x), rtol=1e-11)


# -- losses ----------------------------------------------------------------------------------------

LOGITS = np.random.default_rng(5).normal(size=(3, 4, 2))
TARGETS = (np.random.default_rng(6).random((3, 4, 2)) < 0.4).astype(np.float64)
P = 1 / (1 + np.exp(-LOGITS))


def test_dice_is_a_mean_over_examples():
    axes = (1, 2)
    overlap = 2 * (P * TARGETS).sum(axes) + 1
    wanted = 1 - np.mean(overlap / ((P * P).sum(axes) + (TARGETS * TARGETS).sum(axes) + 1))
    assert losses.dice(NumpyOps(), LOGITS, TARGETS) == pytest.approx(wanted, rel=1e-13)
    sure = 100 * (2 * TARGETS - 1)
    assert losses.dice(NumpyOps(), sure, TARGETS) == pytest.approx(0, abs=1e-13)
    nothing = np.zeros_like(TARGETS)
    assert losses.dice(NumpyOps(), nothing - 100, nothing) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 0.5), (1.0, 0.9)])
def test_focal(gamma, alpha):
    own = np.where(TARGETS > 0, P, 1 - P)
    a = np.where(TARGETS > 0, alpha, 1 - alpha)
    wanted = np.mean(a * (1 - own) ** gamma * -np.log(own))
    found = losses.focal(NumpyOps(), LOGITS, TARGETS, gamma=gamma, alpha=alpha)
    assert found == pytest.approx(wanted, rel=1e-13)


def test_focal_without_focus_is_half_of_the_binary_cross_entropy():
    found = losses.focal(NumpyOps(), LOGITS, TARGETS, gamma=0.0, alpha=0.5)
    assert found == pytest.approx(NumpyOps().bce_with_logits(LOGITS, TARGETS) / 2, rel=1e-13)


def test_focal_is_finite_for_large_logits():
    found = losses.focal(NumpyOps(), np.array([[-800.0, 800.0]]), np.array([[1.0, 0.0]]))
    assert found == pytest.approx((0.25 * 800 + 0.75 * 800) / 2)


def test_balanced_cross_entropy_gives_both_kinds_half_of_the_weight():
    logits = np.array([[1.0, -2.0, 3.0, 0.5]])
    positive, negative = np.array([[1.0, 0, 0, 0]]), np.array([[0.0, 1, 1, 0]])
    p = 1 / (1 + np.exp(-logits[0]))
    wanted = -np.log(p[0]) / 2 - (np.log(1 - p[1]) + np.log(1 - p[2])) / 4
    found = losses.balanced_bce(NumpyOps(), logits, positive, negative)
    assert found == pytest.approx(wanted, rel=1e-13)


def test_a_weighted_sum_of_losses():
    assert losses.weighted_sum(NumpyOps(), (1.0, 2.0), (0.5, 3.0), (2.0, -1.0)) == 1.5


# -- convolutions ----------------------------------------------------------------------------------


def test_a_normalised_convolution_in_a_plane_and_in_a_volume():
    """A volume of one frame is a plane."""
    initial = Initial(np.random.default_rng(7))
    initial.convolution("plane", 3, 3, 2, 4, scale=0.5)
    assert np.all(np.abs(initial.params["plane/scale"] - 0.5) <= 0.1)
    p = {**initial.params, **initial.buffers}
    p |= {name.replace("plane", "volume"): value for name, value in p.items()}
    p["volume/w"] = p["plane/w"][None]
    x = np.random.default_rng(8).normal(size=(3, 6, 5, 2))
    conv = Convolutions(NumpyOps(), p, train=True)
    plane = conv.plane("plane", x, stride=2, padding=1)
    volume = conv.volume("volume", x[:, None], stride=(1, 2, 2), padding=(0, 1, 1))
    np.testing.assert_allclose(plane, volume[:, 0], rtol=1e-12)
    assert set(conv.buffers) == {
        f"{n}/{part}" for n in ("plane", "volume") for part in ("mean", "var")
    }
    np.testing.assert_allclose(plane.std(axis=(0, 1, 2)), np.abs(p["plane/scale"]), rtol=1e-3)
