"""A static site from stored runs: a folder of pages that open from disk, offline, or from any host.

Runs are grouped by machine. The newest run of each machine is shown in full; earlier ones are what
it is compared with, and its history. The way of the data: runs -> `Shown` (one per machine) ->
pages (`pages`) -> files, of which only those that changed are written.

    index.html                      who is right, and how fast
    MACHINE/models/MODEL.html       everything about a model
    MACHINE/cases/SUITE/KEY.html    everything about a case; the path is the case's key
    MACHINE/conformance.html, conformance/TOPIC.html, cases.html, gate.html, run.html
    compare.html, compare/MACHINE/BASE.html, history.html, claims.html, runs.html, reading.html
    data/MACHINE/TABLE.{csv,json,parquet}    what the pages are made from
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs, get_plotlyjs_version

import results
from reports import anchors, pages, rendering, traces
from reports.shown import Shown, shown
from results import atomic, foreign
from results.store import StoreError

MANIFEST = "site.json"
_FORMAT = 1


def build(runs: Sequence[Path], out: Path, *, title: str | None = None, base_url: str = "") -> Path:
    """Writes the site of the runs in these folders into `out` and returns its first page. Files of
    other tools are runs as well (`results.foreign`).

    Only what changed is written, and what an earlier build left and this one does not is removed;
    other files in `out` are not touched. The same records give the same bytes. `base_url` is where
    the site will lie: pages then name their address, and there is a sitemap. Raises StoreError
    where a folder holds no run or `out` cannot be written; whatever else is wrong with a run is
    said on its pages.
    """
    if not runs:
        raise StoreError("no run was given, but a report needs at least one")
    files = Files(out)
    made_from = _digest(runs, title, base_url)
    if files.made_from(made_from):
        return out / "index.html"
    read = [run for path in runs for run in foreign.open_runs(path)]
    found = shown(read, lambda run: traces.copy(run, out))
    for place, text in pages.pages(found, title=title, base_url=base_url):
        files.put(place, text)
    for one in found:
        for place, data in _tables(one):
            files.put(place, data)
        for place in one.links.values():
            files.keep(place)
    for name, text in _assets().items():
        files.put(name, text)
    if base_url:
        files.put("sitemap.xml", _sitemap(base_url, files.pages))
    files.finish(made_from)
    return out / "index.html"


@dataclass
class Files:
    """The files of a site. `put` writes what is not there already; `finish` removes what an earlier
    build put and this one did not."""

    out: Path
    written: int = 0
    _sizes: dict[str, int] = field(default_factory=dict)

    @property
    def pages(self) -> list[str]:
        return sorted(name for name in self._sizes if name.endswith(".html"))

    def put(self, place: str, content: str | bytes) -> None:
        path = self.out / place
        data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        self._sizes[place] = len(data)
        try:
            if path.is_file() and path.read_bytes() == data:
                return
        except OSError:
            pass  # then it is written
        atomic.write(path, data, durable=False)
        self.written += 1

    def keep(self, place: str) -> None:
        """Counts a file that somebody else wrote as one of the site's."""
        self._sizes[place] = _size(self.out / place)

    def made_from(self, digest: str) -> bool:
        """Whether the site that is there is whole and was made from the same."""
        before = self._before()
        if before.get("made_from") != digest:
            return False
        sizes = before["files"]
        return all(_size(self.out / place) == size for place, size in sizes.items())

    def finish(self, digest: str) -> None:
        for place in self._before().get("files", {}):
            path = self.out / place
            if place not in self._sizes and path.resolve().is_relative_to(self.out.resolve()):
                path.unlink(missing_ok=True)
        told = {"format": _FORMAT, "made_from": digest, "files": dict(sorted(self._sizes.items()))}
        atomic.write(self.out / MANIFEST, json.dumps(told, indent=0) + "\n")

    def _before(self) -> dict[str, Any]:
        """What the earlier build put; nothing where there was none, or of another format."""
        try:
            told = json.loads((self.out / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        fine = isinstance(told, dict) and told.get("format") == _FORMAT
        return told if fine and isinstance(told.get("files"), dict) else {}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _digest(runs: Sequence[Path], title: str | None, base_url: str) -> str:
    """Of everything that the site depends on: the runs, the options, and this code."""
    found = hashlib.sha256(json.dumps([title, base_url, get_plotlyjs_version()]).encode())
    rooms = (Path(__file__).parent, Path(results.__file__).parent)
    kinds = (".py", ".j2", ".css", ".js")
    code = [p for room in rooms for p in sorted(room.rglob("*")) if p.suffix in kinds]
    for folder in runs:
        found.update(folder.resolve().name.encode() + b"\0")
    for path in [*code, *(file for run in runs for file in foreign.content(run))]:
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        found.update(len(data).to_bytes(8, "big") + data)
    return found.hexdigest()


def _assets() -> dict[str, str]:
    return {
        "assets/style.css": rendering.file("style.css"),
        "assets/theme.js": rendering.file("theme.js"),
        "assets/page.js": rendering.file("page.js"),
        "assets/site.js": rendering.file("site.js"),
        rendering.PLOTLY: get_plotlyjs(),
    }


def _tables(one: Shown) -> Iterable[tuple[str, bytes]]:
    """The run's tables for other programs; Parquet where pyarrow is installed."""
    from results import export

    for name, form in export.available():
        table = export.TABLES[name](one.run)
        yield f"data/{one.slug}/{name}.{form}", export.encode(table, form)


def _sitemap(base_url: str, places: Iterable[str]) -> str:
    lines = [f"<url><loc>{anchors.address(base_url, place)}</loc></url>" for place in places]
    return "\n".join([
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">', *lines, "</urlset>\n",
    ])  # fmt: skip
