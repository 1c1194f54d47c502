"""Where an adapter's module lies that somebody names on the command line, without importing it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def located(text: str) -> tuple[str, Path | None]:
    """The dotted name of what `text` names, and the folder to import it from; None where Python
    finds it by itself. `text` is a file, `../mine/backend.py`, or a dotted name, which is looked
    for in the working directory first. Raises ValueError for a file that is not there."""
    if text.endswith(".py") or os.sep in text:
        return _of_file(Path(text))
    here = Path.cwd()
    lies_here = _in_folder(text, here) and here != PROJECT
    return text, here if lies_here else None


def findable(module: str, folders: Sequence[Path]) -> bool:
    """Whether a process of this interpreter finds the module, in `folders` or by itself."""
    if any(_in_folder(module, folder) for folder in (*folders, PROJECT)):
        return True
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)  # of a first part, this imports nothing
    except ValueError:
        return False
    name = first
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return False
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec is not None


def sources(module: str, folders: Sequence[Path]) -> list[Path]:
    """Where the code of a module lies: its file, or the folder of the package that it is in. Empty
    for one that is not found."""
    first = module.split(".")[0]
    for folder in folders:
        if _in_folder(first, folder):
            place = folder / first
            return [place if place.is_dir() else place.with_suffix(".py")]
    try:
        spec = importlib.util.find_spec(first)
    except ValueError:
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin else []


def _of_file(path: Path) -> tuple[str, Path]:
    file = path.resolve()
    if not (file.suffix == ".py" and file.is_file()):
        raise ValueError(f"there is no file {path}; it should be a Python file or a dotted module")
    folder, parts = file.parent, [file.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def _in_folder(module: str, folder: Path) -> bool:
    place = folder.joinpath(*module.split("."))
    return place.with_name(f"{place.name}.py").is_file() or (place / "__init__.py").is_file()
