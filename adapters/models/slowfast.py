"""SlowFast (Feichtenhofer et al. 2019): a slow pathway sees few frames with many channels, a fast
one all frames with few, and lateral connections lead from the fast one to the slow one. At the end
the slow features are interpolated in time to the frames of the fast ones."""

from dataclasses import dataclass

from adapters.convolutions import Convolutions, Initial
from adapters.data import video
from adapters.model import Model

TEMPORAL = 5  # frames that the kernel of a lateral connection spans, as published
LAST = 0.3  # the scale that ends a branch


@dataclass(frozen=True)
class Config:
    frames: int
    side: int
    alpha: int  # frames of the fast pathway / frames of the slow one
    beta: int  # channels of the slow pathway / channels of the fast one
    channels: tuple[int, ...]  # inside each stage of the slow pathway, the stem first
    kernels: tuple[int, ...]  # frames that each stage of the slow pathway spans
    classes: int

    @property
    def stages(self):
        """(name, channels inside the slow one, frames that it spans, spatial stride)"""
        for i in range(1, len(self.channels)):
            yield f"stage{i}", self.channels[i], self.kernels[i], 1 if i == 1 else 2

    @property
    def features(self):
        return 2 * self.channels[-1] + 2 * self.channels[-1] // self.beta


def initial(config, rng):
    values, beta = Initial(rng), config.beta

    def lateral(name, fast):
        values.convolution(f"{name}/lateral", TEMPORAL, 1, 1, fast, 2 * fast)

    def block(name, inputs, inside, frames):
        values.convolution(f"{name}/conv1", frames, 1, 1, inputs, inside)
        values.convolution(f"{name}/conv2", 1, 3, 3, inside, inside)
        values.convolution(f"{name}/conv3", 1, 1, 1, inside, 2 * inside, scale=LAST)
        values.convolution(f"{name}/shortcut", 1, 1, 1, inputs, 2 * inside)

    slow, fast = config.channels[0], config.channels[0] // beta
    values.convolution("slow/stem", config.kernels[0], 5, 5, 1, slow)
    values.convolution("fast/stem", 5, 5, 5, 1, fast)
    for stage, inside, frames, _ in config.stages:
        lateral(stage, fast)
        block(f"slow/{stage}", slow + 2 * fast, inside, frames)
        block(f"fast/{stage}", fast, inside // beta, 3)
        slow, fast = 2 * inside, 2 * inside // beta
    values.affine("head", config.features, config.classes)
    return values.params, values.buffers


def forward(ops, p, x, *, config, train):
    conv = Convolutions(ops, p, train=train)

    def block(name, x, frames, stride):
        """A bottleneck of kernels (frames, 1, 1) and (1, 3, 3)."""
        h = ops.relu(conv.volume(f"{name}/conv1", x, padding=(frames // 2, 0, 0)))
        h = conv.volume(f"{name}/conv2", h, stride=(1, stride, stride), padding=(0, 1, 1))
        h = conv.volume(f"{name}/conv3", ops.relu(h))
        return ops.relu(ops.add(h, conv.volume(f"{name}/shortcut", x, stride=(1, stride, stride))))

    slow_frames = config.frames // config.alpha
    slow = _in_time(ops, x, slow_frames, method="nearest")  # (N, T/alpha, side, side, 1)
    frames = config.kernels[0]
    slow = conv.volume("slow/stem", slow, stride=(1, 2, 2), padding=(frames // 2, 2, 2))
    slow = ops.relu(slow)  # (N, T/alpha, side/2, side/2, channels[0])
    fast = ops.relu(conv.volume("fast/stem", x, stride=(1, 2, 2), padding=(2, 2, 2)))
    for stage, _, frames, stride in config.stages:
        lateral = conv.volume(
            f"{stage}/lateral", fast, stride=(config.alpha, 1, 1), padding=(TEMPORAL // 2, 0, 0)
        )  # (N, T/alpha, h, w, 2 fast channels)
        slow = ops.concat([slow, ops.relu(lateral)], axis=4)
        slow = block(f"slow/{stage}", slow, frames, stride)  # (N, T/alpha, h', w', 2 inside)
        fast = block(f"fast/{stage}", fast, 3, stride)  # (N, T, h', w', 2 inside / beta)
    slow = _in_time(ops, slow, config.frames, method="bilinear")  # (N, T, h, w, slow)
    x = ops.mean(ops.concat([slow, fast], axis=4), axis=(1, 2, 3))  # (N, features)
    return ops.dense(x, p["head/w"], p["head/b"]), conv.buffers  # (N, classes)


def _in_time(ops, x, frames, *, method):
    """(N, T, H, W, C) -> (N, frames, H, W, C): an image of T rows and H W columns, resized."""
    n, t, h, w, c = ops.shape(x)
    x = ops.resize(ops.reshape(x, (n, t, h * w, c)), (frames, h * w), method=method)
    return ops.reshape(x, (n, frames, h, w, c))


MODEL = Model(
    sizes={
        "tiny": Config(
            frames=8, side=8, alpha=4, beta=4, channels=(8, 8), kernels=(1, 3), classes=10
        ),
        "small": Config(
            frames=16,
            side=32,
            alpha=8,
            beta=8,
            channels=(16, 16, 32),
            kernels=(1, 1, 3),
            classes=10,
        ),
    },
    batch={"tiny": 4, "small": 2},
    initial=initial,
    example=lambda config, batch: video(config.frames, config.side, batch),
    forward=forward,
    recipe="sgd_momentum",
)
