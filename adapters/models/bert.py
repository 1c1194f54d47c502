"""BERT (Devlin et al. 2019): an encoder of post-norm blocks over pairs of sentences, which restores
masked tokens and tells whether the second sentence follows the first. No dropout."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from adapters import layers
from adapters.data import masked_text, masked_text_split
from adapters.model import Goal, Model, Published, near

EPSILON = 1e-12  # of every layer normalisation, as published
SEGMENTS = 2
NOT_ASKED = -1  # the label of a token that counts for nothing
PAIRS = 2000  # of the text, for training and for what is held out


@dataclass(frozen=True)
class Config:
    vocabulary: int
    positions: int
    length: int
    width: int
    depth: int
    heads: int


def at_length(config, length):
    return replace(config, length=length, positions=max(config.positions, length))


def initial(config, rng):
    v, d = config.vocabulary, config.width
    p = {
        # small enough for logits of about 1, as the table is the output layer, too
        "embeddings/words": rng.normal(0.0, d**-0.5, (v, d)),
        "embeddings/positions": near(rng, 0, config.positions, d),
        "embeddings/segments": near(rng, 0, SEGMENTS, d),
        **layers.norm_parameters(rng, "embeddings/norm", d),
    }
    for i in range(config.depth):
        p |= layers.block_parameters(rng, f"block{i}", d, 4 * d)
    return p | {
        **layers.dense_parameters(rng, "pooler", d, d),
        **layers.dense_parameters(rng, "heads/transform", d, d),
        **layers.norm_parameters(rng, "heads/norm", d),
        "heads/words/b": near(rng, 0, v),
        **layers.dense_parameters(rng, "heads/class", d, 2),
    }, {}


def forward(ops, p, x, *, config, train):
    (n, s), d = ops.shape(x["ids"]), config.width
    h = ops.add(
        ops.embedding(p["embeddings/words"], x["ids"]),
        ops.embedding(p["embeddings/segments"], x["segments"]),
    )  # (N, S, D)
    h = ops.add(h, ops.slice(p["embeddings/positions"], axis=0, start=0, stop=s))
    h = layers.norm(ops, p, "embeddings/norm", h, epsilon=EPSILON)
    attend = partial(ops.attention, mask=ops.reshape(x["mask"], (n, 1, 1, s)))  # no padding
    for i in range(config.depth):
        h = layers.post_norm(
            ops, p, f"block{i}", h, heads=config.heads, attend=attend, activation=ops.gelu,
            epsilon=EPSILON,
        )  # fmt: skip
    first = ops.reshape(ops.slice(h, axis=1, start=0, stop=1), (n, d))
    pooled = ops.tanh(layers.dense(ops, p, "pooler", first))  # (N, D)
    h = ops.gelu(layers.dense(ops, p, "heads/transform", h))  # (N, S, D)
    h = layers.norm(ops, p, "heads/norm", h, epsilon=EPSILON)
    words = ops.transpose(p["embeddings/words"], (1, 0))  # (D, V)
    return {
        "tokens": ops.dense(h, words, p["heads/words/b"]),  # (N, S, V)
        "class": layers.dense(ops, p, "heads/class", pooled),  # (N, 2)
    }, {}


def loss(ops, output, y):
    """That of the tokens asked for, a mean over them, and that of the class."""
    n, s, v = ops.shape(output["tokens"])
    tokens = ops.cross_entropy(
        ops.reshape(output["tokens"], (n * s, v)),
        ops.reshape(y["tokens"], (n * s,)),
        ignore=NOT_ASKED,
    )
    return ops.add(tokens, ops.cross_entropy(output["class"], y["class"]))


def restored(output, y):
    """The share of the tokens asked for whose largest logit is right."""
    asked = y["tokens"] != NOT_ASKED
    return float(np.mean(np.argmax(output["tokens"], axis=-1)[asked] == y["tokens"][asked]))


MODEL = Model(
    sizes={
        "tiny": Config(vocabulary=300, positions=16, length=16, width=16, depth=1, heads=2),
        "small": Config(vocabulary=1024, positions=512, length=64, width=128, depth=2, heads=4),
        "full": Config(vocabulary=30522, positions=512, length=128, width=768, depth=12, heads=12),
    },
    batch={"tiny": 4, "small": 4, "full": 2},
    initial=initial,
    example=lambda config, batch: masked_text(config.vocabulary, config.length, batch),
    forward=forward,
    loss=loss,
    recipe="adamw_clip",
    goal=Goal(
        data=lambda config: masked_text_split(config.vocabulary, config.length, PAIRS),
        score=restored,
        name="masked tokens restored",
        target=0.5,
        steps=1000,
        batch=16,
        recipe="adamw",
        compared=False,
    ),
    lengths=(16, 32, 64, 128, 256, 512),
    at_length=at_length,
    published={
        "full": Published(
            parameters=109_482_240, without=("heads/",), source="Devlin et al. 2019, BERT-base"
        )
    },
)
