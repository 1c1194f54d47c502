"""Writing a file so that a reader sees the old one or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from results.store import StoreError


def write(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Puts `content` into `path`, creating its folder. Text becomes UTF-8. What is not `durable`
    can be made again after a power cut, and need not reach the disk before this returns.

    Raises StoreError with one readable sentence when that is impossible; `path` is then what it
    was before. Devices and pipes are written to directly, as they cannot be replaced.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data, durable)  # a link stays a link
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"cannot write {path}: {why}. Free some space or choose another place with -o."
        ) from None


def _replace(path: Path, data: bytes, durable: bool) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
