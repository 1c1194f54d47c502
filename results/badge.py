"""A small picture with two words, as projects show them on their front page."""

from __future__ import annotations

import html


def badge(label: str, value: str, colour: str, told: str) -> str:
    """An SVG with a label and a value; `told` is what a screen reader says."""
    left, right = 7 * len(label) + 10, 8 * len(value) + 10
    told, label, value = (html.escape(text) for text in (told, label, value))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{told}"><title>{told}</title>'
        f'<rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="5" y="14" textLength="{left - 10}">{label}</text>'
        f'<text x="{left + 5}" y="14" textLength="{right - 10}">{value}</text></g></svg>\n'
    )
