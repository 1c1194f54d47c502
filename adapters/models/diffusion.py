"""The U-Net of DDPM (Ho et al. 2020), which says what noise is in an image: residual blocks that
know the time, group normalisation, and attention at the lowest resolution."""

from dataclasses import dataclass

import numpy as np

from adapters.convolutions import Initial
from adapters.data import noised
from adapters.model import Model, near

COLOURS = 3  # of the image, each with noise of its own
EPSILON = 1e-6  # of every group normalisation
BRANCH = 0.3  # size of the last weight of a branch at first; published: 0, which hides the branch
PERIOD = 10_000.0  # of the slowest wave of the time embedding, over 2 pi (Vaswani et al. 2017)


@dataclass(frozen=True)
class Config:
    side: int
    channels: tuple[int, ...]  # of each resolution, the finest first
    groups: int  # of every group normalisation

    @property
    def levels(self):
        """Those that have a finer one above them."""
        return range(1, len(self.channels))

    @property
    def time(self):
        """Channels of the time embedding, as published."""
        return 4 * self.channels[0]


def initial(config, rng):
    values, channels = Initial(rng), config.channels

    def norm(name, size):
        values.params[f"{name}/scale"] = near(rng, 1, size)
        values.params[f"{name}/offset"] = near(rng, 0, size)

    def block(name, inputs, outputs):
        norm(f"{name}/norm1", inputs)
        values.affine(f"{name}/conv1", 3, 3, inputs, outputs)
        values.affine(f"{name}/time", config.time, outputs)
        norm(f"{name}/norm2", outputs)
        values.affine(f"{name}/conv2", 3, 3, outputs, outputs, scale=BRANCH)
        if inputs != outputs:
            values.affine(f"{name}/shortcut", inputs, outputs)

    values.affine("time/fc1", channels[0], config.time)
    values.affine("time/fc2", config.time, config.time)
    values.affine("stem", 3, 3, COLOURS, channels[0])
    block("down0", channels[0], channels[0])
    for i in config.levels:
        values.affine(f"down{i}/strided", 3, 3, channels[i - 1], channels[i - 1])
        block(f"down{i}", channels[i - 1], channels[i])
    norm("attention/norm", channels[-1])
    values.affine("attention/qkv", channels[-1], 3 * channels[-1])
    values.affine("attention/out", channels[-1], channels[-1], scale=BRANCH)
    for i in config.levels:
        values.affine(f"up{i}/conv", 3, 3, channels[i], channels[i])
        block(f"up{i}", channels[i] + channels[i - 1], channels[i - 1])
    norm("head/norm", channels[0])
    values.affine("head", 3, 3, channels[0], COLOURS)
    return values.params, values.buffers


def forward(ops, p, x, *, config, train):
    def norm(name, x):
        scale, offset = p[f"{name}/scale"], p[f"{name}/offset"]
        return ops.group_norm(x, scale, offset, groups=config.groups, epsilon=EPSILON)

    def conv(name, x, stride=1):
        return ops.conv2d(x, p[f"{name}/w"], p[f"{name}/b"], stride=stride, padding=1)

    def dense(name, x):
        return ops.dense(x, p[f"{name}/w"], p[f"{name}/b"])

    def block(name, x):
        """(N, h, w, inputs) -> (N, h, w, outputs)."""
        h = conv(f"{name}/conv1", ops.silu(norm(f"{name}/norm1", x)))
        shift = dense(f"{name}/time", ops.silu(time))  # (N, outputs)
        n, outputs = ops.shape(shift)
        h = ops.add(h, ops.reshape(shift, (n, 1, 1, outputs)))
        h = conv(f"{name}/conv2", ops.silu(norm(f"{name}/norm2", h)))
        return ops.add(h, dense(f"{name}/shortcut", x) if f"{name}/shortcut/w" in p else x)

    time = _waves(ops, x["time"], config.channels[0])  # (N, channels[0])
    time = dense("time/fc2", ops.silu(dense("time/fc1", time)))  # (N, config.time)
    h = conv("stem", x["image"])  # (N, side, side, channels[0])
    skips = [block("down0", h)]
    for i in config.levels:
        h = conv(f"down{i}/strided", skips[-1], stride=2)
        skips.append(block(f"down{i}", h))  # (N, side/2^i, side/2^i, channels[i])
    h = skips.pop()
    h = ops.add(h, _attention(ops, norm("attention/norm", h), dense=dense))
    for i in reversed(config.levels):
        _, rows, columns, _ = ops.shape(skips[-1])
        h = conv(f"up{i}/conv", ops.resize(h, (rows, columns), method="nearest"))
        h = block(f"up{i}", ops.concat([skips.pop(), h], axis=3))  # as skips[i - 1]
    return conv("head", ops.silu(norm("head/norm", h))), {}  # (N, side, side, COLOURS)


def _waves(ops, time, size):
    """(N,) -> (N, size): sines, then cosines, of the time at falling frequencies."""
    half = size // 2
    # with Python's floats: torch.compile would trace NumPy's division, and do it in float32
    frequencies = np.asarray([PERIOD ** -(i / (half - 1)) for i in range(half)], np.float64)
    frequencies = ops.constant(frequencies)
    angles = ops.multiply(ops.reshape(time, (-1, 1)), frequencies)  # (N, half)
    return ops.concat([ops.sin(angles), ops.cos(angles)], axis=1)


def _attention(ops, x, *, dense):
    """One head over the pixels of (N, h, w, C)."""
    n, h, w, c = ops.shape(x)
    qkv = dense("attention/qkv", ops.reshape(x, (n, h * w, c)))  # (N, h w, 3C)
    q, k, v = (
        ops.reshape(ops.slice(qkv, axis=2, start=i * c, stop=(i + 1) * c), (n, h * w, 1, c))
        for i in range(3)
    )
    y = ops.reshape(ops.attention(q, k, v), (n, h * w, c))
    return ops.reshape(dense("attention/out", y), (n, h, w, c))


def loss(ops, output, y):
    return ops.mse(output, y)


MODEL = Model(
    sizes={
        "tiny": Config(side=8, channels=(8, 16), groups=4),
        "small": Config(side=16, channels=(32, 64), groups=8),
    },
    batch={"tiny": 4, "small": 8},
    initial=initial,
    example=lambda config, batch: noised(config.side, COLOURS, batch),
    forward=forward,
    recipe="adam",
    loss=loss,
)
