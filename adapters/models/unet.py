"""U-Net (Ronneberger et al. 2015) with batch normalisation and padded convolutions: an encoder,
a decoder, and a skip connection between them at every resolution."""

from dataclasses import dataclass

import numpy as np

from adapters import losses
from adapters.convolutions import Convolutions, Initial
from adapters.data import segmentation, segmentation_split
from adapters.model import Goal, Model


@dataclass(frozen=True)
class Config:
    side: int
    channels: tuple[int, ...]  # of each resolution, the finest first

    @property
    def levels(self):
        """Those that have a finer one above them."""
        return range(1, len(self.channels))


def initial(config, rng):
    values, channels = Initial(rng), config.channels
    _pair_initial(values, "down0", 3, channels[0])
    for i in config.levels:
        _pair_initial(values, f"down{i}", channels[i - 1], channels[i])
    for i in config.levels:
        values.affine(f"up{i}/transposed", 2, 2, channels[i], channels[i - 1])
        _pair_initial(values, f"up{i}", 2 * channels[i - 1], channels[i - 1])
    values.affine("head", 1, 1, channels[0], 1)
    return values.params, values.buffers


def _pair_initial(values, name, inputs, outputs):
    values.convolution(f"{name}/conv1", 3, 3, inputs, outputs)
    values.convolution(f"{name}/conv2", 3, 3, outputs, outputs)


def forward(ops, p, x, *, config, train):
    conv = Convolutions(ops, p, train=train)

    def pair(name, x):
        x = ops.relu(conv.plane(f"{name}/conv1", x, padding=1))
        return ops.relu(conv.plane(f"{name}/conv2", x, padding=1))

    skips = [pair("down0", x)]  # (N, side, side, channels[0])
    for i in config.levels:
        x = ops.max_pool2d(skips[-1], window=2, stride=2)
        skips.append(pair(f"down{i}", x))  # (N, side/2^i, side/2^i, channels[i])
    x = skips.pop()
    for i in reversed(config.levels):
        up = f"up{i}/transposed"
        x = ops.conv_transpose2d(x, p[f"{up}/w"], p[f"{up}/b"], stride=2)  # as skips[i - 1]
        x = ops.concat([skips.pop(), x], axis=3)  # (N, h, w, 2 channels[i - 1])
        x = pair(f"up{i}", x)  # (N, h, w, channels[i - 1])
    return ops.conv2d(x, p["head/w"], p["head/b"]), conv.buffers  # (N, side, side, 1)


def loss(ops, output, y):
    """Binary cross-entropy, which judges pixels, and Dice, which judges the region."""
    bce = ops.bce_with_logits(output, y)
    return losses.weighted_sum(ops, (1.0, bce), (1.0, losses.dice(ops, output, y)))


def overlap(output, y):
    """Twice the pixels that are found and true, over those that are either, counted twice if both
    (Dice 1945), in NumPy: logits and 0 or 1, (N, side, side, 1)."""
    found = output > 0
    return float(2 * np.sum(found * y) / (np.sum(found) + np.sum(y)))


MODEL = Model(
    sizes={"tiny": Config(side=16, channels=(4, 8)), "small": Config(64, channels=(16, 32, 64))},
    batch={"tiny": 4, "small": 4},
    initial=initial,
    example=lambda config, batch: segmentation(config.side, batch),
    forward=forward,
    recipe="adam",
    goal=Goal(
        data=lambda config: segmentation_split(config.side),
        score=overlap,
        name="Dice",
        target=0.92,
        steps=800,
        batch=16,
        recipe="adamw_fast",
        every=20,
        held=128,
    ),
    loss=loss,
)
