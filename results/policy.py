"""How much worse may it become? What a team tells a gate, in TOML. There are defaults for all.

[thresholds]            # of everything: share by which head may be worse than base
step_time = 0.05
cold_start = false      # not gated

[model.vit]             # of one model
step_time = 0.03

[case."train/mlp/*"]    # of cases whose key fits; the last that fits counts
memory = 0.10
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from results.records import Case

#: What can be gated -> (threshold, what it is). Thresholds are shares.
GATED: dict[str, tuple[float, str]] = {
    "step_time": (0.05, "time of one step in steady state"),
    "latency": (0.05, "time of one synchronised call on one example"),
    "memory": (0.02, "peak memory over steady steps, and at least 1 MiB"),
    "cold_start": (0.20, "import, build and first call of a new process without compile caches"),
    "artifact": (0.01, "size of the model for inference as the framework writes it"),
    "conformance": (0.0, "the verdict on a case's tensors; only false, for not gated"),
    "counts": (0.0, "graph breaks, compilations, kernels, nodes, FLOPs; only false"),
}
EXACT = ("conformance", "counts")


class PolicyError(ValueError):
    """A policy is not what it should be. The text names the place, the value and the rule."""


@dataclass(frozen=True)
class Policy:
    """Thresholds by what is gated; None stands for not gated."""

    everything: Mapping[str, float | None] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    cases: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def threshold(self, case: Case, what: str) -> float | None:
        """The share by which `what` may be worse in a case; None: it is not gated there."""
        told = [self.everything, self.models.get(case.model, {})]
        told += [rules for pattern, rules in self.cases.items() if fnmatchcase(case.key, pattern)]
        found: float | None = GATED[what][0]
        for rules in told:
            found = rules.get(what, found)
        return found


def read(path: Path | None) -> Policy:
    """The policy in a file; the defaults where there is none. Raises PolicyError."""
    if path is None:
        return Policy()
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} is not TOML: {error}") from None
    parts = ("thresholds", "model", "case")
    for name in told:
        _known(path, name, parts)
    return Policy(
        _rules(path, "thresholds", told.get("thresholds", {})),
        _named(path, "model", told.get("model", {})),
        _named(path, "case", told.get("case", {})),
    )


def _named(path: Path, part: str, told: Any) -> dict[str, Mapping[str, float | None]]:
    if not isinstance(told, dict):
        raise PolicyError(f"{path}: {part} is {told!r}, but should be tables like [{part}.NAME]")
    return {name: _rules(path, f"{part}.{name}", rules) for name, rules in told.items()}


def _rules(path: Path, place: str, told: Any) -> dict[str, float | None]:
    if not isinstance(told, dict):
        raise PolicyError(f"{path}: {place} is {told!r}, but should be a table")
    found: dict[str, float | None] = {}
    for name, value in told.items():
        _known(path, name, tuple(GATED))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is False:
            found[name] = None
        elif name in EXACT or not number or not 0 < value < math.inf:
            rule = "false" if name in EXACT else "a share above 0, such as 0.05, or false"
            raise PolicyError(f"{path}: {place}.{name} is {value!r}, but should be {rule}")
        else:
            found[name] = float(value)
    return found


def _known(path: Path, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise PolicyError(f"{path} has {name!r}, but should have {', '.join(names)}{hint}")
