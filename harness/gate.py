"""The gate: decides on cases by pairs of base and head, confirms what it flagged, and says what
blocks. Each decision is recorded as it falls."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.client import WorkerFailure
from harness.paired import Canary, Pair, Paired
from harness.runner import Ended, Runner
from results import gate
from results.gate import INCONCLUSIVE, REGRESSED, sentence
from results.policy import Policy
from results.records import Case, Decision, Outcome

#: suite -> what it gates
SUITES = {
    "gate": "step_time",
    "gate_latency": "latency",
    "gate_memory": "memory",
    "gate_cold_start": "cold_start",
}
CANARIES = 2
UNRELIABLE = "the machine is not reliable now"  # what the reason begins with
CONFIRM = "confirm"  # what the suite's name begins with where something is confirmed


@dataclass
class Found:
    """What a gate came to.

    decisions   by case: those that hold
    outcomes    of cases that ended otherwise than ok, and whose arm is not to blame
    unreliable  why nothing can be decided on this machine now; empty where it can
    """

    decisions: dict[Case, list[Decision]] = field(default_factory=dict)
    outcomes: dict[Case, Outcome] = field(default_factory=dict)
    unreliable: str = ""


class Gate:
    """Decides on cases. `told` is what base is called."""

    def __init__(self, runner: Runner, policy: Policy) -> None:
        self._runner = runner
        self._policy = policy

    def decide(self, cases: Mapping[Case, str]) -> Found:
        """Decides on each case, whose value is the command that reproduces it."""
        found = Found()
        found.unreliable = self._unreliable(cases)
        if found.unreliable:
            for case, reproduce in cases.items():
                found.decisions[case] = [self._leave(case, reproduce, found.unreliable)]
            return found
        for case, reproduce in cases.items():
            found.decisions[case] = self._once(case, reproduce, found)
        self._confirm(cases, found)
        return found

    # -- is the machine fit for it? --------------------------------------------------------------

    def _unreliable(self, cases: Mapping[Case, str]) -> str:
        """Compares base with itself; tries once more where that is flagged."""
        flagged: list[Decision] = []
        for attempt in ("canary", "canary_again"):
            flagged = [d for d in self._canaries(cases, attempt) if d.verdict == REGRESSED
                       or d.verdict == gate.IMPROVED]  # fmt: skip
            if not flagged:
                return ""
        worst = flagged[0]
        return (
            f"base against itself came out as {worst.verdict} ({worst.case.key}: "
            f"{worst.ratio:.3f}), twice, so nothing was decided. Try again when it is quiet"
        )

    def _canaries(self, cases: Mapping[Case, str], suite: str) -> list[Decision]:
        """Decisions on the first case of each of up to CANARIES adapters, else of any."""
        timed = [case for case in cases if SUITES[case.suite] == "step_time"]
        first = list({case.adapter: case for case in reversed(timed)}.values())[::-1]
        chosen = (first + [case for case in timed if case not in first])[:CANARIES]
        decisions = []
        for case in chosen:
            threshold = self._policy.threshold(case, "step_time")
            try:
                own = replace(case, suite=suite)
                with self._runner.run(Canary, own, reproduce=cases[case]) as attempt:
                    decisions.append(attempt.compare(threshold or gate.THRESHOLD))
                    attempt.note = sentence(decisions[-1])
            except Ended:  # the case itself will say why
                continue
        return decisions

    def _leave(self, case: Case, reproduce: str, why: str) -> Decision:
        """The decision on a case that was not measured; another run can take it up."""
        decisions = []
        with (
            contextlib.suppress(Ended),
            self._runner.run(Paired, case, reproduce=reproduce) as attempt,
        ):
            failure = WorkerFailure("interrupted", f"{UNRELIABLE}: {why}")
            decisions.append(attempt.undecided(SUITES[case.suite], failure))
            raise failure
        return decisions[0]

    # -- one case --------------------------------------------------------------------------------

    def _once(self, case: Case, reproduce: str, found: Found) -> list[Decision]:
        decisions: list[Decision] = []
        try:
            with self._runner.run(Paired, case, reproduce=reproduce) as attempt:
                try:
                    self._compare(case, attempt, decisions)
                except WorkerFailure as failure:
                    if failure.who:
                        told = attempt.undecided(SUITES[case.suite], failure)
                        decisions.append(told)
                    raise
                finally:
                    attempt.note = "; ".join(map(sentence, told_of(decisions)))
        except Ended as ended:
            if not decisions or decisions[-1].verdict != INCONCLUSIVE:
                found.outcomes[case] = ended.outcome
        return decisions

    def _compare(self, case: Case, attempt: Paired, decisions: list[Decision]) -> None:
        what = SUITES[case.suite]
        threshold = self._policy.threshold(case, what)
        if threshold is None:
            raise WorkerFailure("unsupported", f"{what} is not gated here: the policy says so")
        attempt.require_conformance()
        attempt.prepare_reference()
        if what == "memory":
            decisions += attempt.compare_memory(threshold)
            return
        if what == "cold_start":
            decisions.append(attempt.compare_cold_starts(threshold))
            return

        def look(pair: Pair) -> None:
            self._inspect(case, attempt, pair, decisions)

        if what == "latency":
            decisions.append(attempt.compare_latency(threshold, look=look))
        else:
            decisions.append(attempt.compare_steps(threshold, look=look))

    def _inspect(self, case: Case, attempt: Paired, pair: Pair, decisions: list[Decision]) -> None:
        """Decides on what two programs are, before they are timed."""
        if self._policy.threshold(case, "conformance") is not None:
            decisions.append(attempt.compare_verdicts(pair))
        else:
            attempt.agree_in_place(pair[1])  # what is wrong has no speed
        if self._policy.threshold(case, "counts") is not None:
            decisions += attempt.compare_counts(pair)
        else:
            attempt.prove(pair[1])
        size = self._policy.threshold(case, "artifact")
        if size is not None and case.mode == "infer":
            told = attempt.compare_artifacts(pair, size)
            decisions += [told] if told else []

    # -- the second stage ------------------------------------------------------------------------

    def _confirm(self, cases: Mapping[Case, str], found: Found) -> None:
        """Measures again, with fresh pairs, what was flagged: it blocks where that says regressed
        too, and where so much of it all could not be chance (Holm, over what was flagged)."""
        again: dict[str, Decision] = {}
        for case, decisions in found.decisions.items():
            flagged = [d for d in decisions if d.verdict == REGRESSED and d.p is not None]
            for first in flagged:
                again[case.suite + "/" + case.key] = self._again(case, cases[case], first)
        rejected = gate.holm({name: d.p for name, d in again.items() if d.p is not None})
        for case, decisions in found.decisions.items():
            name = case.suite + "/" + case.key
            if name not in again:
                continue
            held = settled(again[name], rejected=name in rejected)
            self._runner.keep(held)
            decisions[:] = [held if d.metric == held.metric else d for d in decisions]

    def _again(self, case: Case, reproduce: str, first: Decision) -> Decision:
        """The decision of the second stage; inconclusive where it could not be made."""
        assert first.ratio is not None
        try:
            own = replace(case, suite=f"{CONFIRM}_{case.suite}")
            with self._runner.run(Paired, own, reproduce=reproduce) as attempt:
                attempt.stage = 2
                if first.metric == "cold_start":
                    found = attempt.compare_cold_starts(first.threshold)
                elif first.metric == "latency":
                    found = attempt.compare_latency(first.threshold, look=lambda pair: None)
                else:
                    found = attempt.compare_steps(first.threshold, look=lambda pair: None)
                attempt.note = sentence(found)
        except Ended as ended:
            found = replace(first, verdict=INCONCLUSIVE, stage=2, reason=ended.outcome.reason)
        was = f"flagged at {first.ratio:.3f} by {len(first.ratios)} pairs"
        return replace(found, case=case, reason=f"{was}; {found.reason}")


def settled(second: Decision, *, rejected: bool) -> Decision:
    """The decision that holds after the second stage."""
    if second.verdict == REGRESSED and not rejected:
        reason = f"{second.reason}; among all that was flagged it may be chance (Holm)"
        return replace(second, verdict=INCONCLUSIVE, reason=reason)
    return second


def told_of(decisions: Sequence[Decision]) -> list[Decision]:
    """What a line about a case says: what is not unchanged, else what was timed."""
    changed = [d for d in decisions if d.verdict != gate.UNCHANGED]
    return changed or list(decisions[-1:])
