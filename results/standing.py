"""How the cases of two stored runs ended, and what follows from that alone: support that was lost,
a baseline that is none, a case that nobody measured. No case that either run began is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from results import gate
from results.gate import IMPROVED, INCONCLUSIVE, REGRESSED
from results.policy import Policy
from results.records import Case, Decision
from results.store import Run

SUPPORT = "support"  # the metric of a decision on whether a case runs at all
#: Suites whose figures are a by-product of a gate's own decisions.
OF_GATES = ("gate", "confirm", "canary")


@dataclass(frozen=True)
class Standing:
    """How a case ended. `rank` is the place of its worst verdict in `gate.RANKS`, and None where
    nothing of it was judged."""

    status: str
    reason: str
    rank: int | None

    @property
    def word(self) -> str:
        """The worst verdict of a case that is ok, else how it ended."""
        if self.status == "ok" and self.rank is not None:
            return gate.RANKS[self.rank][0]
        return self.status


def standings(run: Run) -> dict[Case, Standing]:
    """How each case of a run ended."""
    worst: dict[Case, int] = {}
    for row in run.agreements:
        place = gate.rank(row.verdict)
        if place is not None:
            worst[row.case] = max(worst.get(row.case, 0), place)
    return {
        o.case: Standing(o.status, o.reason, worst.get(o.case))
        for o in run.outcomes
        if not o.case.suite.startswith(OF_GATES)
    }


def supported(base: Run, head: Run, policy: Policy) -> Iterable[Decision]:
    """Decisions that follow from how cases ended which both runs began."""
    before, now = standings(base), standings(head)
    for case in now:
        if case in before:
            yield from _decided(case, before[case], now[case], policy, told=base.run_id)


def neither(base: Run, head: Run) -> dict[Case, str]:
    """Cases that neither run supports, and why head does not."""
    before, now = standings(base), standings(head)
    return {
        case: f"unsupported in both: {ended.reason}"
        for case, ended in now.items()
        if ended.status == "unsupported" and case in before
        and before[case].status == "unsupported"
    }  # fmt: skip


def alone(base: Run, head: Run) -> tuple[list[Case], list[Case]]:
    """Cases that only base began, and those that only head did."""
    before, now = standings(base), standings(head)
    return [c for c in before if c not in now], [c for c in now if c not in before]


def _decided(
    case: Case, before: Standing, now: Standing, policy: Policy, *, told: str
) -> Iterable[Decision]:
    statuses = before.status, now.status
    change = f"{before.word} to {now.word}"
    judged = policy.threshold(case, "conformance") is not None
    metric = "conformance" if judged else SUPPORT
    match statuses:
        case ("unsupported", "unsupported"):
            return  # see `neither`
        case ("ok", "unsupported"):
            reason = f"support lost: {now.reason}"
            yield Decision(case, SUPPORT, REGRESSED, told, reason=reason)
        case ("unsupported", "ok"):
            yield Decision(case, SUPPORT, IMPROVED, told, reason=change)
        case (_, "interrupted"):
            reason = f"not measured in head: {now.reason}"
            yield Decision(case, SUPPORT, INCONCLUSIVE, told, reason=reason)
        case ("ok", "ok"):
            if judged and before.rank is not None and now.rank is None:
                reason = f"{before.word} in base, but not judged in head"
                yield Decision(case, metric, INCONCLUSIVE, told, reason=reason)
            elif judged and before.rank is not None and now.rank is not None:
                verdict = gate.grown(before.rank, now.rank)
                reason = change if before.rank != now.rank else now.word
                yield Decision(case, metric, verdict, told, reason=reason)
        case ("ok", _):
            yield Decision(case, metric, REGRESSED, told, reason=f"{change}: {now.reason}")
        case (_, "ok"):
            if before.status != "interrupted" and judged:
                yield Decision(case, metric, IMPROVED, told, reason=change)
            reason = f"no baseline, since it is {before.status} in base: {before.reason}"
            yield Decision(case, SUPPORT, INCONCLUSIVE, told, reason=reason)
        case _:
            reason = f"no baseline, since it is {before.status} in base; {now.word} in head"
            yield Decision(case, metric, INCONCLUSIVE, told, reason=reason)
