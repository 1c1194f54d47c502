"""Shows stored runs: records -> pandas -> plotly -> HTML. Needs no framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def build(runs: Sequence[Path], out: Path, *, title: str | None = None, base_url: str = "") -> Path:
    """Writes a site from the runs in these folders into `out` and returns its first page
    (`reports.site`)."""
    from reports import site  # plotly and jinja2 are only needed by who builds pages

    return site.build(runs, out, title=title, base_url=base_url)


def build_page(runs: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Writes `out`/index.html, one self-contained page, and returns its path (`reports.page`)."""
    from reports import page

    return page.build(runs, out, title=title)
