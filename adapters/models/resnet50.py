"""ResNet-50 (He et al. 2016): bottleneck blocks with shortcuts. Version 1.5, as all frameworks
publish it: the stride of a block is in its 3x3 convolution, not in the first 1x1."""

from dataclasses import dataclass

from adapters.convolutions import Convolutions, Initial
from adapters.data import colour_digits_split, photographs
from adapters.model import Goal, Model, Published, accuracy

EXPANSION = 4  # channels behind a block / channels inside
LAST = 0.3  # the scale that ends a branch (Goyal et al. 2017 start at 0, which hides the branch)


@dataclass(frozen=True)
class Config:
    side: int
    channels: int  # of the stem, and inside the first stage; they double with each stage
    depths: tuple[int, int, int, int]  # blocks of each stage
    classes: int

    @property
    def features(self):
        return self.channels * 8 * EXPANSION

    @property
    def blocks(self):
        """(name, channels inside, stride) of each block. The first of a stage has a convolution
        as its shortcut, since it changes the shape."""
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                yield f"stage{stage + 1}/block{i + 1}", self.channels * 2**stage, stride


def backbone_initial(rng, config, *, prefix=""):
    initial = Initial(rng)
    initial.convolution(f"{prefix}stem", 7, 7, 3, config.channels)
    inputs = config.channels
    for block, inside, _ in config.blocks:
        name, outputs = prefix + block, inside * EXPANSION
        initial.convolution(f"{name}/conv1", 1, 1, inputs, inside)
        initial.convolution(f"{name}/conv2", 3, 3, inside, inside)
        initial.convolution(f"{name}/conv3", 1, 1, inside, outputs, scale=LAST)
        if inputs != outputs:
            initial.convolution(f"{name}/shortcut", 1, 1, inputs, outputs)
        inputs = outputs
    return initial


def backbone(ops, p, x, *, config, train, prefix=""):
    """(N, side, side, 3) -> features (N, 32 channels), updated buffers."""
    conv = Convolutions(ops, p, train=train)
    x = ops.relu(conv.plane(f"{prefix}stem", x, stride=2, padding=3))  # (N, side/2, side/2, C)
    x = ops.max_pool2d(x, window=3, stride=2, padding=1)  # (N, side/4, side/4, C)
    for block, _, stride in config.blocks:
        name = prefix + block
        h = ops.relu(conv.plane(f"{name}/conv1", x))  # (N, h, w, inside)
        h = ops.relu(conv.plane(f"{name}/conv2", h, stride=stride, padding=1))
        h = conv.plane(f"{name}/conv3", h)  # (N, h', w', outputs)
        if f"{name}/shortcut/w" in p:
            x = conv.plane(f"{name}/shortcut", x, stride=stride)
        x = ops.relu(ops.add(h, x))
    return ops.mean(x, axis=(1, 2)), conv.buffers  # of (N, side/32, side/32, 32 C)


def initial(config, rng):
    values = backbone_initial(rng, config)
    values.affine("head", config.features, config.classes)
    return values.params, values.buffers


def forward(ops, p, x, *, config, train):
    features, buffers = backbone(ops, p, x, config=config, train=train)
    return ops.dense(features, p["head/w"], p["head/b"]), buffers  # (N, classes)


MODEL = Model(
    sizes={
        "tiny": Config(side=32, channels=8, depths=(1, 1, 1, 1), classes=10),
        "small": Config(side=64, channels=16, depths=(2, 2, 2, 2), classes=10),
        "full": Config(side=224, channels=64, depths=(3, 4, 6, 3), classes=1000),
    },
    batch={"tiny": 8, "small": 8, "full": 2},
    initial=initial,
    example=lambda config, batch: photographs(config.side, batch),
    forward=forward,
    recipe="sgd_momentum",
    goal=Goal(
        data=lambda config: colour_digits_split(config.side),
        score=accuracy,
        name="accuracy",
        target=0.95,
        steps=300,
        batch=32,
        recipe="sgd_momentum",
        compared=False,
    ),
    published={
        "full": Published(
            parameters=25_557_032,
            gmac=4.1,
            source="He et al. 2016; torchvision's resnet50, which is version 1.5",
        )
    },
)
