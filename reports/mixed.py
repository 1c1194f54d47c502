"""What a program in mixed precision told of itself: the dtypes that its operations returned, and
what loss scaling did. Facts may be of any shape; one of another shape than these stays among the
rest of a case's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_LARGEST = 1e300  # of a scale: JSON holds integers that no float does
#: (dtypes, the operations that returned them)
Policy = tuple[tuple[str, str], ...]


def policy(fact: Any) -> Policy:
    """Operations by the dtypes of their results; empty where the fact says no such thing."""
    if not isinstance(fact, Mapping):
        return ()
    found: dict[str, list[str]] = {}
    for operation, dtypes in fact.items():
        names = _listed(dtypes, str)
        if not isinstance(operation, str) or not names:
            return ()
        found.setdefault(", ".join(names), []).append(operation)
    return tuple((dtypes, ", ".join(sorted(found[dtypes]))) for dtypes in sorted(found))


def loss_scaling(fact: Any) -> str:
    """`3 of 60 steps left out, scale ended at 65536`; empty where the fact says no such thing."""
    if not isinstance(fact, Mapping):
        return ""
    scale, moved = _listed(fact.get("scale"), float, int), _listed(fact.get("moved"), bool)
    if not scale or not moved or not abs(scale[-1]) < _LARGEST:
        return ""
    line = f"{moved.count(False)} of {len(moved)} steps left out, scale ended at {scale[-1]:.10g}"
    return f"{line}, parameters ended not finite" if fact.get("finite") is False else line


def told(name: str, fact: Any) -> bool:
    """Whether `policy` or `loss_scaling` tells the fact of this name."""
    return name in _TELL and bool(_TELL[name](fact))


def _listed(value: Any, *kinds: type) -> Sequence[Any]:
    """A list whose members are all of these kinds; empty where it is anything else."""
    good = isinstance(value, list | tuple) and all(type(each) in kinds for each in value)
    return value if good else ()


_TELL: dict[str, Callable[[Any], Any]] = {"policy": policy, "loss_scaling": loss_scaling}
