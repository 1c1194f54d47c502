"""Operations that move values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from numerics.exercises import Exercise
from suites.conformance.tables.making import (
    INF,
    NAN,
    WIDE,
    booleans,
    case,
    floats,
    integers,
)

SPECIAL = floats([NAN, 1.0, INF], [-INF, 0.0, 2.0])


def exercises() -> Iterator[Exercise]:
    yield from _shapes()
    yield from _joining()
    yield from _lookups()
    yield from _choosing()
    yield case("constant", "usual", {"x": (2, 3)}, body="plus_constant", value=[0.5, -1.0, 3.0])
    digits = [1 / 3, -2 / 3, 0.1]
    yield case("constant", "all digits", {"x": (2, 3)}, body="plus_constant", value=digits)
    yield case("constant", "scalar", {"x": (2, 3)}, body="plus_constant", value=0.25)
    yield case(
        "constant", "integers", {"x": (3,)}, body="plus_constant", exact=True, value=[1, -2, 3]
    )


def _shapes() -> Iterator[Exercise]:
    yield case("reshape", "usual", {"x": (2, 6)}, shape=[3, 4])
    yield case("reshape", "odd sizes", {"x": (7, 13)}, shape=[13, 7])
    yield case("reshape", "rest", {"x": (2, 3, 5)}, shape=[-1, 5])
    yield case("reshape", "size one", {"x": (1, 1)}, shape=[1])
    yield case("reshape", "to a scalar", {"x": (1, 1)}, shape=[])
    yield case("reshape", "empty", {"x": (0, 3)}, shape=[3, 0])
    yield case("reshape", "non-contiguous", {"x": (4, 6)}, layout="reversed", shape=[8, 3])
    yield case("reshape", "NaN and infinities", {"x": SPECIAL}, by=(), shape=[6])
    yield case("reshape", "integers", {"x": (3, 4)}, exact=True, shape=[2, 6])

    yield case("flatten", "usual", {"x": (2, 3, 4)})
    yield case("flatten", "odd sizes", {"x": (3, 5, 1, 7)})
    yield case("flatten", "size one", {"x": (1, 1, 1)})
    yield case("flatten", "non-contiguous", {"x": (2, 3, 5)}, layout="reversed")
    yield case("flatten", "integers", {"x": (3, 2, 2)}, exact=True)

    yield case("transpose", "usual", {"x": (2, 3, 4)}, axes=[0, 2, 1])
    yield case("transpose", "odd sizes", {"x": (5, 3, 7)}, axes=[2, 0, 1])
    yield case("transpose", "four axes", {"x": (2, 3, 4, 2)}, axes=[0, 3, 1, 2])
    yield case("transpose", "size one", {"x": (1, 1)}, axes=[1, 0])
    yield case("transpose", "empty", {"x": (0, 3)}, axes=[1, 0])
    yield case("transpose", "non-contiguous", {"x": (2, 3, 5)}, layout="reversed", axes=[1, 0, 2])
    yield case("transpose", "NaN and infinities", {"x": SPECIAL}, by=(), axes=[1, 0])
    yield case("transpose", "integers", {"x": (3, 4)}, exact=True, axes=[1, 0])

    yield case("broadcast_to", "usual", {"x": (1, 3)}, shape=[4, 3])
    yield case("broadcast_to", "odd sizes", {"x": (7, 1, 5)}, shape=[7, 3, 5])
    yield case("broadcast_to", "new axes", {"x": (3,)}, shape=[2, 2, 3])
    yield case("broadcast_to", "scalar", {"x": ()}, shape=[2, 3])
    yield case("broadcast_to", "size one", {"x": (1,)}, shape=[1])
    yield case("broadcast_to", "empty", {"x": (1, 3)}, shape=[0, 3])
    yield case(
        "broadcast_to", "non-contiguous", {"x": (2, 1, 3)}, layout="reversed", shape=[2, 4, 3]
    )
    yield case("broadcast_to", "large reduction", {"x": (1, 3)}, shape=[4096, 3])
    yield case("broadcast_to", "integers", {"x": (1, 3)}, exact=True, shape=[4, 3])


def _joining() -> Iterator[Exercise]:
    yield case("concat", "usual", {"xs/0": (2, 3), "xs/1": (2, 3)}, axis=1)
    yield case("concat", "odd sizes", {"xs/0": (3, 5), "xs/1": (1, 5), "xs/2": (7, 5)}, axis=0)
    yield case("concat", "one tensor", {"xs/0": (2, 3)}, axis=1)
    yield case("concat", "size one", {"xs/0": (1, 1), "xs/1": (1, 1)}, axis=0)
    yield case("concat", "empty", {"xs/0": (0, 3), "xs/1": (2, 3)}, axis=0)
    yield case(
        "concat",
        "non-contiguous",
        {"xs/0": (2, 3, 2), "xs/1": (2, 4, 2)},
        layout="reversed",
        axis=1,
    )
    yield case("concat", "NaN and infinities", {"xs/0": SPECIAL, "xs/1": (2, 3)}, by=(), axis=0)
    yield case("concat", "integers", {"xs/0": (2, 3), "xs/1": (2, 2)}, exact=True, axis=1)

    yield case("slice", "usual", {"x": (4, 6)}, axis=1, start=1, stop=4)
    yield case("slice", "odd sizes", {"x": (3, 7, 5)}, axis=1, start=2, stop=7)
    yield case("slice", "everything", {"x": (3, 4)}, axis=0, start=0, stop=3)
    yield case("slice", "size one", {"x": (1, 1)}, axis=0, start=0, stop=1)
    yield case("slice", "empty", {"x": (3, 4)}, axis=1, start=2, stop=2)
    yield case("slice", "non-contiguous", {"x": (4, 6)}, layout="reversed", axis=0, start=1, stop=3)
    yield case("slice", "integers", {"x": (4, 6)}, exact=True, axis=1, start=2, stop=5)

    yield case("pad", "usual", {"x": (2, 3)}, widths=[[0, 0], [1, 1]])
    yield case("pad", "odd sizes", {"x": (3, 5, 7)}, widths=[[1, 0], [0, 2], [3, 1]])
    yield case("pad", "size one", {"x": (1, 1)}, widths=[[2, 0], [0, 1]])
    yield case("pad", "nothing", {"x": (2, 3)}, widths=[[0, 0], [0, 0]])
    yield case("pad", "empty", {"x": (0, 3)}, widths=[[1, 1], [0, 0]])
    yield case("pad", "non-contiguous", {"x": (3, 4)}, layout="reversed", widths=[[1, 2], [0, 1]])
    yield case("pad", "NaN and infinities", {"x": SPECIAL}, by=(), widths=[[1, 0], [0, 1]])
    yield case("pad", "integers", {"x": (2, 3)}, exact=True, widths=[[0, 1], [2, 0]])


def _lookups() -> Iterator[Exercise]:
    yield case("take", "usual", {"x": (4, 3), "indices": integers(2, 0, 3)}, axis=0)
    yield case("take", "odd sizes", {"x": (3, 7, 5), "indices": integers(6, 1, 4)}, axis=1)
    yield case("take", "last axis", {"x": (2, 5), "indices": integers(4, 0)}, axis=1)
    yield case(
        "take", "table of indices", {"x": (5, 2), "indices": integers([0, 4], [2, 1])}, axis=0
    )
    yield case("take", "scalar index", {"x": (4, 3), "indices": np.array(2)}, axis=0)
    yield case("take", "repeated", {"x": (4, 3), "indices": integers(1, 1, 1, 3)}, axis=0)
    yield case("take", "out of range", {"x": (4, 3), "indices": integers(-1, -9, 4, 50, 2)}, axis=0)
    yield case("take", "size one", {"x": (1, 1), "indices": integers(0)}, axis=1)
    empty = np.zeros(0, np.int64)
    yield case("take", "empty", {"x": (4, 3), "indices": empty}, axis=0)
    yield case(
        "take", "non-contiguous", {"x": (4, 3), "indices": integers([2, 0], [1, 1])},
        layout="reversed", axis=0,
    )  # fmt: skip
    yield case("take", "large reduction", {"x": (3, 2), "indices": np.arange(4096) % 3}, axis=0)
    yield case("take", "integers", {"x": (4, 3), "indices": integers(2, 2, 0)}, exact=True, axis=0)

    yield from _gather()
    yield from _one_hot()

    yield case("embedding", "usual", {"table": (5, 3), "ids": integers(4, 0, 2)})
    yield case("embedding", "odd sizes", {"table": (7, 5), "ids": integers([6, 1, 3], [0, 5, 2])})
    yield case("embedding", "repeated", {"table": (4, 3), "ids": integers(1, 1, 3, 1)})
    yield case(
        "embedding", "padding index", {"table": (4, 3), "ids": integers([0, 2, 0], [3, 0, 2])},
        padding_index=0,
    )  # fmt: skip
    yield case(
        "embedding", "last row pads", {"table": (4, 3), "ids": integers(3, 1, 3)}, padding_index=3
    )
    yield case("embedding", "size one", {"table": (1, 1), "ids": integers(0)})
    yield case("embedding", "empty", {"table": (4, 3), "ids": empty})
    yield case(
        "embedding", "non-contiguous", {"table": (4, 3), "ids": integers([2, 0], [1, 1])},
        layout="reversed",
    )  # fmt: skip
    yield case("embedding", "large reduction", {"table": (3, 2), "ids": np.arange(4096) % 3})
    yield case(
        "embedding", "integers", {"table": (4, 3), "ids": integers(2, 2, 0)},
        exact=True, padding_index=0,
    )  # fmt: skip


def _gather() -> Iterator[Exercise]:
    def rows(name: str, x: Any, *indices: Any, **given: Any) -> Exercise:
        return case("gather", name, {"x": x, "indices": integers(*indices)}, **given)

    yield rows("usual", (2, 4, 3), [3, 0], [1, 2])
    yield rows("odd sizes", (3, 5, 7), [4], [0], [2])
    yield rows("two axes", (2, 3), [2, 0, 1, 1], [0, 0, 2, 1])
    yield rows("four axes", (2, 3, 2, 2), [2, 1], [0, 0])
    yield rows("repeated", (2, 3, 2), [1, 1, 1, 0], [2, 2, 1, 2])
    yield rows("size one", (1, 1, 1), [0])
    yield rows("empty", (2, 3, 2), [], [])
    none = np.zeros((0, 2), np.int64)
    yield case("gather", "empty, no examples", {"x": (0, 3, 2), "indices": none})
    yield rows("non-contiguous", (2, 4, 3), [3, 0, 1], [1, 2, 2], layout="reversed")
    many = np.arange(8192).reshape(2, 4096) % 3
    yield case("gather", "large reduction", {"x": (2, 3, 2), "indices": many})
    spoilt = floats([[NAN, 1.0], [INF, 2.0], [0.0, 3.0]], [[-INF, 1.0], [NAN, 2.0], [4.0, 5.0]])
    yield rows("NaN and infinities", spoilt, [0, 2], [1, 0], by=())
    yield rows("integers", (2, 4, 3), [2, 2, 0], [3, 1, 3], exact=True)


def _one_hot() -> Iterator[Exercise]:
    def rows(name: str, *ids: Any, classes: int, **given: Any) -> Exercise:
        return case("one_hot", name, {"ids": integers(*ids)}, exact=True, classes=classes, **given)

    yield rows("usual", 2, 0, 3, classes=4)
    yield rows("odd sizes", [4, 0, 6], [1, 1, 5], classes=7)
    yield rows("out of range", -1, 3, -3, -4, 50, 2, classes=3)
    yield case("one_hot", "scalar", {"ids": np.array(1)}, exact=True, classes=3)
    yield rows("size one", [0], classes=1)
    yield rows("empty", classes=3)
    yield rows("non-contiguous", [2, 0, 1], [1, 1, 0], classes=3, layout="reversed")
    yield rows("integers", [[0, 1], [2, 3]], classes=4)


def _choosing() -> Iterator[Exercise]:
    mask = booleans([1, 0, 1], [0, 0, 1])
    yield case("where", "usual", {"condition": mask, "a": (2, 3), "b": (2, 3)})
    odd = np.arange(35).reshape(5, 7) % 3 == 0
    yield case("where", "odd sizes", {"condition": odd, "a": (5, 7), "b": (5, 7)})
    yield case("where", "size one", {"condition": booleans([1]), "a": (1, 1), "b": (1, 1)})
    none = np.zeros((0, 3), bool)
    yield case("where", "empty", {"condition": none, "a": (0, 3), "b": (0, 3)})
    yield case("where", "broadcast condition", {"condition": mask[0], "a": (2, 3), "b": (2, 3)})
    yield case("where", "broadcast choices", {"condition": mask, "a": (2, 1), "b": ()})
    yield case(
        "where", "non-contiguous", {"condition": mask, "a": (2, 3), "b": (2, 3)}, layout="reversed"
    )
    unchosen = floats([1.0, NAN, 2.0], [INF, -INF, 3.0])
    yield case("where", "NaN and infinities", {"condition": mask, "a": unchosen, "b": (2, 3)})
    huge = floats([1e30, 1.0, -1e30], [1.0, 1.0, 1e-30])
    yield case(
        "where", "extreme values", {"condition": mask, "a": huge, "b": (2, 3)}, precisions=WIDE
    )
    yield case("where", "integers", {"condition": mask, "a": (2, 3), "b": (2, 3)}, exact=True)
