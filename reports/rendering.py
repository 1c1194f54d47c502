"""How templates become HTML: one environment, in which every text is data and is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs_version

from results import describe, display

FILES = Path(__file__).parent / "templates"
PLOTLY = f"assets/plotly-{get_plotlyjs_version()}.min.js"
_LINES = 12  # of a reason


@cache
def templates() -> Environment:
    """The environment of all templates."""
    found = Environment(
        loader=FileSystemLoader(FILES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters: dict[str, Any] = {
        "shorten": lambda text, limit: display.visible(display.shorten(text, limit)),
        "prose": lambda text, limit: display.visible(display.shorten(text, limit), keep="\n\t"),
        "plain": display.visible,
        "lines": _lines,
        "breakable": _breakable,
        "tensor": lambda agreement: display.tensor(agreement.quantity, agreement.tensor),
        "seconds": lambda value: display.quantity(value, "s"),
        "error": display.error,
        "ratio": display.ratio,
        "verdict": display.verdict,
        "facts": describe.flatten,
    }
    found.filters.update(filters)
    return found


def file(name: str) -> str:
    """A file beside the templates."""
    return (FILES / name).read_text(encoding="utf-8")


def _breakable(name: str) -> Markup:
    """A name that may wrap after a slash or an underscore."""
    parts = (Markup("_<wbr>").join(part.split("_")) for part in name.split("/"))
    return Markup("/<wbr>").join(parts)


def _lines(text: str, limit: int) -> str:
    """The first lines of a text, each at most `limit` characters long."""
    lines = text.splitlines()
    shown = [display.visible(display.shorten(line, limit)) for line in lines[:_LINES]]
    rest = len(lines) - _LINES
    return "\n".join([*shown, *([f"and {rest} more lines"] if rest > 0 else [])])
