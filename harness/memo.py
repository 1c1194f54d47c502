"""Tensors that took long to compute, on disk, found by everything that they were computed from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.protocol import load_tensors, save_tensors

PROJECT = Path(__file__).resolve().parent.parent
#: What computes tensors that are judged: a change in any of these files makes them others.
SOURCES = ("adapters", "numerics", "harness/requests.py", "harness/exercising.py")
LEFT_BYTES = 2**28  # of a disk, of which nothing is taken
LIMIT_BYTES = 2**30  # above which the least recently used are thrown away

Tensors = Mapping[str, np.ndarray]


class Memo:
    """Keeps tensors in `folder`. `about` is part of every question: versions, say. Without a
    folder nothing is kept."""

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        self._folder = folder
        self._about = {**about, "sources": _digest_of_sources()} if folder else {}
        if folder is not None:
            _prune(folder)

    def get(self, question: Mapping[str, Any], make: Callable[[], Tensors]) -> Tensors:
        """What `make` gave when this question was first asked. What cannot be read is made again,
        and what cannot be written is not kept: a full disk loses nothing."""
        if self._folder is None:
            return make()
        text = json.dumps({**self._about, **question}, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            found = load_tensors(path)
            os.utime(path)
            return found
        made = make()
        with contextlib.suppress(OSError):
            self._write(path, made)
        return made

    @staticmethod
    def _write(path: Path, tensors: Tensors) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < LEFT_BYTES:
            return  # what is left is for results
        scratch = path.with_name(f".{path.stem}-{os.getpid()}.npz")
        try:
            save_tensors(scratch, tensors)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """Of a file's tensors, whatever their order or the archive's time stamps."""
    tensors = load_tensors(path)
    made = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        made.update(f"{name}{value.dtype}{value.shape}".encode() + value.tobytes())
    return made.hexdigest()


def _digest_of_sources() -> str:
    made = hashlib.sha256()
    for source in SOURCES:
        path = PROJECT / source
        for file in sorted(path.glob("**/*.py")) if path.is_dir() else [path]:
            made.update(str(file.relative_to(PROJECT)).encode() + file.read_bytes())
    return made.hexdigest()


def _prune(folder: Path) -> None:
    with contextlib.suppress(OSError):
        files = sorted(folder.glob("*.npz"), key=lambda path: -path.stat().st_mtime)
        kept = 0
        for path in files:
            kept += path.stat().st_size
            if kept > LIMIT_BYTES:
                path.unlink(missing_ok=True)
