"""Trees: one tensor, or tensors by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import trees

A, B = np.arange(6.0).reshape(3, 2), np.arange(3)
KINDS = st.sampled_from(["float64", "float32", "int64", "bool"])


def test_a_part_of_a_batch_is_a_tensor_or_a_mapping():
    batch = {"x": A, "y/label": B, "y/box": A, "yes": B}
    assert trees.part(batch, "x") is A
    assert trees.part(batch, "y") == {"label": B, "box": A}
    with pytest.raises(KeyError, match=r"a batch of x, y/label, y/box, yes has no 'z'"):
        trees.part(batch, "z")


def test_over_keeps_the_form():
    assert trees.over(lambda a: a + 1, 1) == 2
    assert trees.over(lambda a, b: a - b, {"p": 3, "q": 5}, {"q": 1, "p": 2}) == {"p": 1, "q": 4}


def test_leaves_and_names():
    assert trees.leaves(A) == [A]
    assert trees.leaves({"p": A, "q": B}) == [A, B]
    assert trees.named(A, "output") == {"output": A}
    assert list(trees.named({"p": A, "q": B}, "output")) == ["output:p", "output:q"]


def test_examples_are_counted_along_the_first_axis():
    assert trees.examples(A) == trees.examples({"p": A, "q": B}) == 3


@given(st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_parts_put_together_are_the_whole(parts, size, several):
    whole = np.arange(parts * size * 2).reshape(parts * size, 2)
    tree = {"p": whole, "q": whole[:, 0]} if several else whole
    found = trees.split(tree, parts)
    assert [trees.examples(part) for part in found] == [size] * parts
    again = trees.over(lambda *ts: np.concatenate(ts), *found)
    for one, other in zip(trees.leaves(again), trees.leaves(tree), strict=True):
        np.testing.assert_array_equal(one, other)


def test_dtypes_are_named_once_each():
    assert trees.dtypes(A, str) == "float64"
    assert trees.dtypes({"p": A, "q": A}, str) == "float64"
    assert trees.dtypes({"p": A, "q": B}, str) == "float64, int64"


@given(KINDS, st.sampled_from(["float64", "float32"]))
def test_floats_take_a_dtype_and_nothing_else_does(kind, dtype):
    found = trees.in_dtype(np.ones(2, kind), dtype)
    assert found.dtype == (dtype if kind.startswith("float") else kind)
