"""What a run leaves behind: immutable, self-checking records, one JSON object per line.

History of the format
    1   first version: measurement, agreement, facts, outcome

SI units only: seconds, bytes, FLOP. A record that breaks a rule below cannot be made.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = 1

MODES = ("infer", "train")
DEVICES = ("cpu", "cuda")
STATUSES = (
    "ok",
    "unsupported",
    "divergent",
    "mistrusted",
    "failed",
    "timeout",
    "out_of_memory",
    "crashed",
    "interrupted",
)
VERDICTS = (
    "identical",
    "bitwise",
    "rounding-equal",
    "precision-equal",
    "null-gradient",
    "unreferenced",
    "divergent",
    "mistrusted",
)
#: metric -> (unit, what it is)
METRICS: dict[str, tuple[str, str]] = {
    "step_time": ("s", "time of one step in steady state"),
    "throughput": ("1/s", "examples per second in steady state"),
    "import_time": ("s", "importing the adapter and its framework in a new process"),
    "build_time": ("s", "from arrays to a program that is ready to be called"),
    "first_call_time": ("s", "the first step, with compile caches off"),
    "host_peak_bytes": (
        "B",
        "peak memory over steady steps, above the same process before the build",
    ),
    "compile_peak_bytes": ("B", "peak memory of build and first call, above the same"),
    "device_peak_bytes": (
        "B",
        "peak device memory over steady steps, by the framework's allocator",
    ),
    "control_ratio": ("1", "step time over that of the native control, paired rounds"),
}


class RecordError(ValueError):
    """A record is not what the schema says. The text names the field, its value and the rule."""


@dataclass(frozen=True, order=True)
class Case:
    """One question: is this configuration right, and what does it cost? Its `key` is its
    identity within a suite. `recipe` is empty for the model's own."""

    suite: str
    mode: str
    model: str
    size: str
    adapter: str
    device: str
    precision: str
    batch: int
    recipe: str = ""

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("device", self.device, DEVICES)
        _count("batch", self.batch, least=1)
        if not isinstance(self.recipe, str):
            raise RecordError(f"recipe is {self.recipe!r}, but should be a string")
        for field in ("suite", "model", "size", "adapter", "precision"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value:
                raise RecordError(f"{field} is {value!r}, but should be a non-empty string")

    @property
    def key(self) -> str:
        """`train/vit/small/jax_jit/cpu/fp32/b8`, with the recipe appended if it is not the
        model's own."""
        parts = [self.mode, self.model, self.size, self.adapter, self.device, self.precision]
        return "/".join([*parts, f"b{self.batch}", *([self.recipe] if self.recipe else [])])


@dataclass(frozen=True)
class Measurement:
    """Raw values of one metric, one per round. `process` numbers the process they come from."""

    case: Case
    metric: str
    unit: str
    values: tuple[float, ...]
    steps_per_round: int = 1
    process: int = 0
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("metric", self.metric, METRICS)
        if self.unit != METRICS[self.metric][0]:
            raise RecordError(
                f"unit of {self.metric} is {self.unit!r}, but should be {METRICS[self.metric][0]!r}"
            )
        _count("steps_per_round", self.steps_per_round, least=1)
        _count("process", self.process, least=0)
        if not all(isinstance(flag, str) for flag in self.flags):
            raise RecordError(f"flags are {self.flags!r}, but should be strings")
        if not self.values:
            raise RecordError(f"{self.metric} has no values")
        for value in self.values:
            if not _number(value) or not math.isfinite(value) or value < 0:
                raise RecordError(f"{self.metric} has the value {value!r}, but should be >= 0")


@dataclass(frozen=True)
class Agreement:
    """How close one tensor came to its reference.

    error is normwise relative: ||x - reference|| / ||reference||. floor is the noise floor of the
    case's precision, on the same scale; ratio is error / floor. All three may be infinite
    (shapes or NaN masks differ), and floor is None where none was needed.
    """

    case: Case
    quantity: str  # output | loss | gradient | update@n | buffer@n
    tensor: str
    error: float
    floor: float | None
    ratio: float | None
    verdict: str
    reference: str
    reason: str = ""

    def __post_init__(self) -> None:
        _one_of("verdict", self.verdict, VERDICTS)
        for field in ("error", "floor", "ratio"):
            value = getattr(self, field)
            if value is None and field != "error":
                continue
            if not _number(value) or math.isnan(value) or value < 0:
                raise RecordError(f"{field} is {value!r}, but should be a number >= 0")


@dataclass(frozen=True)
class Facts:
    """The effective configuration, as the framework reports it."""

    case: Case
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.facts, Mapping):
            raise RecordError(f"facts are {self.facts!r}, but should be a mapping")


@dataclass(frozen=True)
class Outcome:
    """How a case ended. There is exactly one per suite and case."""

    case: Case
    status: str
    reason: str
    seconds: float
    reproduce: str

    def __post_init__(self) -> None:
        _one_of("status", self.status, STATUSES)
        if self.status != "ok" and not self.reason:
            raise RecordError(f"outcome {self.status!r} of {self.case.key} has no reason")
        if not _number(self.seconds) or not 0 <= self.seconds < math.inf:
            raise RecordError(f"seconds is {self.seconds!r}, but should be a number >= 0")


Record = Measurement | Agreement | Facts | Outcome
KINDS: dict[str, type] = {
    "measurement": Measurement,
    "agreement": Agreement,
    "facts": Facts,
    "outcome": Outcome,
}


def encode(record: Record) -> str:
    """One line of JSON, without the line feed. Infinity is written as the string "inf"."""
    kind = next(name for name, made in KINDS.items() if isinstance(record, made))
    body = {"kind": kind, "schema": SCHEMA, **dataclasses.asdict(record)}
    return json.dumps(_finite(body), ensure_ascii=False, allow_nan=False)


def decode(line: str) -> Record:
    """The record in one line. Raises RecordError for anything that `encode` could not have
    written, including another schema version."""
    try:
        body = json.loads(line)
        if "\\ud" in line.lower():  # half a character, which no file could hold
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from None
    if not isinstance(body, dict) or str(body.get("kind")) not in KINDS:
        raise RecordError(
            f"not a record: it should be an object whose kind is one of {list(KINDS)}"
        )
    if body.pop("schema", None) != SCHEMA:
        raise RecordError(f"the record has another schema version, but should have {SCHEMA}")
    made = KINDS[body.pop("kind")]
    try:
        body["case"] = Case(**body["case"])
        for name in ("values", "flags"):
            if name in body:
                body[name] = tuple(body[name])
        for name in ("error", "floor", "ratio"):
            if body.get(name) == "inf":
                body[name] = math.inf
        _strings(made, body)
        return made(**body)
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"a {made.__name__.lower()} with missing or wrong fields: {error}"
        ) from None


def _strings(made: type, body: Mapping[str, Any]) -> None:
    for field in dataclasses.fields(made):
        if field.type == "str" and field.name in body and not isinstance(body[field.name], str):
            raise RecordError(f"{field.name} is {body[field.name]!r}, but should be a string")


def _one_of(name: str, value: object, allowed: Any) -> None:
    if value not in allowed:
        raise RecordError(f"{name} is {value!r}, but should be one of {', '.join(allowed)}")


def _count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise RecordError(f"{name} is {value!r}, but should be an integer >= {least}")


def _number(value: object) -> bool:
    """Whether `value` is a number that a float can hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1023
    return isinstance(value, float)


def _finite(value: Any) -> Any:
    """`value` with infinities as the string "inf", which JSON lacks."""
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
