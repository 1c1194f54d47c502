"""Colours are legible in both schemes."""

import re
from pathlib import Path

import pytest

import reports
from reports.charts.figures import SERIES

CSS = (Path(reports.__file__).parent / "templates" / "style.css").read_text()

PAIRS = [
    *((ink, ground) for ink in ("ink", "muted", "link") for ground in ("paper", "raised", "wash")),
    *((tone, f"{tone}-ground") for tone in ("good", "fair", "warn", "bad", "mute")),
    ("warn", "paper"),  # flags
]


def schemes() -> dict[str, dict[str, str]]:
    light, dark = CSS.split("@media (prefers-color-scheme: dark)", 1)
    found = re.compile(r"--([\w-]+): (#[0-9a-f]{6});")
    return {"light": dict(found.findall(light)), "dark": dict(found.findall(dark.split("}")[0]))}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio (relative luminance of sRGB)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_reaches_wcag_aa(scheme):
    colours = schemes()[scheme]
    for ink, ground in PAIRS:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (scheme, ink, ground)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_stand_out_from_the_paper(scheme):
    for colour, _ in SERIES:
        assert contrast(colour, schemes()[scheme]["paper"]) >= 3.0, colour


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") < 4.5  # the best-known grey that just fails
