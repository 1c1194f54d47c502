"""Transfer learning: a new head on a ResNet whose weights and statistics stay what they are."""

from dataclasses import dataclass

from adapters.data import keep_mask, photographs
from adapters.model import Model
from adapters.models import resnet50

HIDDEN = 512
RATE = 0.5  # of dropout


@dataclass(frozen=True)
class Config:
    backbone: resnet50.Config
    classes: int


def initial(config, rng):
    values = resnet50.backbone_initial(rng, config.backbone, prefix="backbone/")
    values.affine("head/fc1", config.backbone.features, HIDDEN)
    values.affine("head/fc2", HIDDEN, config.classes)
    return values.params, values.buffers


def example(config, batch):
    data = photographs(config.backbone.side, batch)
    keep = keep_mask((batch, HIDDEN), RATE, seed=0)
    return {"x/image": data["x"], "x/keep": keep, "y": data["y"]}


def forward(ops, p, x, *, config, train):
    # batch normalisation by the running statistics also in training, which leaves them alone
    h, _ = resnet50.backbone(
        ops, p, x["image"], config=config.backbone, train=False, prefix="backbone/"
    )  # (N, features)
    h = ops.relu(ops.dense(h, p["head/fc1/w"], p["head/fc1/b"]))  # (N, HIDDEN)
    if train:
        h = ops.multiply(h, x["keep"])
    return ops.dense(h, p["head/fc2/w"], p["head/fc2/b"]), {}  # (N, classes)


MODEL = Model(
    sizes={
        name: Config(backbone=resnet50.MODEL.sizes[name], classes=2) for name in ("tiny", "small")
    },
    batch={"tiny": 8, "small": 8},
    initial=initial,
    example=example,
    forward=forward,
    recipe="adamw_frozen_backbone",
)
