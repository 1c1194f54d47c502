"""What a gate came to, as one list in which every selected case appears. The summary, the badge,
the JSON, the results of tests and the exit code all follow from it.

A case has decisions; or a reason why it is not gated. Whatever else happened to it - the run was
stopped, a disk was full, references disagree - is a decision, too: inconclusive, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from results.gate import INCONCLUSIVE, REGRESSED, SUITES, flagged
from results.records import Case, Decision, Outcome

STOPPED = "the run was stopped before that"


@dataclass(frozen=True)
class Ruling:
    """What became of one case: the decisions that hold; where there is none, `ungated` says why."""

    case: Case
    decisions: tuple[Decision, ...]
    ungated: str = ""

    def of(self, verdict: str) -> list[Decision]:
        """The decisions with a verdict."""
        return [found for found in self.decisions if found.verdict == verdict]


def rulings(
    cases: Iterable[Case],
    decisions: Iterable[Decision],
    outcomes: Mapping[Case, Outcome],
    *,
    base: str,
) -> list[Ruling]:
    """One per case, in their order. Of decisions on one metric the last holds; `base` is what head
    was compared with."""
    held: dict[Case, dict[str, Decision]] = {}
    for found in decisions:
        held.setdefault(found.case, {})[found.metric] = confirmed(found)
    return [
        _ruling(case, tuple(held.get(case, {}).values()), outcomes.get(case), base)
        for case in dict.fromkeys(cases)
    ]


def confirmed(found: Decision) -> Decision:
    """A decision as it holds: what was flagged and never measured again is not decided."""
    if not flagged(found):
        return found
    reason = f"flagged at {found.ratio:.3f}, but not confirmed: {STOPPED}"
    return replace(found, verdict=INCONCLUSIVE, reason=reason)


def _ruling(
    case: Case, decisions: Sequence[Decision], outcome: Outcome | None, base: str
) -> Ruling:
    settled = any(d.verdict in (REGRESSED, INCONCLUSIVE) for d in decisions)
    if settled or (decisions and outcome is not None and outcome.status == "ok"):
        return Ruling(case, tuple(decisions))
    if outcome is not None and outcome.status == "unsupported" and not decisions:
        return Ruling(case, (), outcome.reason)
    reason = f"not measured: {STOPPED}"
    if outcome is not None:
        reason = "nothing could be compared" if outcome.status == "ok" else outcome.reason
        reason = (
            reason if outcome.status in ("ok", "interrupted") else f"{outcome.status}: {reason}"
        )
    missing = Decision(case, SUITES[case.suite], INCONCLUSIVE, base, reason=reason)
    return Ruling(case, (*decisions, missing))
