"""What a quantized program told of itself: how well each layer does, which one costs most, what
calibration found, and what multiplies integers. Facts may be of any shape; what is of another shape
than these is left out here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results import display

_LARGEST = 1e300  # JSON holds integers that no float does
_NAME = 60  # characters of a name that are shown


@dataclass(frozen=True)
class Calibration:
    """How ranges of activations were found: on how many batches and examples, 0 where that is not
    known. ranges: weight -> (low, high, scale) of what comes into its layer."""

    method: str
    batches: int
    examples: int
    source: str
    ranges: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Quality:
    """What was told of a program whose quality was assessed.

    score           what the score is: "accuracy"
    examples        that it was made on, which training did not see; 0: not known
    trained         steps of training in float32; tuned: of those with quantization, after that
    share           of the elements of all weights of layers that are integers; nan: not known
    left            weights that stayed floating-point
    layers          weight -> SQNR in dB of what its layer gives
    whole           SQNR in dB of the output by the oracle's chain of layers; nan: not known
    alone           weight -> that SQNR where this layer alone is left in float64
    """

    score: str
    examples: int
    trained: int
    tuned: int
    share: float
    left: tuple[str, ...]
    layers: Mapping[str, float]
    whole: float
    alone: Mapping[str, float]
    calibration: Calibration | None

    @property
    def gains(self) -> dict[str, float]:
        """Weight -> dB that the output gains where this layer alone is left in float64, the largest
        gain first; empty where that is not known."""
        gained = {name: value - self.whole for name, value in self.alone.items()}
        known = {name: gain for name, gain in gained.items() if math.isfinite(gain)}
        return dict(sorted(known.items(), key=lambda pair: (-pair[1], pair[0])))


def read(fact: Any) -> Quality | None:
    """None where the fact says no such thing."""
    if not isinstance(fact, Mapping) or not isinstance(fact.get("score"), str):
        return None
    alone = _numbers(fact.get("sensitivity"))
    return Quality(
        score=_text(fact["score"]),
        examples=_count(fact.get("examples")),
        trained=_count(fact.get("trained_steps")),
        tuned=_count(fact.get("tuned_steps")),
        share=_number(fact.get("share")),
        left=_texts(fact.get("left_in_float")),
        layers=_numbers(fact.get("layers")),
        whole=alone.pop("", math.nan),
        alone=alone,
        calibration=_calibration(fact.get("calibration")),
    )


def of(facts: Iterable[Mapping[str, Any]]) -> Quality | None:
    """The first that the facts of a case hold."""
    return next((found for each in facts if (found := read(each.get("quality")))), None)


def kernels(facts: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of what multiplies integers, as the first of the facts that has any tells."""
    return next((found for each in facts if (found := _texts(each.get("integer_kernels")))), ())


def by_dtype(fact: Any) -> Any:
    """{"fc1/w": "int8", "fc2/w": "int8"} as {"int8": ["fc1/w", "fc2/w"]}; anything else as it
    is."""
    if not isinstance(fact, Mapping) or not all(isinstance(v, str) for v in fact.values()):
        return fact
    found: dict[str, list[str]] = {}
    for name, dtype in fact.items():
        found.setdefault(dtype, []).append(str(name))
    return found


def _calibration(fact: Any) -> Calibration | None:
    if not isinstance(fact, Mapping) or not isinstance(fact.get("method"), str):
        return None
    told, source = fact.get("ranges"), fact.get("of")
    ranges = {}
    for name, found in told.items() if isinstance(told, Mapping) else ():
        known = _numbers(found)
        if {"low", "high", "scale"} <= known.keys():
            ranges[_text(name)] = (known["low"], known["high"], known["scale"])
    return Calibration(
        method=_text(fact["method"]),
        batches=_count(fact.get("batches")),
        examples=_count(fact.get("examples")),
        source=_text(source) if isinstance(source, str) else "examples",
        ranges=ranges,
    )


def _numbers(fact: Any) -> dict[str, float]:
    """The numbers among the values of a mapping, by name."""
    items = fact.items() if isinstance(fact, Mapping) else ()
    found = {_text(name): _number(value) for name, value in items}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _number(value: Any) -> float:
    """nan for anything that is no number. JSON lacks infinity, which records write as a string."""
    if value in ("inf", math.inf):
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < _LARGEST else math.nan


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < _LARGEST else 0


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a list, each once."""
    listed: Sequence[Any] = value if isinstance(value, list | tuple) else ()
    return tuple(dict.fromkeys(_text(each) for each in listed if isinstance(each, str) and each))


def _text(value: Any) -> str:
    return display.visible(display.shorten(str(value), _NAME))
