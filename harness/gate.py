"""The gate: decides on cases by pairs of base and head, confirms what it flagged, and says what
blocks. Each decision is recorded as it falls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.client import WorkerFailure
from harness.paired import Canary, Decided, Pair, Paired
from harness.runner import Ended, Runner
from results import gate
from results.gate import INCONCLUSIVE, REGRESSED, SUITES, flagged, sentence
from results.policy import Policy
from results.records import Case, Decision

CANARIES = 2
TRIES = 6  # of cases that base may be unable to run, until so many canaries have run
CANARY = ("canary", "canary_again")  # suites of what says whether the machine is reliable
#: What is gated -> its place among canaries: what is timed says most about a machine.
TIMED_FIRST = {"step_time": 0, "latency": 1, "cold_start": 2, "memory": 3}
UNRELIABLE = "the machine is not reliable now"  # what the reason begins with
CONFIRM = "confirm"  # what the suite's name begins with where something is confirmed


@dataclass
class Found:
    """What a gate came to. What holds of it, case by case, is in `results.ruling`.

    decisions   by case: those that hold
    unreliable  why nothing can be decided on this machine now; empty where it can
    note        what a reader should know of how reliable the machine is
    """

    decisions: dict[Case, list[Decision]] = field(default_factory=dict)
    unreliable: str = ""
    note: str = ""


class Gate:
    """Decides on cases."""

    def __init__(self, runner: Runner, policy: Policy) -> None:
        self._runner = runner
        self._policy = policy

    def decide(
        self, cases: Mapping[Case, str], *, known: Mapping[Case, Sequence[Decision]] | None = None
    ) -> Found:
        """Decides on each case, whose value is the command that reproduces it. Those in `known`
        were measured by the run that this one resumes, and are not measured again; neither is what
        was confirmed there (whose suite says so)."""
        known, found = known or {}, Found()
        todo = {case: command for case, command in cases.items() if case not in known}
        unconfirmed = any(
            flagged(d) and _confirming(case) not in known
            for case in cases
            for d in known.get(case, ())
        )
        if todo or unconfirmed:
            found.unreliable = self._unreliable(todo or cases, found)
        for case, reproduce in cases.items():
            if case in known:
                found.decisions[case] = [d for d in known[case] if d.stage == 1]
            elif found.unreliable:
                found.decisions[case] = [self._leave(case, reproduce, found.unreliable)]
            else:
                found.decisions[case] = self._once(case, reproduce)
        if not found.unreliable:
            self._confirm(cases, found, known)
        return found

    # -- is the machine fit for it? --------------------------------------------------------------

    def _unreliable(self, cases: Mapping[Case, str], found: Found) -> str:
        """Compares base with itself; tries once more where that is flagged."""
        changed: list[Decision] = []
        for suite in CANARY:
            decisions = self._canaries(cases, suite, found)
            changed = [d for d in decisions if d.verdict in (REGRESSED, gate.IMPROVED)]
            if not changed:
                return ""
        worst = changed[0]
        return (
            f"base against itself came out as {worst.verdict} ({worst.metric} of {worst.case.key}: "
            f"{worst.ratio:.3f}), twice, so nothing was decided. Try again when it is quiet"
        )

    def _canaries(self, cases: Mapping[Case, str], suite: str, found: Found) -> list[Decision]:
        """Decisions of base against itself, on up to CANARIES cases."""
        decisions: list[Decision] = []
        reasons: list[str] = []
        ran = 0
        for case in _candidates(cases):
            if ran == CANARIES:
                break
            what = SUITES[case.suite]
            threshold = self._policy.threshold(case, what) or gate.THRESHOLD
            own = replace(case, suite=suite)
            try:
                with self._runner.run(Canary, own, reproduce=cases[case]) as attempt:
                    decisions += attempt.compare(what, threshold)
                    attempt.note = "; ".join(map(sentence, decisions[-1:]))
                ran += 1
            except Ended as ended:  # the case itself will say why, too
                reasons.append(f"{own.key}: {ended.outcome.reason}")
        if not ran and reasons:
            found.note = (
                "base could not be compared with itself first, so nothing is known of how reliable "
                f"the machine is: {'; '.join(reasons)}"
            )
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

    def _once(self, case: Case, reproduce: str) -> list[Decision]:
        """The decisions on a case. Empty where it is not gated, which its outcome says."""
        decisions: list[Decision] = []
        with (
            contextlib.suppress(Ended),
            self._runner.run(Paired, case, reproduce=reproduce) as attempt,
        ):
            try:
                self._compare(case, attempt, decisions)
            except WorkerFailure as failure:
                if not isinstance(failure, Decided):
                    blamed = attempt.blame(SUITES[case.suite], failure)
                    decisions += [blamed] if blamed else []
                raise
            finally:
                attempt.note = "; ".join(map(sentence, told_of(decisions)))
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

        timed = attempt.compare_latency if what == "latency" else attempt.compare_steps
        decisions.append(timed(threshold, look=look))

    def _inspect(self, case: Case, attempt: Paired, pair: Pair, decisions: list[Decision]) -> None:
        """Decides on what two programs are, before they are timed."""
        if self._policy.threshold(case, "conformance") is not None:
            attempt.compare_verdicts(pair, decisions)
        else:
            attempt.require_verdicts(pair)  # what is wrong has no speed
        if self._policy.threshold(case, "counts") is not None:
            decisions += attempt.compare_counts(pair)
        else:
            attempt.prove_head(pair)
        size = self._policy.threshold(case, "artifact")
        if size is not None and case.mode == "infer":
            told = attempt.compare_artifacts(pair, size)
            decisions += [told] if told else []

    # -- the second stage ------------------------------------------------------------------------

    def _confirm(
        self, cases: Mapping[Case, str], found: Found, known: Mapping[Case, Sequence[Decision]]
    ) -> None:
        """Measures again, with fresh pairs, what was flagged: it blocks where that says regressed
        too, and where so much of it all could not be chance (Holm, over what was flagged)."""
        again: dict[str, Decision] = {}
        for case, decisions in found.decisions.items():
            for first in filter(flagged, decisions):
                own = _confirming(case)
                second = next((d for d in known.get(own, ()) if d.metric == first.metric), None)
                if second is None:
                    second = self._again(own, cases[case], first)
                again[case.suite + "/" + case.key] = _after(first, second)
        corrected = over_all(again)
        for case, decisions in found.decisions.items():
            name = case.suite + "/" + case.key
            if name not in again:
                continue
            held = corrected[name]
            self._runner.keep(held)
            decisions[:] = [held if d.metric == held.metric else d for d in decisions]

    def _again(self, own: Case, reproduce: str, first: Decision) -> Decision:
        """The decision of the second stage; inconclusive where it could not be made."""
        try:
            with self._runner.run(Paired, own, reproduce=reproduce) as attempt:
                attempt.stage = 2
                attempt.judging = False  # stage 1 has judged
                attempt.wait_for_quiet()
                if first.metric == "cold_start":
                    found = attempt.compare_cold_starts(first.threshold)
                else:
                    latency = first.metric == "latency"
                    timed = attempt.compare_latency if latency else attempt.compare_steps
                    found = timed(first.threshold, look=lambda pair: None)
                attempt.note = sentence(found)
        except Ended as ended:
            found = replace(first, verdict=INCONCLUSIVE, stage=2, reason=ended.outcome.reason)
        return found


def _confirming(case: Case) -> Case:
    """The case under which another one is confirmed."""
    return replace(case, suite=f"{CONFIRM}_{case.suite}")


def _candidates(cases: Iterable[Case]) -> list[Case]:
    """Cases for canaries: what is timed comes first, and of that the first case of each adapter."""
    ordered = sorted(cases, key=lambda case: TIMED_FIRST[SUITES[case.suite]])
    first = {case.adapter: case for case in reversed(ordered)}
    chosen = {case.key: case for case in reversed((*reversed(first.values()), *ordered))}
    return list(reversed(chosen.values()))[:TRIES]


def _after(first: Decision, second: Decision) -> Decision:
    """The second decision, as one on the case of the first."""
    assert first.ratio is not None
    was = f"flagged at {first.ratio:.3f} by {len(first.ratios)} pairs"
    return replace(second, case=first.case, reason=f"{was}; {second.reason}")


def over_all(seconds: Mapping[str, Decision]) -> dict[str, Decision]:
    """The decisions that hold of those of the second stage, by name (Holm, over all of them)."""
    rejected = gate.holm({name: d.p for name, d in seconds.items() if d.p is not None})
    return {name: settled(d, rejected=name in rejected) for name, d in seconds.items()}


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
