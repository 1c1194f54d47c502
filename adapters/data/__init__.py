"""Real inputs, from packages that carry them: no download, the same values everywhere.

A function returns a batch, {"x": inputs, "y": targets} or with several parts, "x/part": the first
`batch` examples, repeated when more are asked for. Floats are float64, integers int64, masks bool.
Each example is the same whatever the batch. Data is loaded inside the functions, so that a worker,
which imports this package with its models, loads none.
"""

# A function may have the name of its file: `from adapters.data import digits` is the function.
from adapters.data.chance import keep_mask, noised
from adapters.data.clicks import clicks
from adapters.data.common import DataError
from adapters.data.digits import (
    colour_digits_split,
    digit_rows,
    digit_rows_split,
    digit_sequence,
    digits,
    digits_split,
)
from adapters.data.photographs import (
    detection,
    photo_patches,
    photographs,
    segmentation,
    segmentation_split,
)
from adapters.data.text import (
    CHARACTERS,
    bpe,
    characters,
    characters_split,
    checksum,
    masked_text,
    masked_text_split,
)
from adapters.data.video import video
from adapters.data.volumes import volumes

__all__ = [
    "CHARACTERS",
    "DataError",
    "bpe",
    "characters",
    "characters_split",
    "checksum",
    "clicks",
    "colour_digits_split",
    "detection",
    "digit_rows",
    "digit_rows_split",
    "digit_sequence",
    "digits",
    "digits_split",
    "keep_mask",
    "masked_text",
    "masked_text_split",
    "noised",
    "photo_patches",
    "photographs",
    "segmentation",
    "segmentation_split",
    "video",
    "volumes",
]
