"""What parent and worker say to each other: one JSON object per line, tensors in .npz files.

The parent writes requests {"id", "op", "arguments"} to the worker's standard input; the worker
answers {"id", "result"} or {"id", "error": {"status", "reason"}} on a pipe of its own, so that
whatever a framework prints cannot be taken for an answer. Nothing is ever pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: Changes when a worker of another version could misunderstand a request.
VERSION = 5

Tensors = Mapping[str, np.ndarray]


class ProtocolError(Exception):
    """A line is not a message of this protocol."""


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in one line. Raises ProtocolError for anything else than a JSON object."""
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}: {line[:80]!r}") from None
    if not isinstance(message, dict) or "id" not in message:
        raise ProtocolError(f"not a message: {line[:80]!r}")
    return message


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Writes tensors by name; names may contain slashes and colons."""
    names = list(tensors)
    arrays = {f"t{i}": tensors[name] for i, name in enumerate(names)}
    np.savez(path, names=np.array(names, dtype=np.str_), **arrays)  # type: ignore[arg-type]


def load_tensors(path: Path, *, parts: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads what `save_tensors` wrote, or those tensors whose names begin with one of `parts` and a
    colon."""
    with np.load(path, allow_pickle=False) as archive:
        return {
            str(name): archive[f"t{i}"]
            for i, name in enumerate(archive["names"])
            if not parts or str(name).split(":")[0] in parts
        }


def part(tensors: Tensors, name: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with `name` and a colon, by what follows it."""
    prefix = f"{name}:"
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
