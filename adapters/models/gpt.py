"""GPT-2 (Radford et al. 2019): a decoder of pre-norm blocks with causal attention, whose output
layer is its table of tokens. No dropout.

`generate` continues the input greedily. It runs the input once, keeps the keys and values of every
layer, and then feeds one token at a time: one step of a scan, whose tensors have fixed shapes.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from adapters import layers
from adapters.data import CHARACTERS, bpe, characters, characters_split
from adapters.model import Goal, Model, Published, near
from adapters.ops import Array

EPSILON = 1e-5  # of every layer normalisation, as published


@dataclass(frozen=True)
class Config:
    vocabulary: int
    positions: int
    length: int  # of the input
    new: int  # tokens that `generate` adds
    width: int
    depth: int
    heads: int

    @property
    def remembered(self):
        """Positions whose keys and values are kept: all but that of the last token."""
        return self.length + self.new - 1


def at_length(config, length):
    positions = max(config.positions, length + config.new)
    return replace(config, length=length, positions=positions)


def initial(config, rng):
    v, d = config.vocabulary, config.width
    p = {
        # small enough for logits of about 1, as the table is the output layer, too
        "tokens": rng.normal(0.0, d**-0.5, (v, d)),
        "positions": near(rng, 0, config.positions, d),
    }
    for i in range(config.depth):
        p |= layers.block_parameters(rng, f"block{i}", d, 4 * d)
    return p | layers.norm_parameters(rng, "norm", d), {}


def example(config, batch):
    """Text in characters where the vocabulary is theirs, else in tokens."""
    if config.vocabulary == CHARACTERS:
        return characters(config.length, batch)
    return bpe(config.vocabulary, config.length, batch)


def forward(ops, p, x, *, config, train):
    x = _embed(ops, p, x, config.length)  # (N, S, D)
    x = _blocks(ops, p, x, config=config, attend=lambda _, *qkv: ops.attention(*qkv, causal=True))
    return _logits(ops, p, x), {}  # (N, S, V)


def generate(ops, p, x, *, config):
    """(N, S) -> the logits of every new token (N, new, V)."""
    length, new, remembered = config.length, config.new, config.remembered
    keys: list[Array] = []  # of every layer, (N, L, heads, D / heads), L = remembered
    values: list[Array] = []

    def attend(_, q, k, v):
        for memory, found in ((keys, k), (values, v)):
            memory.append(ops.pad(found, ((0, 0), (0, new - 1), (0, 0), (0, 0))))
        return ops.attention(q, k, v, causal=True)

    x = _blocks(ops, p, _embed(ops, p, x, length), config=config, attend=attend)  # (N, S, D)
    logits = _logits(ops, p, ops.slice(x, axis=1, start=length - 1, stop=length))  # (N, 1, V)
    found = ops.pad(logits, ((0, 0), (0, new - 1), (0, 0)))  # (N, new, V)
    fed = np.arange(length, remembered)  # the positions of the tokens that are fed
    rows = np.stack([np.eye(remembered)[fed], np.tri(remembered)[fed]], axis=1)  # (new - 1, 2, L)
    state = (ops.argmax(logits, axis=2), found, *keys, *values)
    step = partial(_step, ops, p, config=config)
    return ops.scan(step, state, ops.constant(rows))[1], {}


def _step(ops, p, state, row, *, config):
    """Feeds one token. The state is that token (N, 1), the logits of all (N, new, V), and what is
    remembered; the row (2, L) is 1 at the token's position, and 1 up to there."""
    token, found, *memory = state
    keys, values = memory[: config.depth], memory[config.depth :]
    here, seen = (ops.slice(row, axis=0, start=i, stop=i + 1) for i in (0, 1))  # (1, L)
    half = ops.constant(np.array(0.5))
    at = ops.reshape(ops.greater(here, half), (1, config.remembered, 1, 1))
    mask = ops.reshape(ops.greater(seen, half), (1, 1, 1, config.remembered))

    def attend(i, q, k, v):
        keys[i], values[i] = ops.where(at, k, keys[i]), ops.where(at, v, values[i])
        return ops.attention(q, keys[i], values[i], mask=mask)

    table = ops.slice(p["positions"], axis=0, start=0, stop=config.remembered)  # (L, D)
    x = ops.add(ops.embedding(p["tokens"], token), ops.dense(here, table))  # (N, 1, D)
    logits = _logits(ops, p, _blocks(ops, p, x, config=config, attend=attend))  # (N, 1, V)
    now = ops.slice(here, axis=1, start=config.length - 1, stop=config.remembered)  # (1, new)
    now = ops.reshape(ops.greater(now, half), (1, config.new, 1))
    return ops.argmax(logits, axis=2), ops.where(now, logits, found), *keys, *values


def _embed(ops, p, ids, length):
    position = ops.slice(p["positions"], axis=0, start=0, stop=length)  # (S, D)
    return ops.add(ops.embedding(p["tokens"], ids), position)  # (N, S, D)


def _blocks(ops, p, x, *, config, attend):
    """All blocks; `attend` also gets the number of the block."""
    for i in range(config.depth):
        x = layers.pre_norm(
            ops, p, f"block{i}", x, heads=config.heads, attend=partial(attend, i),
            activation=ops.gelu_tanh, epsilon=EPSILON,
        )  # fmt: skip
    return x


def _logits(ops, p, x):
    x = layers.norm(ops, p, "norm", x, epsilon=EPSILON)
    return ops.dense(x, ops.transpose(p["tokens"], (1, 0)))


def loss(ops, output, y):
    """That of the next token, a mean over all."""
    n, s, v = ops.shape(output)
    return ops.cross_entropy(ops.reshape(output, (n * s, v)), ops.reshape(y, (n * s,)))


def nats(output, y):
    """The mean cross-entropy of the next token, in NumPy: logits (N, S, V), tokens (N, S)."""
    shifted = output - output.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, y[..., None], axis=-1)[..., 0]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=-1)) - chosen))


MODEL = Model(
    sizes={
        "tiny": Config(
            vocabulary=CHARACTERS, positions=16, length=8, new=4, width=16, depth=2, heads=2
        ),
        "small": Config(
            vocabulary=CHARACTERS, positions=128, length=64, new=16, width=128, depth=4, heads=4
        ),
        "full": Config(
            vocabulary=50257, positions=1024, length=128, new=32, width=768, depth=12, heads=12
        ),
    },
    batch={"tiny": 4, "small": 4, "full": 1},
    initial=initial,
    example=example,
    forward=forward,
    loss=loss,
    generate=generate,
    recipe="adamw_clip",
    goal=Goal(
        data=lambda config: characters_split(config.length),
        score=nats,
        name="nats per character",
        target=2.5,
        steps=1600,  # of five seeds, two take more than 800 in every framework
        batch=16,
        recipe="adamw_fast",
        every=20,
        held=512,
        rising=False,
    ),
    lengths=(16, 32, 64, 128, 256),
    at_length=at_length,
    published={
        "full": Published(parameters=124_439_808, source="Radford et al. 2019, GPT-2 small")
    },
)
