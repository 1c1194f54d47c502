"""What the tests in a real browser share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
MISSING = "chromium is missing: apt-get install chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --no-first-run "
    "--disable-component-update --disable-sync"
).split()
WIDTHS = (390, 1280)


@contextmanager
def opened(
    browser, path: Path | str, *, width: int = 1280, scripts: bool = True, **more
) -> Iterator:
    """A page and the list of everything that should not happen on it."""
    told = {"color_scheme": "light", "accept_downloads": True} | more
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=scripts, **told
    )
    page = context.new_page()
    noticed: list[str] = []

    def dialog(event):
        noticed.append(f"dialog: {event.message}")
        event.dismiss()

    page.on("dialog", dialog)
    page.on("pageerror", lambda error: noticed.append(f"error: {error}"))
    page.on("console", lambda said: said.type in ("error", "warning") and noticed.append(said.text))
    page.on(
        "request",
        lambda asked: (
            asked.url.startswith(("file:", "blob:", "data:")) or noticed.append(asked.url)
        ),
    )
    page.goto(path.as_uri() if isinstance(path, Path) else path)
    yield page, noticed
    context.close()


def overflow(page) -> int:
    """By how many pixels the page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
