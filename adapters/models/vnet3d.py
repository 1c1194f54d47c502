"""V-Net (Milletari et al. 2016): a U-Net of volumes. Every stage learns a residual, strided
convolutions go down, transposed ones up, and all activations are PReLU (He et al. 2015)."""

from dataclasses import dataclass

import numpy as np

from adapters import losses
from adapters.convolutions import Initial
from adapters.data import volumes
from adapters.model import Model, near

SLOPE = 0.25  # of PReLU, at first
BRANCH = 0.5  # size of a stage's last kernel at first, so that a sum of stages stays in range


@dataclass(frozen=True)
class Config:
    depth: int
    side: int
    kernel: int
    channels: tuple[int, ...]  # of each resolution, the finest first
    convolutions: tuple[int, ...]  # of the stage at each resolution

    @property
    def levels(self):
        """Those that have a finer one above them."""
        return range(1, len(self.channels))


def initial(config, rng):
    values, channels = Initial(rng), config.channels

    def stage(name, convolutions, inputs, outputs):
        for i in range(convolutions):
            scale = BRANCH if i == convolutions - 1 else 1.0
            kernel = (config.kernel,) * 3
            values.affine(f"{name}/conv{i + 1}", *kernel, inputs, outputs, scale=scale)
            values.params[f"{name}/slope{i + 1}"] = near(rng, SLOPE, outputs)
            inputs = outputs

    def resample(name, *shape):
        values.affine(name, 2, 2, 2, *shape)
        values.params[f"{name}/slope"] = near(rng, SLOPE, shape[-1])

    stage("down0", config.convolutions[0], 1, channels[0])
    for i in config.levels:
        resample(f"down{i}/strided", channels[i - 1], channels[i])
        stage(f"down{i}", config.convolutions[i], channels[i], channels[i])
    inputs = channels[-1]
    for i in reversed(config.levels):
        resample(f"up{i}/transposed", inputs, channels[i - 1])
        inputs = 2 * channels[i - 1]  # with those of the skip connection
        stage(f"up{i}", config.convolutions[i - 1], inputs, inputs)
    values.affine("head", 1, 1, 1, inputs, 1)
    return values.params, values.buffers


def forward(ops, p, x, *, config, train):
    zero = ops.constant(np.asarray(0.0))

    def prelu(x, slope):
        return ops.where(ops.greater(x, zero), x, ops.multiply(slope, x))

    def stage(name, convolutions, x):
        """The convolutions of `x`, and `x` itself, added before the last activation."""
        shortcut = x
        for i in range(1, convolutions + 1):
            conv = f"{name}/conv{i}"
            x = ops.conv3d(x, p[f"{conv}/w"], p[f"{conv}/b"], padding=config.kernel // 2)
            x = ops.add(x, shortcut) if i == convolutions else x
            x = prelu(x, p[f"{name}/slope{i}"])
        return x

    # the first stage adds the one channel of its input to each of its own
    skips = [stage("down0", config.convolutions[0], x)]  # (N, D, H, W, channels[0])
    for i in config.levels:
        down = f"down{i}/strided"
        x = ops.conv3d(skips[-1], p[f"{down}/w"], p[f"{down}/b"], stride=2)
        x = prelu(x, p[f"{down}/slope"])  # (N, D/2^i, H/2^i, W/2^i, channels[i])
        skips.append(stage(f"down{i}", config.convolutions[i], x))
    x = skips.pop()
    for i in reversed(config.levels):
        up = f"up{i}/transposed"
        x = ops.conv_transpose3d(x, p[f"{up}/w"], p[f"{up}/b"], stride=2)
        x = prelu(x, p[f"{up}/slope"])  # (N, d, h, w, channels[i - 1])
        x = ops.concat([skips.pop(), x], axis=4)  # (N, d, h, w, 2 channels[i - 1])
        x = stage(f"up{i}", config.convolutions[i - 1], x)
    return ops.conv3d(x, p["head/w"], p["head/b"]), {}  # (N, D, H, W, 1)


def loss(ops, output, y):
    bce = ops.bce_with_logits(output, y)
    return losses.weighted_sum(ops, (1.0, bce), (0.5, losses.dice(ops, output, y)))


MODEL = Model(
    sizes={
        "tiny": Config(depth=4, side=8, kernel=3, channels=(2, 4), convolutions=(1, 1)),
        "small": Config(depth=16, side=16, kernel=3, channels=(4, 8, 16), convolutions=(1, 2, 2)),
    },
    batch={"tiny": 2, "small": 2},
    initial=initial,
    example=lambda config, batch: volumes(config.depth, config.side, batch),
    forward=forward,
    recipe="adam",
    loss=loss,
)
