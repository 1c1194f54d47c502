"""Short compositions that compilers rewrite: what they fuse into one loop, and what optimisers of
graphs recognise and replace by a kernel of their own. Each is written out of plain operations, as
people write it who do not call the layer by its name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adapters.ops import Array, Ops


def _number(ops: Ops, value: float) -> Array:
    return ops.constant(np.asarray(value))


def _kept(ops: Ops, reduced: Array, like: Array, axis: int) -> Array:
    """A reduction of `like` along `axis`, with that axis as one element again."""
    shape = list(ops.shape(like))
    shape[axis] = 1
    return ops.reshape(reduced, shape)


# -- a contraction, what is done to its elements, and a reduction ----------------------------------


def squares_of_product(ops: Ops, w: Array, x: Array) -> Array:
    """|w x_i|^2 of every row x_i of x (N, K), w (M, K) -> (N,)"""
    y = ops.matmul(w, ops.transpose(x, (1, 0)))  # (M, N)
    return ops.sum(ops.multiply(y, y), axis=0)


def product_squares_total(ops: Ops, w: Array, x: Array) -> Array:
    """(N, K) (K, M): the sum of all squares of the product, over rows and then over columns."""
    y = ops.matmul(x, w)  # (N, M)
    return ops.sum(ops.sum(ops.multiply(y, y), axis=0), axis=0)


def product_exp_mean(ops: Ops, x: Array, w: Array, b: Array) -> Array:
    """mean exp(-|x w + b|) over the columns: (N, K) (K, M) -> (N,)"""
    y = ops.absolute(ops.dense(x, w, b))
    return ops.mean(ops.exp(ops.subtract(_number(ops, 0.0), y)), axis=1)


def product_largest(ops: Ops, x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """The largest of max(x w + b, 0), and where it is: (N, K) (K, M) -> (N,), (N,)"""
    y = ops.relu(ops.dense(x, w, b))
    return ops.max(y, axis=1), ops.argmax(ops.dense(x, w, b), axis=1)


def convolution_scaled(
    ops: Ops, x: Array, w: Array, scale: Array, offset: Array, mean: Array, var: Array
) -> Array:
    """A convolution, the normalisation that folds into its kernel, and relu."""
    y = ops.conv2d(x, w, padding=1)
    y = ops.batch_norm(y, scale, offset, mean, var, train=False, momentum=0.1, epsilon=1e-3)[0]
    return ops.relu(y)


def convolution_padded(ops: Ops, x: Array, w: Array, b: Array) -> Array:
    """A pad that is unlike on every side, which folds into the convolution; and a mean."""
    y = ops.conv2d(ops.pad(x, ((0, 0), (0, 1), (2, 1), (0, 0))), w, b, stride=2)
    return ops.mean(y, axis=(1, 2))


def product_transposed(ops: Ops, a: Array, b: Array) -> Array:
    """((a^T b) / 2)^T, whose transpositions and factor fold into the product: (K, M) (K, N)"""
    y = ops.matmul(ops.transpose(a, (1, 0)), b)  # (M, N)
    return ops.transpose(ops.multiply(y, _number(ops, 0.5)), (1, 0))


def two_products_of_one(ops: Ops, x: Array, v: Array, w: Array) -> Array:
    """silu(x v) * (x w), the gate of many language models: both products read x."""
    return ops.multiply(ops.silu(ops.matmul(x, v)), ops.matmul(x, w))


def product_of_three(ops: Ops, a: Array, b: Array, c: Array) -> Array:
    """a (b c), with a bias between: (M, K) (K, L) (L, N)"""
    y = ops.add(ops.matmul(b, c), _number(ops, 1.0))
    return ops.matmul(a, y)


# -- layouts ---------------------------------------------------------------------------------------


def transposed_argmax(ops: Ops, x: Array, scale: Array) -> Array:
    """Where x^T * scale is largest: (N, M), (N,) -> (M,), in each of the two orders."""
    return ops.argmax(ops.multiply(ops.transpose(x, (1, 0)), scale), axis=1)


def transposed_sums(ops: Ops, x: Array) -> tuple[Array, Array]:
    """Sums of |x|^T along both axes, whose loops run over x in unlike orders."""
    y = ops.absolute(ops.transpose(x, (1, 0)))
    return ops.sum(y, axis=0), ops.sum(y, axis=1)


def slices_joined(ops: Ops, x: Array) -> Array:
    """Columns of a wide tensor in another order, one part scaled: (N, 12)"""
    a, b, c = (ops.slice(x, axis=1, start=i, stop=i + 4) for i in (0, 4, 8))
    return ops.concat([c, ops.multiply(a, _number(ops, 2.0)), b], axis=1)


def joined_slices(ops: Ops, x: Array, y: Array) -> Array:
    """Slices across the seam of what was joined, and their product."""
    n = ops.shape(x)[1]
    whole = ops.concat([x, y], axis=1)
    left = ops.slice(whole, axis=1, start=1, stop=n + 1)
    right = ops.slice(whole, axis=1, start=n - 1, stop=2 * n - 1)
    return ops.multiply(left, right)


def heads_split_and_merged(ops: Ops, x: Array, w: Array) -> Array:
    """(N, S, D): x w, split into queries and keys of two heads, multiplied, and merged again."""
    n, s, d = ops.shape(x)
    y = ops.reshape(ops.dense(x, w), (n, s, 2, 2, d // 2))  # (N, S, q or k, heads, D / 2)
    y = ops.transpose(y, (2, 0, 3, 1, 4))  # (q or k, N, heads, S, D / 2)
    q, k = (
        ops.reshape(ops.slice(y, axis=0, start=i, stop=i + 1), (n, 2, s, d // 2)) for i in (0, 1)
    )
    merged = ops.transpose(ops.multiply(q, k), (0, 2, 1, 3))
    return ops.reshape(merged, (n, s, d))


def shuffled_pixels(ops: Ops, x: Array) -> Array:
    """(N, H, W, 4) -> (N, 2H, 2W): channels become pixels, then sums of columns."""
    n, h, w, _ = ops.shape(x)
    y = ops.transpose(ops.reshape(x, (n, h, w, 2, 2)), (0, 1, 3, 2, 4))
    return ops.sum(ops.reshape(y, (n, 2 * h, 2 * w)), axis=2)


def broadcast_and_reduced(ops: Ops, x: Array, y: Array) -> Array:
    """The largest difference of each row of x (N, D) from any row of y (M, D), never stored."""
    (n, d), (m, _) = ops.shape(x), ops.shape(y)
    difference = ops.subtract(ops.reshape(x, (n, 1, d)), ops.reshape(y, (1, m, d)))
    return ops.max(ops.sum(ops.multiply(difference, difference), axis=2), axis=1)


def looked_up_and_summed(ops: Ops, table: Array, ids: Array) -> Array:
    """The sum of the rows that each bag names: (V, D), integers (N, K) -> (N, D)"""
    return ops.sum(ops.embedding(table, ids), axis=1)


# -- reductions of one input -----------------------------------------------------------------------


def two_reductions(ops: Ops, x: Array) -> tuple[Array, Array, Array]:
    """The sum along one axis, the largest along the other, and the mean of all."""
    return ops.sum(x, axis=0), ops.max(x, axis=1), ops.mean(x, axis=(0, 1))


def sum_and_sum_of_squares(ops: Ops, x: Array) -> tuple[Array, Array]:
    """Both along the rows, which one loop can do."""
    return ops.sum(x, axis=1), ops.sum(ops.multiply(x, x), axis=1)


def masked_mean(ops: Ops, x: Array) -> Array:
    """The mean of what is positive in each row."""
    positive = ops.greater(x, _number(ops, 0.0))
    one, none = _number(ops, 1.0), _number(ops, 0.0)
    total = ops.sum(ops.where(positive, x, none), axis=1)
    return ops.divide(total, ops.sum(ops.where(positive, one, none), axis=1))


def reduced_and_subtracted(ops: Ops, x: Array) -> Array:
    """x minus its largest in the row, minus the mean of that: a reduction that needs another."""
    y = ops.subtract(x, _kept(ops, ops.max(x, axis=1), x, 1))
    return ops.subtract(y, _kept(ops, ops.mean(y, axis=1), x, 1))


# -- normalisations and activations that are not called by their names -----------------------------


def layer_norm_by_hand(ops: Ops, x: Array, y: Array, scale: Array, offset: Array) -> Array:
    """Of x + y, as after a residual connection."""
    z = ops.add(x, y)
    centred = ops.subtract(z, _kept(ops, ops.mean(z, axis=1), z, 1))
    var = _kept(ops, ops.mean(ops.multiply(centred, centred), axis=1), z, 1)
    normal = ops.divide(centred, ops.sqrt(ops.add(var, _number(ops, 1e-3))))
    return ops.add(ops.multiply(normal, scale), offset)


def rms_norm_by_hand(ops: Ops, x: Array, scale: Array) -> Array:
    square = _kept(ops, ops.mean(ops.multiply(x, x), axis=1), x, 1)
    root = ops.sqrt(ops.add(square, _number(ops, 1e-3)))
    return ops.multiply(ops.divide(x, root), scale)


def batch_norm_by_hand(ops: Ops, x: Array, scale: Array, offset: Array) -> Array:
    """Over all axes but the last of (N, H, W, C)."""
    mean, var = ops.mean(x, axis=(0, 1, 2)), ops.variance(x, axis=(0, 1, 2))
    normal = ops.divide(ops.subtract(x, mean), ops.sqrt(ops.add(var, _number(ops, 1e-3))))
    return ops.relu(ops.add(ops.multiply(normal, scale), offset))


def normalised_rows(ops: Ops, x: Array, y: Array) -> Array:
    """Cosines of the angles between rows: (N, D), (M, D) -> (N, M)"""
    x, y = (ops.divide(t, _kept(ops, ops.norm(t, axis=1), t, 1)) for t in (x, y))
    return ops.matmul(x, ops.transpose(y, (1, 0)))


def softmax_by_hand(ops: Ops, x: Array) -> Array:
    e = ops.exp(ops.subtract(x, _kept(ops, ops.max(x, axis=1), x, 1)))
    return ops.divide(e, _kept(ops, ops.sum(e, axis=1), x, 1))


def logsumexp_by_hand(ops: Ops, x: Array) -> Array:
    top = ops.max(x, axis=1)
    e = ops.exp(ops.subtract(x, _kept(ops, top, x, 1)))
    return ops.add(ops.log(ops.sum(e, axis=1)), top)


def cross_entropy_by_hand(ops: Ops, x: Array, labels: Array) -> Array:
    """(N, K), integers (N,) -> scalar: the mean of -log softmax(x)[label]"""
    classes = ops.shape(x)[1]
    chosen = ops.sum(ops.multiply(x, ops.one_hot(labels, classes)), axis=1)
    return ops.mean(ops.subtract(logsumexp_by_hand(ops, x), chosen), axis=0)


def softmax_of_biased(ops: Ops, x: Array, bias: Array) -> Array:
    """softmax(x / 2 + bias), and the mean of it over the rows"""
    y = ops.softmax(ops.add(ops.multiply(x, _number(ops, 0.5)), bias))
    return ops.mean(y, axis=0)


def attention_by_hand(ops: Ops, q: Array, k: Array, v: Array, bias: Array) -> Array:
    """(N, heads, S, D): softmax(q k^T / sqrt(D) + bias) v"""
    d = ops.shape(q)[-1]
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))
    scores = ops.multiply(scores, _number(ops, 1 / math.sqrt(d)))
    return ops.matmul(ops.softmax(ops.add(scores, bias)), v)


def causal_attention_by_hand(ops: Ops, q: Array, k: Array, v: Array, *, seen: Any) -> Array:
    """(N, heads, S, D): as above, where `seen` has 1 for what a query sees, else 0"""
    d = ops.shape(q)[-1]
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))
    scores = ops.divide(scores, _number(ops, math.sqrt(d)))
    visible = ops.greater(ops.constant(np.asarray(seen, np.float64)), _number(ops, 0.0))
    return ops.matmul(ops.softmax(ops.where(visible, scores, _number(ops, -1e4))), v)


def gelu_by_hand(ops: Ops, x: Array, b: Array) -> Array:
    """The tanh approximation of x + b, as it is written in many models."""
    x = ops.add(x, b)
    cubic = ops.add(x, ops.multiply(_number(ops, 0.044715), ops.multiply(x, ops.multiply(x, x))))
    t = ops.tanh(ops.multiply(_number(ops, math.sqrt(2 / math.pi)), cubic))
    half = ops.multiply(_number(ops, 0.5), x)
    return ops.multiply(half, ops.add(_number(ops, 1.0), t))


def quick_gelu(ops: Ops, x: Array) -> Array:
    """x * sigmoid(1.702 x)"""
    return ops.multiply(x, ops.sigmoid(ops.multiply(_number(ops, 1.702), x)))


def hard_swish(ops: Ops, x: Array) -> Array:
    """x * min(max(x + 3, 0), 6) / 6"""
    gate = ops.clip(ops.add(x, _number(ops, 3.0)), 0.0, 6.0)
    return ops.divide(ops.multiply(x, gate), _number(ops, 6.0))


# -- what looks as if it did nothing ---------------------------------------------------------------


def undone(ops: Ops, x: Array) -> tuple[Array, Array, Array]:
    """log exp x, (x + 1000) - 1000 and x * 3 / 3: each rounds where it does not only look so."""
    thousand, three = _number(ops, 1000.0), _number(ops, 3.0)
    return (
        ops.log(ops.exp(x)),
        ops.subtract(ops.add(x, thousand), thousand),
        ops.divide(ops.multiply(x, three), three),
    )


def root_of_square(ops: Ops, x: Array) -> Array:
    """sqrt(x^2) / 3, the absolute value by another name"""
    return ops.divide(ops.sqrt(ops.multiply(x, x)), _number(ops, 3.0))


def squared_distances(ops: Ops, x: Array, y: Array) -> tuple[Array, Array]:
    """|x|^2 + |y|^2 - 2 x y^T of rows (N, D), (M, D) -> (N, M), and the farthest of each."""
    (n, _), (m, _) = ops.shape(x), ops.shape(y)
    lengths = ops.add(
        ops.reshape(ops.sum(ops.multiply(x, x), axis=1), (n, 1)),
        ops.reshape(ops.sum(ops.multiply(y, y), axis=1), (1, m)),
    )
    product = ops.matmul(x, ops.transpose(y, (1, 0)))
    distances = ops.subtract(lengths, ops.multiply(_number(ops, 2.0), product))
    return distances, ops.argmax(distances, axis=1)
