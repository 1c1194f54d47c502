"""A recommender (DLRM, Naumov et al. 2019): dense features through a perceptron, categories through
tables of embeddings, the products of all pairs of these vectors, and a second perceptron."""

from dataclasses import dataclass

from adapters import layers
from adapters.data import clicks
from adapters.model import Model

DENSE = 13  # features of `clicks`
PIXELS = 64  # that the fields share


@dataclass(frozen=True)
class Config:
    fields: int
    vocabulary: int  # of every field
    width: int  # of an embedding
    hidden: int

    @property
    def pairs(self):
        """Pairs of different vectors: the fields' and that of the dense features."""
        return (self.fields + 1) * self.fields // 2


def initial(config, rng):
    d, hidden, ids = config.width, config.hidden, PIXELS // config.fields
    p = {
        **layers.dense_parameters(rng, "bottom/fc1", DENSE, hidden),
        **layers.dense_parameters(rng, "bottom/fc2", hidden, d),
    }
    for i in range(config.fields):
        p[f"table{i}"] = rng.normal(0.0, (ids * d) ** -0.5, (config.vocabulary, d))
    return p | {
        **layers.dense_parameters(rng, "top/fc1", d + config.pairs, hidden),
        **layers.dense_parameters(rng, "top/fc2", hidden, hidden),
        **layers.dense_parameters(rng, "top/fc3", hidden, 1),
    }, {}


def forward(ops, p, x, *, config, train):
    def perceptron(x, *names):
        for name in names:
            x = ops.relu(layers.dense(ops, p, name, x))
        return x

    n, d = ops.shape(x["dense"])[0], config.width
    dense = perceptron(x["dense"], "bottom/fc1", "bottom/fc2")  # (N, D)
    vectors = [dense]
    for i in range(config.fields):
        ids = ops.slice(x["ids"], axis=1, start=i, stop=i + 1)  # (N, 1, ids of the field)
        vectors.append(ops.sum(ops.embedding(p[f"table{i}"], ids), axis=(1, 2)))  # (N, D)
    h = ops.concat([ops.reshape(v, (n, 1, d)) for v in vectors], axis=1)  # (N, F + 1, D)
    products = ops.matmul(h, ops.transpose(h, (0, 2, 1)))  # (N, F + 1, F + 1)
    h = ops.concat([dense, *_below_diagonal(ops, products)], axis=1)  # (N, D + pairs)
    h = perceptron(h, "top/fc1", "top/fc2")  # (N, hidden)
    return ops.reshape(layers.dense(ops, p, "top/fc3", h), (n,)), {}  # (N,)


def _below_diagonal(ops, x):
    """Row i of (N, F, F) up to the diagonal, for each i from 1: (N, i)."""
    for i in range(1, ops.shape(x)[1]):
        row = ops.flatten(ops.slice(x, axis=1, start=i, stop=i + 1))  # (N, F)
        yield ops.slice(row, axis=1, start=0, stop=i)


MODEL = Model(
    sizes={
        "tiny": Config(fields=4, vocabulary=17, width=8, hidden=16),
        "small": Config(fields=16, vocabulary=1000, width=64, hidden=256),
    },
    batch={"tiny": 8, "small": 128},
    initial=initial,
    example=lambda config, batch: clicks(batch, config.fields, config.vocabulary),
    forward=forward,
    loss=lambda ops, output, y: ops.bce_with_logits(output, y),
    recipe="sgd_momentum",
)
