"""The two photographs that scikit-learn carries, 427 x 640: a temple in China and a flower.
Square crops of them for classification, segmentation and detection."""

from __future__ import annotations

from functools import cache
from math import ceil

import numpy as np

from adapters.data.common import check, repeated, resize, weights
from adapters.data.digits import originals

#: SHA-256 of the decoded pixels (427 x 640 x 3, uint8) of china.jpg followed by flower.jpg.
PHOTOGRAPHS_SHA256 = "99310b92a8963a4b9118f3a93695bf9d2f7c20a03361f1962972901ccd5560da"
MEAN = np.array([0.485, 0.456, 0.406])  # of ImageNet's red, green and blue, as is usual
DEVIATION = np.array([0.229, 0.224, 0.225])
EXAMPLES = 1024  # different crops before they repeat
HELD_OUT_EXAMPLES = 256
SMALLEST = 64  # pixels of a photograph along the edge of a crop
BORDER = 384  # training sees the columns before it, held-out examples lie behind it
SEED = 0

Crop = tuple[int, int, int, int]  # which photograph, top, left, edge


def photographs(side: int, batch: int) -> dict[str, np.ndarray]:
    """Square crops of the two photographs in turn, at different places and scales.

    Returns x (batch, side, side, 3) float64, normalised with ImageNet's usual mean and deviation,
    and y (batch,) int64, which photograph: 0 the temple, 1 the flower. The 1,024 crops have edges
    of 64 to 427 pixels; they repeat when more are asked for.
    """
    return _classified(_first(_crops(EXAMPLES), batch), side)


def photo_patches(side: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training set, held-out set), each as `photographs` returns it: 1,024 crops of the left
    384 columns and 256 of the right 256 columns, so that no pixel is in both."""
    train, held = _divided(segments=False)
    return _classified(train, side), _classified(held, side)


def segmentation(side: int, batch: int) -> dict[str, np.ndarray]:
    """Crops as in `photographs`, and what belongs to which pixel.

    Returns x (batch, side, side, 3) and y (batch, side, side, 1), float64. y is 1 on the flower,
    where a pixel of that photograph is more red than green, and on the sky and lake behind the
    temple, where blue is at least as strong as red and above 120 of 255; it is 0 elsewhere. Where
    resizing mixes both, the majority counts. In each crop 10% to 90% of the pixels are 1.
    """
    return _segmented(_first(_crops(EXAMPLES, segments=True), batch), side)


def segmentation_split(side: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(training set, held-out set), each as `segmentation` returns it: 1,024 crops of the left
    384 columns and 256 of the right 256 columns, so that no pixel is in both."""
    train, held = _divided(segments=True)
    return _segmented(train, side), _segmented(held, side)


def detection(side: int, batch: int, objects: int) -> dict[str, np.ndarray]:
    """Crops as in `photographs` with `objects` handwritten digits pasted onto each, at different
    places and scales, black where the photograph is bright and white where it is dark.

    Returns x (batch, side, side, 3) float64, normalised as in `photographs`;
    y/boxes (batch, objects, 4) float64, the square of each pasted digit as (y1, x1, y2, x2) in
    pixels, its ends exclusive; and y/labels (batch, objects) int64: the digit + 1, for 0 is the
    background. Each digit lies in its own cell of a grid: no two overlap. Raises ValueError when
    `side` leaves less than 6 pixels for a cell.
    """
    cells = ceil(objects**0.5)
    if side < 6 * cells:
        raise ValueError(f"side {side}, but {objects} objects should have {6 * cells} or more")
    crops = _crops(EXAMPLES)
    pasted = [_paste(i, crops[i], side, objects) for i in repeated(batch, EXAMPLES)]
    x, boxes, labels = (np.stack(parts) for parts in zip(*pasted, strict=True))
    return {"x": (x - MEAN) / DEVIATION, "y/boxes": boxes, "y/labels": labels}


def _paste(
    example: int, crop: Crop, side: int, objects: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (side, side, 3) in 0..1, boxes (objects, 4) and labels (objects,) of an example."""
    rng = np.random.default_rng([SEED, example])
    images, digits = originals()
    chosen = (example * objects + np.arange(objects)) % len(digits)
    cells = ceil(objects**0.5)
    cell = side // cells
    pixels = _cut(_pixels(), crop, side)
    boxes = np.empty((objects, 4))
    for k, place in enumerate(rng.permutation(cells**2)[:objects]):
        edge = int(rng.integers(ceil(0.6 * cell), cell + 1))
        y, x = np.array(divmod(place, cells)) * cell + rng.integers(0, cell - edge + 1, 2)
        ink = resize(images[chosen[k], None] / 16, edge)[0, :, :, None]  # (edge, edge, 1) in 0..1
        under = pixels[y : y + edge, x : x + edge]  # a view
        colour = 0.0 if under.mean() > 0.5 else 1.0
        under[:] = under * (1 - ink) + colour * ink
        boxes[k] = y, x, y + edge, x + edge
    return pixels, boxes, digits[chosen] + 1


@cache
def _pixels() -> np.ndarray:
    """(2, 427, 640, 3) float64 in 0..1: china.jpg and flower.jpg; not writable."""
    from sklearn.datasets import load_sample_images  # here, because a worker never loads data

    images = load_sample_images().images  # in alphabetical order
    check(
        "scikit-learn's photographs, as Pillow decodes them,",
        b"".join(np.ascontiguousarray(image).tobytes() for image in images),
        PHOTOGRAPHS_SHA256,
    )
    pixels = np.stack(images) / 255
    pixels.flags.writeable = False
    return pixels


@cache
def _masks() -> np.ndarray:
    """(2, 427, 640, 1) float64, 0 or 1, as `segmentation` describes it."""
    temple, flower = _pixels()
    sky = (temple[..., 2] >= temple[..., 0]) & (temple[..., 2] > 120 / 255)
    return np.stack([sky, flower[..., 0] > flower[..., 1]])[..., None].astype(np.float64)


@cache
def _crops(
    count: int, *, columns: tuple[int, int] = (0, 640), segments: bool = False
) -> tuple[Crop, ...]:
    """`count` crops of the two photographs in turn, inside these columns; with `segments`, those
    only in which between 10% and 90% of the pixels are marked."""
    rng = np.random.default_rng(SEED)
    first, last = columns
    found: list[Crop] = []
    while len(found) < count:
        which = len(found) % 2
        edge = int(rng.integers(SMALLEST, min(427, last - first) + 1))
        top = int(rng.integers(427 - edge + 1))
        left = int(rng.integers(first, last - edge + 1))
        marked = _masks()[which, top : top + edge, left : left + edge] if segments else 0.5
        if 0.1 <= np.mean(marked) <= 0.9:
            found.append((which, top, left, edge))
    return tuple(found)


def _divided(*, segments: bool) -> tuple[tuple[Crop, ...], tuple[Crop, ...]]:
    train = _crops(EXAMPLES, columns=(0, BORDER), segments=segments)
    return train, _crops(HELD_OUT_EXAMPLES, columns=(BORDER, 640), segments=segments)


def _first(crops: tuple[Crop, ...], batch: int) -> list[Crop]:
    return [crops[i] for i in repeated(batch, len(crops))]


def _cut(planes: np.ndarray, crop: Crop, side: int) -> np.ndarray:
    """(2, 427, 640, C) -> (side, side, C), bilinear."""
    which, top, left, edge = crop
    square = planes[which, top : top + edge, left : left + edge]  # (edge, edge, C)
    return _resize_rows(_resize_rows(square, side).swapaxes(0, 1), side).swapaxes(0, 1)


def _resize_rows(square: np.ndarray, side: int) -> np.ndarray:
    """(h, w, C) -> (side, w, C). The matrix is sparse because BLAS adds up in an order that
    depends on the threads, and pixels should be the same to the last digit."""
    from scipy.sparse import csr_array

    height, width, channels = square.shape
    rows = csr_array(weights(height, side)) @ square.reshape(height, -1)  # (side, w * C)
    return rows.reshape(side, width, channels)


def _images(crops: tuple[Crop, ...] | list[Crop], side: int) -> np.ndarray:
    return (np.stack([_cut(_pixels(), crop, side) for crop in crops]) - MEAN) / DEVIATION


def _classified(crops: tuple[Crop, ...] | list[Crop], side: int) -> dict[str, np.ndarray]:
    return {"x": _images(crops, side), "y": np.array([which for which, *_ in crops], np.int64)}


def _segmented(crops: tuple[Crop, ...] | list[Crop], side: int) -> dict[str, np.ndarray]:
    shares = np.stack([_cut(_masks(), crop, side) for crop in crops])
    return {"x": _images(crops, side), "y": (shares > 0.5).astype(np.float64)}
