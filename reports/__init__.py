"""Shows stored runs: records -> pandas -> plotly -> one HTML page. Needs no framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def build(runs: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Writes `out`/index.html from the runs in these folders and returns its path. Traces that
    the runs kept are copied into `out`/traces.

    The same records give the same bytes. Raises results.store.StoreError where a folder holds no
    run or `out` cannot be written; whatever else is wrong with a run is said on the page.
    """
    from reports import page  # plotly and jinja2 are only needed by who builds a page

    return page.build(runs, out, title=title)
