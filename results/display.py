"""Quantities, verdicts and names as people read them. Values come in SI units, as in records."""

from __future__ import annotations

import math
from collections.abc import Sequence

from results.metrics import FLAGS

_SECONDS = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
_BYTES = ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"), (2.0**40, "TiB"))
_DECIMAL = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"))
_SCALES = {
    "s": _SECONDS,
    "B": _BYTES,
    "%": ((0.01, "%"),),
    **{
        unit: tuple((size, prefix + unit) for size, prefix in _DECIMAL)
        for unit in ("FLOP", "FLOP/s", "OP/s", "B/s")
    },
}
#: Units that are not written: a column of rates or counts says in its heading what it holds.
_PLAIN = {"1/s": "", "1": "×"}

#: Metrics of unit 1 that are not "times" something.
_SCORES = ("top1_agreement", "score", "score_lost", "tracked_value")

#: What a verdict is called on a page; the others carry their own name.
_VERDICT_NAMES = {"identical": "identical (fp64)"}
NONE = "–"


def unit_of(metric: str, unit: str) -> str:
    """The unit in which a metric is shown: a fraction of a peak is read in percent, and scores are
    no ratios."""
    return "%" if metric == "peak_fraction" else "" if metric in _SCORES else unit


def quantity(value: float, unit: str) -> str:
    """`1.23 ms`, `45.6 MiB`, `12,300`, `1.02×`: three significant digits. Percentages have two;
    steps are counted: `1,235 steps`, or `never`."""
    if not math.isfinite(value):
        return NONE if math.isnan(value) else "never" if unit == "steps" else "∞"
    if unit == "steps":
        steps = math.ceil(value * (1 - 1e-9))  # 230 steps that rounding made 230.0000001
        return f"{steps:,} step" if steps == 1 else f"{steps:,} steps"
    scale, name = _scale(value, unit)
    if unit == "%":
        return _unit(significant(value / scale, 2), name)
    return _unit(significant(value / scale), name)


def interval(low: float, high: float, unit: str) -> str:
    """`1.20 to 1.31 ms`, with up to five digits to tell the bounds apart; `–` where there is
    no interval."""
    if math.isnan(low) or math.isnan(high):
        return NONE
    if math.isinf(high):
        return f"at least {quantity(low, unit)}"
    scale, name = _scale(high, unit)
    for digits in (3, 4, 5, 3):  # bounds that five digits cannot tell apart are shown as equal
        texts = [significant(bound / scale, digits) for bound in (low, high)]
        if texts[0] != texts[1]:
            break
    return _unit(f"{texts[0]} to {texts[1]}", name)


def ratio(value: float) -> str:
    """`1.02×`, or `–` for nan."""
    return quantity(value, "1")


def error(value: float) -> str:
    """A relative error: `1.23e-07`, `0` when it is exactly that."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞"
    return "0" if value == 0 else f"{value:.2e}"


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and no exponent: `1.00`, `12.3`, `12,300`."""
    rounded = _rounded(value, digits)
    if rounded == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    if decimals > 9 or abs(rounded) >= 1e15:  # a column of zeros would say less
        return f"{value:.{digits - 1}e}"
    return f"{rounded:,.{decimals}f}"


def verdict(name: str) -> str:
    """The name of a verdict for display."""
    return _VERDICT_NAMES.get(name, name)


def status(name: str) -> str:
    """The name of a status for display."""
    return name.replace("_", " ")


def tensor(quantity: str, name: str) -> str:
    """`gradient conv1/w`; a loss or output, which is its own tensor, is just `loss`."""
    return quantity if quantity == name else f"{quantity} {name}"


def flags(text: str) -> list[str]:
    """The flags in a comma-separated column, for display."""
    return [flag.replace("_", " ") for flag in text.split(",") if flag]


def flag_meanings() -> dict[str, str]:
    """The flags that Assay sets, as `flags` names them -> what each says about a figure."""
    return {name.replace("_", " "): meaning for name, meaning in FLAGS.items()}


def shorten(text: str, limit: int = 80) -> str:
    """At most `limit` characters of a text, the end kept: names differ there."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 1]}…{text[-tail:]}"


def visible(text: str, *, keep: str = "") -> str:
    """`text` without characters that would command a terminal or turn its surroundings round:
    controls and bidirectional overrides are written as escapes, those in `keep` are kept."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def scale(largest: float, unit: str) -> tuple[float, str]:
    """What to divide values by, and the unit they then have, when the largest is `largest`."""
    return _scale(largest, unit)


def table_order(names: Sequence[str], first: str = "") -> list[str]:
    """Names in alphabetical order, except that `first` comes first where it occurs."""
    return sorted(set(names), key=lambda name: (name != first, name))


def _scale(value: float, unit: str) -> tuple[float, str]:
    """The largest scale that leaves at least 1 after rounding, and its name."""
    scales = _SCALES.get(unit, ((1.0, _PLAIN.get(unit, unit)),))
    if value == 0:
        return (1.0, unit) if unit == "s" else scales[0]
    fitting = [step for step in scales if abs(_rounded(value / step[0], 3)) >= 1]
    return fitting[-1] if fitting else scales[0]


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


def _unit(number: str, unit: str) -> str:
    return number + unit if unit in ("×", "%") else f"{number} {unit}".rstrip()
