"""What workers print: a scratch file each, of which a copy is kept where it explains a failure."""

from __future__ import annotations

from pathlib import Path

BEGINNING, END = 2**16, 3 * 2**16  # bytes that are kept of a log: 256 KiB


def keep(log: Path, folder: Path | None) -> str:
    """Copies the beginning and the end of a worker's log into `folder`. Returns how a reason names
    the copy, `logs/NAME`, from the folder around it on; the log's own path where nothing is kept;
    and nothing where it cannot be written."""
    if folder is None:
        return str(log)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / log.name).write_bytes(_limited(log))
    except OSError:  # a full disk, say: the reason itself matters more
        return ""
    return f"{folder.name}/{log.name}"


def _limited(log: Path) -> bytes:
    """The bytes of a log, without its middle where there are many."""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size <= BEGINNING + END:
            return file.read()
        beginning = file.read(BEGINNING)
        file.seek(size - END)
        left_out = f"\n... {size - BEGINNING - END} bytes are left out here ...\n".encode()
        return beginning + left_out + file.read()
