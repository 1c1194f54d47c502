"""Sizes at which kernels take other paths: a covering design.

A kernel is written for whole vectors, tiles and blocks. What is left over takes another path, and
so does what is too small or too large for a path. So sizes are chosen that have

    every remainder by each of `moduli`: lanes of vectors, sides of tiles (4 to 64), and 17, which
                is a multiple of none of them
    both sides of powers of two, from which on blocks, threads and other algorithms are used

One size has a remainder by every modulus at once, and may lie beside a power: chosen greedily, the
fewest that are needed are few more than the largest modulus.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

MODULI = (4, 8, 16, 17, 32, 64)
POWERS = tuple(range(1, 18))  # up to 2^17
#: For preset quick: remainders by the shortest vector, a multiple of 17, and fewer powers. What is
#: wrong *above* a size shows at the next power that is here.
FEW_MODULI, FEW_POWERS = (8,), (4, 6, 10, 15)


@cache
def covering(
    limit: int, moduli: tuple[int, ...] = MODULI, powers: tuple[int, ...] = POWERS
) -> tuple[int, ...]:
    """Sizes from 1 to `limit`, in ascending order: 2^k - 1, 2^k and 2^k + 1 for each k of `powers`,
    and every remainder by each of `moduli`, as far as `limit` allows."""
    chosen = {n for k in powers for n in (2**k - 1, 2**k, 2**k + 1) if n <= limit}
    chosen |= {limit} if limit < 2 ** max(powers) else set()  # the largest that is allowed
    wanted = {(m, r) for m in moduli for r in range(m)}
    candidates = range(1, min(limit, 3 * max(moduli)) + 1)
    wanted -= _classes(chosen, moduli)
    while wanted:
        best = max(candidates, key=lambda n: (len(_classes([n], moduli) & wanted), -n))
        new = _classes([best], moduli) & wanted
        if not new:
            break
        chosen.add(best)
        wanted -= new
    return tuple(sorted(chosen))


def few(limit: int) -> tuple[int, ...]:
    """A covering for preset quick: a quarter as many."""
    above = {n for n in covering(limit, FEW_MODULI, FEW_POWERS) if not _below(n)}
    return tuple(sorted(above | ({17, 34} if limit >= 34 else set())))


def _below(n: int) -> bool:
    """Whether it is one less than one of the larger powers, which only `covering` has."""
    return n + 1 in {2**k for k in FEW_POWERS if k > 4}


def _classes(sizes: Iterable[int], moduli: Collection[int]) -> set[tuple[int, int]]:
    return {(m, n % m) for n in sizes for m in moduli}
