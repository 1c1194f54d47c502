"""Fragments that links on a page use. They depend on names alone, so a link to a case survives
a rebuild, and on nothing that could break out of an attribute."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^A-Za-z0-9_./@-]+")
_NO_PLACE = re.compile(r"(?<![^/])\.*(?![^/])")
_LONGEST = 120


def address(base_url: str, place: str) -> str:
    """Where a page of a site will lie."""
    return f"{base_url.rstrip('/')}/{place}"


def anchor(*parts: str) -> str:
    """`conformance/train/vit/small/jax_jit/cpu/fp32/b8`: the parts joined by slashes. Where that
    takes away or cuts something, a short hash of the whole keeps different names apart. It is safe
    as a path as well: it does not begin with a slash, and no part is empty, `.` or `..`."""
    whole = "/".join(part for part in parts if part)
    if not whole:
        return ""
    plain = _NO_PLACE.sub("_", _UNSAFE.sub("_", whole)[:_LONGEST])
    if plain == whole:
        return plain
    return f"{plain}~{hashlib.sha256(whole.encode('utf-8', 'backslashreplace')).hexdigest()[:10]}"


class Anchors:
    """Hands out anchors of one page. A second case of the same name gets a number."""

    def __init__(self, *, prefix: str = "") -> None:
        self._prefix = prefix
        self._used: dict[str, int] = {}

    def take(self, *parts: str) -> str:
        name = anchor(self._prefix, *parts)
        count = self._used[name] = self._used.get(name, 0) + 1
        return name if count == 1 else f"{name}~{count}"
