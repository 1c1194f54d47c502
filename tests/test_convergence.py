"""Convergence: the statistics that accuse, and the order of examples."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.requests import _order
from numerics.convergence import LEVEL, _holm, _ranks, _tail, compare

NEVER = math.inf

# -- ranks and their exact distribution ------------------------------------------------------------


def test_ranks_by_hand():
    assert _ranks([30, 10, 20]) == [3, 1, 2]
    assert _ranks([10, 10, 20]) == [1.5, 1.5, 3]
    assert _ranks([NEVER, 10, NEVER]) == [2.5, 1, 2.5]
    assert _ranks([7, 7, 7, 7]) == [2.5] * 4


BLOCKS = st.integers(2, 5).flatmap(
    lambda adapters: st.lists(
        st.lists(
            st.sampled_from([10.0, 20.0, 30.0, 40.0, NEVER]),
            min_size=adapters,
            max_size=adapters,
        ),
        min_size=1,
        max_size=4,
    )
)


@given(BLOCKS)
def test_ranks_of_a_block_have_the_mean_that_they_must_have(blocks):
    for block in blocks:
        assert sum(_ranks(block)) == len(block) * (len(block) + 1) / 2


@given(BLOCKS)
def test_the_tail_is_that_of_all_ways_to_draw(blocks):
    ranks = [_ranks(block) for block in blocks]
    ways = Counter(sum(drawn) for drawn in itertools.product(*ranks))
    for observed in ways:
        reached = sum(n for total, n in ways.items() if total >= observed)
        assert _tail(ranks, observed) == pytest.approx(reached / ways.total())


def test_the_tail_is_that_of_a_simulation():
    rng = np.random.default_rng(0)
    ranks = [_ranks(block) for block in ([1, 2, 3, 4], [1, 1, 2, 3], [5, 5, 5, NEVER])]
    drawn = sum(rng.choice(np.array(row, dtype=float), 50_000) for row in ranks)
    for observed in (6, 7.5, 9, 10.5):
        assert _tail(ranks, observed) == pytest.approx(np.mean(drawn >= observed), abs=0.01)


# -- who is accused --------------------------------------------------------------------------------


def later(steps, **families):
    return {name for name, found in compare(steps, **families).items() if found.later}


def test_who_is_later_with_every_seed_is_caught_and_nobody_else():
    usual = [200.0, 230.0, 250.0, 210.0, 240.0]
    steps = dict.fromkeys("abcd", usual)
    steps["late"] = [1.3 * value for value in usual]
    assert later(steps) == {"late"}
    assert later(steps, families=6) == {"late"}
    found = compare(steps)
    assert found["late"].p == found["late"].least == pytest.approx(5**-5 * 5)
    assert all(found[name].p == 1 for name in "abcd")


def test_who_never_arrives_is_later_than_who_does():
    steps = {name: [100.0] * 5 for name in "abcd"} | {"never": [NEVER] * 5}
    assert later(steps) == {"never"}


def test_where_nobody_arrives_nobody_is_later():
    assert later({name: [NEVER] * 10 for name in "abcde"}) == set()


def test_who_is_early_is_not_accused():
    assert later({name: [100.0] * 10 for name in "abcd"} | {"early": [10.0] * 10}) == set()


def test_equal_steps_accuse_nobody_however_many_seeds_there_are():
    found = compare({name: [100.0] * 30 for name in "abc"})
    assert [each.p for each in found.values()] == [1.0] * 3


def test_two_seeds_can_decide_nothing_and_say_so():
    steps = {name: [100.0, 100.0] for name in "abcd"} | {"late": [NEVER, NEVER]}
    found = compare(steps)["late"]
    assert not found.later
    assert found.p == found.least == pytest.approx(5**-2 * 5)
    assert found.least > LEVEL


def test_an_adapter_alone_is_compared_with_nobody():
    assert compare({"a": [100.0] * 5}) == {}
    assert compare({}) == {}


def test_every_adapter_needs_as_many_seeds():
    with pytest.raises(ValueError, match="shorter"):
        compare({"a": [1.0, 2.0], "b": [1.0]})


@given(BLOCKS, st.integers(1, 6))
def test_a_comparison_keeps_its_promises(blocks, families):
    names = [f"adapter {i}" for i in range(len(blocks[0]))]
    steps = dict(zip(names, zip(*blocks, strict=True), strict=True))
    found = compare(steps, families=families)
    assert sorted(found) == sorted(names)
    for each in found.values():
        assert 0 < each.least <= each.p <= 1
        assert each.later == (each.p <= LEVEL)
    # the same whatever the unit and the order of adapters and seeds
    again = {n: [3 * value + 7 for value in steps[n][::-1]] for n in reversed(names)}
    assert compare(again, families=families) == found


@given(BLOCKS)
def test_more_families_never_make_anybody_later(blocks):
    names = [str(i) for i in range(len(blocks[0]))]
    steps = dict(zip(names, zip(*blocks, strict=True), strict=True))
    one, many = compare(steps), compare(steps, families=5)
    assert all(many[name].p >= one[name].p for name in names)


def test_holm_by_hand():
    assert _holm({"a": 0.01, "b": 0.04, "c": 0.03}, 1) == pytest.approx(
        {"a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert _holm({"a": 0.4, "b": 0.9}, 2) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("blocks", [[(1, 2, 3)] * 3, [(1, 1, 2), (1, 2, 3), (1, 2, 2)]])
def test_where_all_are_alike_the_rate_of_false_accusations_is_the_level(blocks):
    """Over all ways to give the numbers of every seed to the adapters, which are then equally
    likely, at every level."""
    orders = [list(itertools.permutations(block)) for block in blocks]
    smallest = []
    for drawn in itertools.product(*orders):
        steps = dict(zip("abc", zip(*drawn, strict=True), strict=True))
        smallest.append(min(each.p for each in compare(steps).values()))
    for level in sorted(set(smallest)):
        if level < 1:
            assert np.mean([p <= level for p in smallest]) <= level + 1e-12


def test_the_rate_of_false_accusations_in_a_simulation():
    """Steps as they are: multiples of 10, with ties, seeds that differ, and some that never
    arrive. 300 runs of five adapters with five seeds."""
    rng = np.random.default_rng(1)
    accused = 0
    for _ in range(300):
        of_seed = rng.integers(15, 40, size=(1, 5))
        drawn = 10.0 * (of_seed + rng.integers(0, 12, size=(5, 5)))
        drawn[rng.random((5, 5)) < 0.05] = NEVER
        accused += bool(later(dict(zip("abcde", drawn.tolist(), strict=True))))
    assert accused <= 10  # 3 are expected at most, and more than 10 have a probability of 0.03%


# -- the order of examples -------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 10), st.integers(1, 30), st.integers(0, 3))
def test_every_epoch_sees_every_example_at_most_once(examples, batch, steps, seed):
    batch = min(batch, examples)
    order = _order(examples, batch, steps, seed)
    assert order.shape == (steps, batch)
    whole = examples // batch
    for start in range(0, steps - whole + 1, whole):
        seen = order[start : start + whole].ravel()
        assert len(set(seen.tolist())) == whole * batch
        if examples % batch == 0:
            assert sorted(seen) == list(range(examples))


def test_the_order_is_that_of_its_seed():
    first, again, other = (_order(100, 10, 30, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[:10], first[10:20])  # another order in the second epoch
