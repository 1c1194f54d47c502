"""MobileNetV2 (Sandler et al. 2018): inverted residuals around depthwise convolutions, ReLU6."""

from dataclasses import dataclass

from adapters.convolutions import Convolutions, Initial
from adapters.data import photographs
from adapters.model import Model

LAST = 0.5  # the scale that ends a block


@dataclass(frozen=True)
class Stage:
    expansion: int  # channels inside a block / channels before it
    channels: int
    depth: int  # blocks
    stride: int  # of the first


@dataclass(frozen=True)
class Config:
    side: int
    stem: int
    stages: tuple[Stage, ...]
    last: int  # channels before the head
    classes: int

    @property
    def blocks(self):
        """(name, inputs, inside, outputs, stride) of each block."""
        inputs = self.stem
        for i, stage in enumerate(self.stages):
            for j in range(stage.depth):
                stride = stage.stride if j == 0 else 1
                inside = inputs * stage.expansion
                yield f"stage{i + 1}/block{j + 1}", inputs, inside, stage.channels, stride
                inputs = stage.channels


#: As published, for 224 x 224 and 1000 classes.
STAGES = tuple(
    Stage(*numbers)
    for numbers in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
        (6, 160, 3, 2), (6, 320, 1, 1),
    )
)  # fmt: skip


def initial(config, rng):
    values = Initial(rng)
    values.convolution("stem", 3, 3, 3, config.stem)
    for name, inputs, inside, outputs, _ in config.blocks:
        if inside != inputs:
            values.convolution(f"{name}/expand", 1, 1, inputs, inside)
        values.convolution(f"{name}/depthwise", 3, 3, 1, inside)
        values.convolution(f"{name}/project", 1, 1, inside, outputs, scale=LAST)
    values.convolution("last", 1, 1, config.stages[-1].channels, config.last)
    values.affine("head", config.last, config.classes)
    return values.params, values.buffers


def forward(ops, p, x, *, config, train):
    conv = Convolutions(ops, p, train=train)

    def relu6(x):
        return ops.clip(x, 0.0, 6.0)

    x = relu6(conv.plane("stem", x, stride=2, padding=1))  # (N, side/2, side/2, stem)
    for name, inputs, inside, outputs, stride in config.blocks:
        h = x if inside == inputs else relu6(conv.plane(f"{name}/expand", x))  # (N, h, w, inside)
        # one filter for each channel
        h = relu6(conv.plane(f"{name}/depthwise", h, stride=stride, padding=1, groups=inside))
        h = conv.plane(f"{name}/project", h)  # (N, h', w', outputs), a linear bottleneck
        x = ops.add(h, x) if stride == 1 and inputs == outputs else h
    x = relu6(conv.plane("last", x))  # (N, h, w, last)
    x = ops.mean(x, axis=(1, 2))  # (N, last)
    return ops.dense(x, p["head/w"], p["head/b"]), conv.buffers  # (N, classes)


MODEL = Model(
    sizes={
        "tiny": Config(
            side=16, stem=4, stages=(Stage(1, 4, 1, 1), Stage(3, 8, 2, 2)), last=16, classes=10
        ),
        "small": Config(
            side=64,
            stem=16,
            stages=(Stage(1, 8, 1, 1), Stage(6, 16, 2, 2), Stage(6, 24, 2, 2)),
            last=96,
            classes=10,
        ),
    },
    batch={"tiny": 8, "small": 8},
    initial=initial,
    example=lambda config, batch: photographs(config.side, batch),
    forward=forward,
    # the next normalisation cancels the offset that ends a block: its gradient is rounding alone,
    # and only decay moves it
    recipe="sgd_coupled_decay",
)
