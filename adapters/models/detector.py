"""A detector of two stages, Faster R-CNN (Ren et al. 2015) with RoI align (He et al. 2017).

The first stage scores anchors and moves them: proposals. The best of them, without those that
overlap a better one, are what the second stage classifies and moves again, by the features inside
of each. All shapes are fixed: where suppression leaves fewer proposals than asked for, the best of
the suppressed fill up. Training does not sample at random: in the first stage positive and negative
anchors have half of the weight each, in the second every proposal counts."""

from dataclasses import dataclass

import numpy as np

from adapters import boxes, losses
from adapters.convolutions import Convolutions, Initial
from adapters.data import detection
from adapters.model import Model

CLASSES = 11  # the digits, and 0 for the background
POSITIVE, NEGATIVE = 0.7, 0.3  # an anchor's IoU from which, up to which it is one
FOREGROUND = 0.5  # a proposal's IoU from which it is of the object's class
SUPPRESSION = 0.7  # the IoU of two proposals above which one is dropped
BEST = 0.99  # an anchor with this share of an object's best IoU is positive: ties are, together
BETA = 1 / 9  # of the smooth L1 loss
GENTLY = 0.1  # size of the kernels that move boxes at first, so that these start near anchors


@dataclass(frozen=True)
class Config:
    side: int
    objects: int
    channels: tuple[int, ...]  # of the backbone; each convolution has stride 2
    anchors: tuple[float, int]  # edge of the smallest, and how many; squares, 3 to an octave
    candidates: int  # proposals that take part in suppression
    proposals: int  # that reach the second stage
    pooled: int  # side of the features inside a proposal
    hidden: int

    @property
    def stride(self):
        return 2 ** len(self.channels)

    @property
    def sizes(self):
        """Height and width of each anchor of a cell, whose scales are as in Lin et al. 2017. They
        are no whole pixels, as objects are: an IoU that is exactly a threshold would be a tie."""
        smallest, count = self.anchors
        return [(smallest * 2 ** (i / 3),) * 2 for i in range(count)]


def initial(config, rng):
    values, c, kinds = Initial(rng), config.channels, len(config.sizes)
    for i, (inputs, outputs) in enumerate(zip((3, *c), c, strict=False)):
        values.convolution(f"backbone/conv{i + 1}", 3, 3, inputs, outputs)
    values.affine("rpn/conv", 3, 3, c[-1], c[-1])
    values.affine("rpn/objectness", 1, 1, c[-1], kinds)
    values.affine("rpn/deltas", 1, 1, c[-1], 4 * kinds, scale=GENTLY)
    values.affine("head/fc", config.pooled**2 * c[-1], config.hidden)
    values.affine("head/classes", config.hidden, CLASSES)
    values.affine("head/deltas", config.hidden, 4 * CLASSES, scale=GENTLY)
    return values.params, values.buffers


def forward(ops, p, x, *, config, train):
    """Returns objectness (N, A), deltas and anchors (N, A, 4) of the first stage; proposals
    (N, K, 4), classes (N, K, CLASSES) and moves (N, K, CLASSES, 4) of the second."""
    conv, n, k = Convolutions(ops, p, train=train), ops.shape(x)[0], config.proposals
    for i in range(len(config.channels)):
        name = f"backbone/conv{i + 1}"
        x = ops.relu(conv.plane(name, x, stride=2, padding=1))  # (N, h, w, channels[i])

    h = ops.relu(ops.conv2d(x, p["rpn/conv/w"], p["rpn/conv/b"], padding=1))
    objectness = ops.conv2d(h, p["rpn/objectness/w"], p["rpn/objectness/b"])  # (N, h, w, kinds)
    objectness = ops.flatten(objectness)  # (N, A)
    deltas = ops.conv2d(h, p["rpn/deltas/w"], p["rpn/deltas/b"])  # (N, h, w, 4 kinds)
    deltas = ops.reshape(deltas, (n, -1, 4))  # (N, A, 4)
    anchors = boxes.anchors(config.side, config.stride, config.sizes)  # (A, 4)
    anchors = ops.broadcast_to(ops.constant(anchors), (n, *anchors.shape))
    proposals = _proposals(ops, objectness, deltas, anchors, config=config)  # (N, K, 4)

    h = boxes.roi_align(ops, x, proposals, stride=config.stride, size=config.pooled)
    h = ops.reshape(h, (n, k, config.pooled**2 * config.channels[-1]))
    h = ops.relu(ops.dense(h, p["head/fc/w"], p["head/fc/b"]))  # (N, K, hidden)
    classes = ops.dense(h, p["head/classes/w"], p["head/classes/b"])  # (N, K, CLASSES)
    moves = ops.dense(h, p["head/deltas/w"], p["head/deltas/b"])  # (N, K, 4 CLASSES)
    return {
        "objectness": objectness,
        "deltas": deltas,
        "anchors": anchors,
        "proposals": proposals,
        "classes": classes,
        "moves": ops.reshape(moves, (n, k, CLASSES, 4)),
    }, conv.buffers


def _proposals(ops, objectness, deltas, anchors, *, config):
    """The best moved anchors (N, K, 4), in falling order of their score, first those that
    suppression keeps. They are constants to differentiation."""
    scores, moved = ops.stop_gradient(objectness), ops.stop_gradient(deltas)
    moved = boxes.inside(ops, boxes.decode(ops, moved, anchors), config.side)  # (N, A, 4)
    _, chosen = ops.top_k(scores, config.candidates)
    candidates = ops.gather(moved, chosen)  # (N, candidates, 4)
    kept = boxes.non_maximum_suppression(ops, candidates, threshold=SUPPRESSION)
    # kept ones have the numbers candidates + 1 and more, in order; others those up to candidates
    order = ops.constant(np.arange(config.candidates, 0.0, -1.0))
    bonus = ops.multiply(kept, ops.constant(np.asarray(float(config.candidates))))
    _, chosen = ops.top_k(ops.add(bonus, order), config.proposals)
    return ops.gather(candidates, chosen)


def loss(ops, output, y):
    """The four losses of Faster R-CNN, as the means over all anchors and all proposals."""
    stages = _first_stage(ops, output, y["boxes"]) + _second_stage(ops, output, y)
    return losses.weighted_sum(ops, *((1.0, stage) for stage in stages))


def _first_stage(ops, output, objects):
    """Is there an object at the anchor, and how does the anchor have to move?"""
    zero, one = (ops.constant(np.asarray(value)) for value in (0.0, 1.0))
    anchors = output["anchors"]
    n, count, _ = ops.shape(anchors)
    overlap = boxes.iou(ops, anchors, objects)  # (N, A, objects)
    best = ops.max(overlap, axis=1)  # (N, objects): every object has a positive anchor
    enough = ops.minimum(
        ops.constant(np.asarray(POSITIVE)), ops.multiply(ops.constant(np.asarray(BEST)), best)
    )
    enough = ops.reshape(enough, (n, 1, ops.shape(objects)[1]))
    matches = ops.where(ops.greater(overlap, enough), one, zero)  # (N, A, objects)
    positive = ops.max(matches, axis=2)  # (N, A)
    low = ops.greater(ops.constant(np.asarray(NEGATIVE)), ops.max(overlap, axis=2))
    negative = ops.multiply(ops.where(low, one, zero), ops.subtract(one, positive))
    score = losses.balanced_bce(ops, output["objectness"], positive, negative)

    # of several objects that it matches, an anchor moves to the one that it overlaps most
    nearest = ops.argmax(ops.multiply(overlap, matches), axis=2)  # (N, A)
    targets = boxes.encode(ops, ops.gather(objects, nearest), anchors)
    is_positive = ops.greater(ops.reshape(positive, (n, count, 1)), ops.constant(np.asarray(0.5)))
    moved = ops.where(is_positive, output["deltas"], targets)  # others are right as they are
    return score, ops.smooth_l1(moved, targets, beta=BETA)


def _second_stage(ops, output, y):
    """What is in the proposal, and how does the proposal have to move?"""
    foreground, zero = (ops.constant(np.asarray(value)) for value in (FOREGROUND, 0.0))
    proposals, objects = output["proposals"], y["boxes"]
    n, k, _ = ops.shape(proposals)
    overlap = boxes.iou(ops, proposals, objects)  # (N, K, objects)
    there = ops.greater(ops.reshape(ops.max(overlap, axis=2), (n, k, 1)), foreground)
    overlap = ops.where(ops.greater(overlap, foreground), overlap, zero)
    nearest = ops.argmax(overlap, axis=2)  # (N, K), of no meaning where nothing is there

    kinds = ops.gather(ops.one_hot(y["labels"], CLASSES), nearest)  # (N, K, CLASSES)
    background = ops.constant(np.eye(1, CLASSES))
    labels = ops.argmax(ops.where(there, kinds, background), axis=2)  # (N, K)
    classes = ops.reshape(output["classes"], (n * k, CLASSES))
    score = ops.cross_entropy(classes, ops.reshape(labels, (n * k,)))

    targets = boxes.encode(ops, ops.gather(objects, nearest), proposals)  # (N, K, 4)
    moves = ops.reshape(output["moves"], (n * k, CLASSES, 4))
    moves = ops.gather(moves, ops.reshape(labels, (n * k, 1)))  # those for the true class
    moved = ops.where(there, ops.reshape(moves, (n, k, 4)), targets)  # background stays
    return score, ops.smooth_l1(moved, targets, beta=BETA)


MODEL = Model(
    sizes={
        "tiny": Config(
            side=32,
            objects=2,
            channels=(4, 8, 16),
            anchors=(10.1, 3),
            candidates=16,
            proposals=12,
            pooled=2,
            hidden=16,
        ),
        "small": Config(
            side=96,
            objects=4,
            channels=(16, 32, 48, 64),
            anchors=(23.3, 4),
            candidates=24,
            proposals=16,
            pooled=7,
            hidden=256,
        ),
    },
    batch={"tiny": 2, "small": 2},
    initial=initial,
    example=lambda config, batch: detection(config.side, batch, config.objects),
    forward=forward,
    recipe="sgd_momentum",
    loss=loss,
)
