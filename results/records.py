"""What a run leaves behind: immutable, self-checking records, one JSON object per line.

History of the format
    1   first version: measurement, agreement, facts, outcome
    2   case: threads, length; measurement: conditions; outcome: phases; limit. Version 1 is read:
        what it lacks has the value that it stood for

    3   verdicts: unsupported, deviation; suites of exercises, whose model is what is exercised
    4   decision
    5   claim
    6   agreement: ulp

SI units only: seconds, bytes, FLOP. A record that breaks a rule below cannot be made.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from results.metrics import LIMITS, METRICS, SIGNED

SCHEMA = 6
READABLE = (1, 2, 3, 4, 5, 6)

MODES = ("infer", "train", "generate")
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
    "unsupported",
    "deviation",
    "divergent",
    "mistrusted",
)
CLAIM_VERDICTS = ("holds", "does not hold", "not testable here")
GATE_VERDICTS = ("regressed", "improved", "unchanged", "inconclusive")


class RecordError(ValueError):
    """A record is not what the schema says. The text names the field, its value and the rule."""


@dataclass(frozen=True, order=True)
class Case:
    """One question: is this configuration right, and what does it cost? Its `key` is its
    identity within a suite. Empty or 0 stands for the usual: `recipe` and `length` (of a sequence)
    for the model's own, `threads` for the run's."""

    suite: str
    mode: str
    model: str
    size: str
    adapter: str
    device: str
    precision: str
    batch: int
    recipe: str = ""
    threads: int = 0
    length: int = 0

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("device", self.device, DEVICES)
        _count("batch", self.batch, least=1)
        _count("threads", self.threads, least=0)
        _count("length", self.length, least=0)
        if not isinstance(self.recipe, str):
            raise RecordError(f"recipe is {self.recipe!r}, but should be a string")
        for name in ("suite", "model", "size", "adapter", "precision"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise RecordError(f"{name} is {value!r}, but should be a non-empty string")

    @property
    def key(self) -> str:
        """`train/vit/small/jax_jit/cpu/fp32/b8`; length, threads and recipe are appended where
        they are not the usual ones: `.../b8/s65/t2/adamw`."""
        parts = [self.mode, self.model, self.size, self.adapter, self.device, self.precision]
        unusual = [
            f"s{self.length}" if self.length else "",
            f"t{self.threads}" * bool(self.threads),
        ]
        return "/".join([*parts, f"b{self.batch}", *filter(None, [*unusual, self.recipe])])


@dataclass(frozen=True)
class Measurement:
    """Raw values of one metric, one per round. `process` numbers the process they come from.
    `conditions` are what else was read while they were measured: numbers by name."""

    case: Case
    metric: str
    unit: str
    values: tuple[float, ...]
    steps_per_round: int = 1
    process: int = 0
    flags: tuple[str, ...] = ()
    conditions: Mapping[str, float] = field(default_factory=dict)

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
        _numbers("conditions", self.conditions)
        if not self.values:
            raise RecordError(f"{self.metric} has no values")
        for value in self.values:
            if not _number(value) or not math.isfinite(value):
                raise RecordError(f"{self.metric} has the value {value!r}, but should be finite")
            if value < 0 and self.metric not in SIGNED:
                raise RecordError(f"{self.metric} has the value {value!r}, but should be >= 0")


@dataclass(frozen=True)
class Agreement:
    """How close one tensor came to its reference.

    error is normwise relative: ||x - reference|| / ||reference||. floor is the noise floor of the
    case's precision, on the same scale; ratio is error / floor. All three may be infinite
    (shapes or NaN masks differ), and floor is None where none was needed. ulp is how far the worst
    element is from its reference in units in the last place, None where that is not judged.
    """

    case: Case
    quantity: str  # output | loss | gradient | {update, buffer, average}@n; an exercise's name
    tensor: str
    error: float
    floor: float | None
    ratio: float | None
    verdict: str
    reference: str
    reason: str = ""
    ulp: float | None = None

    def __post_init__(self) -> None:
        _one_of("verdict", self.verdict, VERDICTS)
        for name in ("error", "floor", "ratio", "ulp"):
            value = getattr(self, name)
            if value is None and name != "error":
                continue
            if not _number(value) or math.isnan(value) or value < 0:
                raise RecordError(f"{name} is {value!r}, but should be a number >= 0")


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
    """How a case ended. There is exactly one per suite and case. `phases` says where its seconds
    went."""

    case: Case
    status: str
    reason: str
    seconds: float
    reproduce: str
    phases: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("status", self.status, STATUSES)
        if self.status != "ok" and not self.reason:
            raise RecordError(f"outcome {self.status!r} of {self.case.key} has no reason")
        if not _number(self.seconds) or not 0 <= self.seconds < math.inf:
            raise RecordError(f"seconds is {self.seconds!r}, but should be a number >= 0")
        _numbers("phases", self.phases)


@dataclass(frozen=True)
class Limit:
    """What the machine can do at most, as one adapter measured it. The largest is the machine's."""

    limit: str
    unit: str
    value: float
    adapter: str
    device: str
    threads: int
    measured: str  # the time, ISO 8601: it may be older than the run
    machine: str = ""  # `results.machines.place` where that is not the run's own

    def __post_init__(self) -> None:
        _one_of("limit", self.limit, LIMITS)
        if self.unit != LIMITS[self.limit][0]:
            raise RecordError(
                f"unit of {self.limit} is {self.unit!r}, but should be {LIMITS[self.limit][0]!r}"
            )
        _one_of("device", self.device, DEVICES)
        _count("threads", self.threads, least=1)
        if not _number(self.value) or not 0 < self.value < math.inf:
            raise RecordError(f"{self.limit} is {self.value!r}, but should be a number > 0")


@dataclass(frozen=True)
class Decision:
    """What a gate decided on one metric of a case. There may be two, of which the later holds:
    stage 2 confirms what stage 1 flagged.

    metric      a metric, `conformance`, or a fact that is counted
    verdict     one of `results.gate.VERDICTS`
    ratios      head over base, one per pair; none where nothing is divided
    ratio, low, high   the estimate and its interval; None where there is none
    p           of no change, one-sided; None where nothing is estimated
    threshold   share by which head may be worse
    seconds     that it took
    base        what head was compared with
    reason      what else is to be said: the two verdicts or counts, say
    """

    case: Case
    metric: str
    verdict: str
    base: str
    threshold: float = 0.0
    ratios: tuple[float, ...] = ()
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    seconds: float = 0.0
    stage: int = 1
    reason: str = ""

    def __post_init__(self) -> None:
        _one_of("verdict", self.verdict, GATE_VERDICTS)
        _count("stage", self.stage, least=1)
        _bounded("threshold", self.threshold)
        _bounded("seconds", self.seconds)
        for value in self.ratios:
            _bounded("a pair's ratio", value)
        for name in ("ratio", "low", "p"):
            if getattr(self, name) is not None:
                _bounded(name, getattr(self, name))
        if self.high is not None and not (_number(self.high) and self.high >= 0):
            raise RecordError(f"high is {self.high!r}, but should be a number >= 0")


@dataclass(frozen=True)
class Claim:
    """A published statement, put to the test.

    claim       its name, by which it is known over runs
    statement   as published; `source` says where, and on which hardware it was said
    asked       what exactly was measured
    verdict     one of CLAIM_VERDICTS
    reason      why it is not testable here, or what else is to be said of the verdict
    value, low, high, unit   what was measured, with its interval; None where it is no number
    measured    what was measured, in words where it is no number
    cases       keys of the cases that it was measured on, each after its suite: `suite/key`
    """

    claim: str
    statement: str
    source: str
    asked: str
    verdict: str
    reason: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    measured: str = ""
    cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("verdict", self.verdict, CLAIM_VERDICTS)
        for name in ("claim", "statement", "source", "asked"):
            if not getattr(self, name):
                raise RecordError(f"{name} is empty, but should say something")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not (_number(number) and math.isfinite(number)):
                raise RecordError(f"{name} is {number!r}, but should be a finite number")
        if not all(isinstance(case, str) for case in self.cases):
            raise RecordError(f"cases are {self.cases!r}, but should be strings")
        if self.verdict == "not testable here":
            if not self.reason:
                raise RecordError(f"claim {self.claim!r} is not testable here, but has no reason")
        elif self.value is None and not self.measured:
            raise RecordError(f"claim {self.claim!r} {self.verdict}, but nothing was measured")


#: Records about a case, and those that are about the machine or about what others say.
CaseRecord = Measurement | Agreement | Facts | Outcome | Decision
Record = CaseRecord | Limit | Claim
KINDS: dict[str, type] = {
    "measurement": Measurement,
    "agreement": Agreement,
    "facts": Facts,
    "outcome": Outcome,
    "limit": Limit,
    "decision": Decision,
    "claim": Claim,
}


def encode(record: Record) -> str:
    """One line of JSON, without the line feed. Infinity is written as the string "inf"."""
    kind = next(name for name, made in KINDS.items() if isinstance(record, made))
    body = {"kind": kind, "schema": SCHEMA, **dataclasses.asdict(record)}
    return json.dumps(finite(body), ensure_ascii=False, allow_nan=False)


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
    schema = body.pop("schema", None)
    if schema not in READABLE:
        known = " or ".join(map(str, READABLE))
        raise RecordError(f"the record has schema version {schema!r}, but should have {known}")
    made = KINDS[body.pop("kind")]
    try:
        if made not in (Limit, Claim):
            body["case"] = Case(**body["case"])
        for name in ("values", "flags", "ratios", "cases"):
            if name in body:
                body[name] = tuple(body[name])
        for name in ("error", "floor", "ratio", "high", "ulp"):
            if body.get(name) == "inf":
                body[name] = math.inf
        _strings(made, body)
        return made(**body)
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"a {made.__name__.lower()} with missing or wrong fields: {error}"
        ) from None


def _strings(made: type, body: Mapping[str, Any]) -> None:
    for known in dataclasses.fields(made):
        if known.type == "str" and known.name in body and not isinstance(body[known.name], str):
            raise RecordError(f"{known.name} is {body[known.name]!r}, but should be a string")


def _one_of(name: str, value: object, allowed: Any) -> None:
    if value not in allowed:
        raise RecordError(f"{name} is {value!r}, but should be one of {', '.join(allowed)}")


def _count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise RecordError(f"{name} is {value!r}, but should be an integer >= {least}")


def _bounded(name: str, value: object) -> None:
    if not _number(value) or not 0 <= value < math.inf:  # type: ignore[operator]  # is a number
        raise RecordError(f"{name} is {value!r}, but should be a number >= 0")


def _numbers(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise RecordError(f"{name} is {value!r}, but should be a mapping")
    for key, part in value.items():
        if not isinstance(key, str) or not _number(part) or not math.isfinite(part):
            raise RecordError(f"{name} has {key!r}: {part!r}, but should have numbers by name")


def _number(value: object) -> bool:
    """Whether `value` is a number that a float can hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1023
    return isinstance(value, float)


def finite(value: Any) -> Any:
    """`value` with infinities as the string "inf", which JSON lacks."""
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
