"""How a case's state is shown: a word, a symbol and a tone, so that colour is never alone."""

from __future__ import annotations

from dataclasses import dataclass

from results import display

#: verdict -> (symbol, tone). Tones are classes in style.css.
_VERDICTS = {
    "identical": ("≡", "good"),
    "reached": ("✓", "good"),
    "as specified": ("✓", "good"),
    "compared": ("⇄", "mute"),
    "not judged here": ("·", "mute"),
    "bitwise": ("=", "good"),
    "rounding-equal": ("≈", "good"),
    "precision-equal": ("~", "fair"),
    "null-gradient": ("∅", "mute"),
    "unreferenced": ("∘", "mute"),
    "mistrusted": ("?", "warn"),
    "unsupported": ("–", "mute"),
    "deviation": ("≠", "warn"),
    "divergent": ("✗", "bad"),
}
_STATUSES = {
    "unsupported": ("–", "mute"),
    "divergent": ("✗", "bad"),
    "mistrusted": ("?", "warn"),
    "interrupted": ("…", "warn"),
    "no outcome": ("…", "warn"),
}
_GRAVEST_FIRST = ("ok", "divergent", "mistrusted", "failed", "crashed", "out_of_memory", "timeout")
#: failed, timeout, out_of_memory, crashed and whatever a later schema adds
_OTHER_STATUS = ("!", "bad")

#: verdict or status -> what it means, in the order of the legend
MEANINGS = {
    "identical": "in double precision the error is at most 1e-10: the same computation",
    "bitwise": "every bit is that of the reference",
    "rounding-equal": "the error is at most 4 times the noise floor, which is what rounding alone "
    "does to this very case",
    "precision-equal": "the error is at most 20 times the noise floor: less accurate, but still "
    "this precision",
    "reached": "training came to the model's goal with every seed, and no later than elsewhere",
    "as specified": "in every step loss scaling did what its rule says",
    "compared": "it took turns with base; the section on the gate has the decision",
    "not judged here": "another tool measured it, and nothing was compared with a reference",
    "deviation": "it diverges for a reason that is known and told; it is counted apart",
    "divergent": "the error is larger than that: something else was computed",
    "mistrusted": "the reference could not have shown a fault, so nothing is concluded",
    "null-gradient": "the reference gradient is rounding noise itself, so it is not compared",
    "unreferenced": "there is nothing to compare with, so nothing is concluded",
    "unsupported": "the adapter or the machine cannot run this; the reason names why",
    "failed": "the case raised an error; timeout, out of memory and crashed say so by name",
    "interrupted": "the run was stopped before the case ended",
}


@dataclass(frozen=True)
class Badge:
    """text is the word, symbol a sign of its own, tone a CSS class."""

    text: str
    symbol: str
    tone: str


def badge(status: str, verdict: str) -> Badge:
    """The badge of a case: its verdict where it ended ok, else how it ended."""
    if status != "ok":
        return Badge(display.status(status), *_STATUSES.get(status, _OTHER_STATUS))
    if not verdict:
        return Badge("not judged", "?", "warn")
    return Badge(display.verdict(verdict), *_VERDICTS.get(verdict, ("?", "warn")))


def gravity(status: str) -> tuple[bool, int]:
    """Sorts statuses: what may mislead a reader first, `unsupported` last. A case that is shown
    as not ok although its status is `ok` leads."""
    known = status in _GRAVEST_FIRST
    return status == "unsupported", _GRAVEST_FIRST.index(status) if known else len(_GRAVEST_FIRST)


def legend() -> list[tuple[Badge, str]]:
    """Every badge with its meaning."""
    return [
        (badge("ok", name) if name in _VERDICTS else badge(name, ""), meaning)
        for name, meaning in MEANINGS.items()
    ]
