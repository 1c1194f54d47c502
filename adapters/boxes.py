"""Boxes of object detectors: overlap, encoding, suppression, and features inside of them.

A box is (y1, x1, y2, x2) in pixels, the ends exclusive, in the last axis of a tensor (N, M, 4).
Shapes are fixed: what suppression drops is marked and not removed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapters.ops import Array, Ops

LARGEST = float(np.log(1000 / 16))  # of a logarithm of a size, as in Detectron: exp stays finite


def anchors(side: int, stride: int, sizes: Sequence[tuple[float, float]]) -> np.ndarray:
    """Boxes of every (height, width) in `sizes` around the centre of every `stride` x `stride` cell
    of an image, in row-major order: ((side / stride)^2 * len(sizes), 4)."""
    centre = (np.arange(side // stride) + 0.5) * stride
    cells = np.stack(np.meshgrid(centre, centre, indexing="ij"), axis=-1)  # (h, w, 2)
    half = np.asarray(sizes, np.float64) / 2  # (sizes, 2)
    low, high = cells[:, :, None] - half, cells[:, :, None] + half  # (h, w, sizes, 2)
    return np.concatenate([low, high], axis=-1).reshape(-1, 4)


def iou(ops: Ops, a: Array, b: Array) -> Array:
    """Intersection over union of each of (N, A, 4) with each of (N, B, 4), none of them empty:
    (N, A, B)."""
    rows = edges(ops, a)  # each (N, A, 1)
    columns = [ops.transpose(edge, (0, 2, 1)) for edge in edges(ops, b)]  # each (N, 1, B)

    def extent(i: int) -> Array:
        low, high = ops.maximum(rows[i], columns[i]), ops.minimum(rows[i + 2], columns[i + 2])
        return ops.relu(ops.subtract(high, low))

    def area(y1: Array, x1: Array, y2: Array, x2: Array) -> Array:
        return ops.multiply(ops.subtract(y2, y1), ops.subtract(x2, x1))

    common = ops.multiply(extent(0), extent(1))  # (N, A, B)
    union = ops.subtract(ops.add(area(*rows), area(*columns)), common)
    return ops.divide(common, union)


def encode(ops: Ops, boxes: Array, references: Array) -> Array:
    """(dy, dx, dh, dw) of `boxes` as seen from `references`, both (N, M, 4): the distance of the
    centres in sizes of the reference, and the logarithm of the ratio of sizes (Girshick et al.
    2014)."""
    (y, x, h, w), (y0, x0, h0, w0) = _centred(ops, boxes), _centred(ops, references)
    moves = [
        ops.divide(ops.subtract(y, y0), h0),
        ops.divide(ops.subtract(x, x0), w0),
        ops.log(ops.divide(h, h0)),
        ops.log(ops.divide(w, w0)),
    ]
    return ops.concat(moves, axis=2)


def decode(ops: Ops, deltas: Array, references: Array) -> Array:
    """The boxes (N, M, 4) whose `encode` is `deltas`."""
    y0, x0, h0, w0 = _centred(ops, references)
    dy, dx, dh, dw = edges(ops, deltas)
    half = ops.constant(np.asarray(0.5))

    def ends(centre: Array, size: Array, move: Array, growth: Array) -> tuple[Array, Array]:
        middle = ops.add(centre, ops.multiply(move, size))
        growth = ops.exp(ops.clip(growth, -LARGEST, LARGEST))
        reach = ops.multiply(half, ops.multiply(size, growth))
        return ops.subtract(middle, reach), ops.add(middle, reach)

    (y1, y2), (x1, x2) = ends(y0, h0, dy, dh), ends(x0, w0, dx, dw)
    return ops.concat([y1, x1, y2, x2], axis=2)


def inside(ops: Ops, boxes: Array, side: int) -> Array:
    """The part of (N, M, 4) that lies in a square image, and at least one pixel of it."""
    one = ops.constant(np.asarray(1.0))
    y1, x1, y2, x2 = edges(ops, boxes)
    y1, x1 = (ops.clip(edge, 0.0, side - 1.0) for edge in (y1, x1))
    y2, x2 = (ops.clip(edge, 1.0, float(side)) for edge in (y2, x2))
    y2, x2 = ops.maximum(y2, ops.add(y1, one)), ops.maximum(x2, ops.add(x1, one))
    return ops.concat([y1, x1, y2, x2], axis=2)


def non_maximum_suppression(ops: Ops, boxes: Array, *, threshold: float) -> Array:
    """1 for each of (N, K, 4) that is kept, else 0: (N, K). The boxes come in falling order of
    their score. One is dropped when its IoU with a kept one before it is above `threshold`, which
    is the usual greedy choice: box by box, each that is still there drops those behind it."""
    n, k, _ = ops.shape(boxes)
    zero, one = (ops.constant(np.asarray(value)) for value in (0.0, 1.0))
    behind = ops.constant(np.triu(np.ones((k, k)), 1))  # whether column j comes after row i
    above = ops.greater(iou(ops, boxes, boxes), ops.constant(np.asarray(threshold)))
    drops = ops.multiply(ops.where(above, one, zero), behind)  # (N, K, K), floats 0 or 1
    itself = ops.broadcast_to(ops.constant(np.eye(k)), (n, k, k))
    steps = ops.transpose(ops.concat([drops, itself], axis=2), (1, 0, 2))  # (K, N, 2K)

    def step(kept: Array, row: Array) -> Array:  # (N, K), (N, 2K)
        others = ops.slice(row, axis=1, start=0, stop=k)
        this = ops.slice(row, axis=1, start=k, stop=2 * k)
        there = ops.reshape(ops.sum(ops.multiply(kept, this), axis=1), (n, 1))
        dropped = ops.greater(ops.multiply(others, there), ops.constant(np.asarray(0.5)))
        return ops.where(dropped, ops.constant(np.asarray(0.0)), kept)

    return ops.scan(step, ops.constant(np.ones((n, k))), steps)


def roi_align(ops: Ops, features: Array, boxes: Array, *, stride: int, size: int) -> Array:
    """`size` x `size` bilinear samples of (N, H, W, C) in each of (N, K, 4): (N, K, size, size, C)
    (He et al. 2017, one sample in the middle of each bin). `stride` is the size of a feature in
    pixels. A sample beyond the centres of the outermost features gets the nearest value.

    Bilinear interpolation is linear in rows and in columns, so it is two matrix products with
    matrices whose entries are the triangle kernel max(0, 1 - |distance|)."""
    (n, h, w, c), k = ops.shape(features), ops.shape(boxes)[1]
    y1, x1, y2, x2 = edges(ops, boxes)  # each (N, K, 1)
    rows = ops.reshape(_triangles(ops, y1, y2, h, stride=stride, size=size), (n, k * size, h))
    columns = _triangles(ops, x1, x2, w, stride=stride, size=size)  # (N, K, size, W)
    y = ops.matmul(rows, ops.reshape(features, (n, h, w * c)))  # (N, K size, W C)
    y = ops.transpose(ops.reshape(y, (n, k, size, w, c)), (0, 1, 3, 2, 4))  # (N, K, W, size, C)
    y = ops.matmul(columns, ops.reshape(y, (n, k, w, size * c)))  # (N, K, size, size C)
    return ops.transpose(ops.reshape(y, (n, k, size, size, c)), (0, 1, 3, 2, 4))


def _triangles(
    ops: Ops, low: Array, high: Array, features: int, *, stride: int, size: int
) -> Array:
    """(N, K, size, features): how much each feature counts in each sample from low to high."""
    middles = ops.constant((np.arange(float(size)) + 0.5) / size)  # of the bins, as parts of a box
    at = ops.add(low, ops.multiply(ops.subtract(high, low), middles))  # (N, K, size), in pixels
    at = ops.multiply(at, ops.constant(np.asarray(1 / stride)))
    at = ops.subtract(at, ops.constant(np.asarray(0.5)))  # feature i lies in the middle of a cell
    at = ops.clip(at, 0.0, features - 1.0)
    n, k, _ = ops.shape(low)
    at = ops.reshape(at, (n, k, size, 1))
    distance = ops.absolute(ops.subtract(at, ops.constant(np.arange(float(features)))))
    return ops.relu(ops.subtract(ops.constant(np.asarray(1.0)), distance))


def edges(ops: Ops, boxes: Array) -> list[Array]:
    """The four columns of (N, M, 4), each (N, M, 1)."""
    return [ops.slice(boxes, axis=2, start=i, stop=i + 1) for i in range(4)]


def _centred(ops: Ops, boxes: Array) -> tuple[Array, Array, Array, Array]:
    """Centre and size: y, x, height, width, each (N, M, 1)."""
    y1, x1, y2, x2 = edges(ops, boxes)
    half = ops.constant(np.asarray(0.5))
    y, x = (ops.multiply(half, ops.add(*pair)) for pair in ((y1, y2), (x1, x2)))
    return y, x, ops.subtract(y2, y1), ops.subtract(x2, x1)
