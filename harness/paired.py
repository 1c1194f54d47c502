"""One case while its two arms are compared: pairs of live workers, one of base and one of head,
that take turns. How the pairs are read is in `results.gate`; why pairs, in docs/gate.md."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from typing import Any

from harness import clock
from harness.arms import BASE, HEAD, THIS
from harness.attempt import ABBA, BAAB, Attempt
from harness.client import Client, WorkerFailure
from harness.lanes import Tensors, agree, remembered
from harness.pool import Role
from numerics.judge import Judgement
from results import gate
from results.gate import COUNTS, INCONCLUSIVE, LOOKS, RANKS, REGRESSED, UNCHANGED, grown
from results.records import Decision

BLOCK_SECONDS = 0.03  # of single calls, in a round
MEMORY_PAIRS = 3
LEAST_BYTES = 2**20  # of memory, that count as a change
WORST = len(RANKS) - 1  # the place of verdicts on what is wrong
Pair = tuple[Client, Client]  # base, head


class Decided(WorkerFailure):
    """What a decision on verdicts has said already: head diverges."""


class Paired(Attempt):
    """One case while two arms of it are compared. Each method records its decision and returns it;
    each raises WorkerFailure, whose `who` says which arm is to blame. Each request of either arm
    has the case's time limit for itself, so that neither pays for the other's slowness."""

    stage = 1
    arms = (BASE, HEAD)
    judging = True  # whether results are judged; what is wrong has no figure

    def compare_steps(self, threshold: float, *, look: Callable[[Pair], None]) -> Decision:
        """Step times, block by block. `look` is given the first pair before it is timed."""
        return self._in_pairs("step_time", threshold, self._stepped, look)

    def compare_latency(self, threshold: float, *, look: Callable[[Pair], None]) -> Decision:
        """Single synchronised calls, of which each round has a few."""
        return self._in_pairs("latency", threshold, self._called, look)

    def compare_cold_starts(self, threshold: float) -> Decision:
        """Import, build and first call of new processes that find nothing compiled."""

        def ratio(number: int) -> float:
            self._phase("cold start")
            seconds, tensors = {}, {}
            for place in self._shuffled(number):
                role = self._arm("cold", place)
                self._renew()
                client, taken = self._started(role, fresh=True)
                seconds[place] = self._ready(taken)
                if number == 0 and self.judging:
                    tensors[place] = agree(self._pool, client, self.case, deadline=self._deadline)
                self._pool.close(role)
            if tensors:
                self._require_right(tensors)
            return seconds[1] / seconds[0]

        return self._until_decided("cold_start", threshold, ratio)

    def compare_memory(self, threshold: float) -> list[Decision]:
        """Peak memory over steady steps, of the host and, where there is one, of the device."""
        start = clock.now()
        found: tuple[list[Mapping[str, float]], ...] = ([], [])
        for number in range(MEMORY_PAIRS):
            self._phase("memory")
            tensors = {}
            for place in self._shuffled(number):
                taken = remembered(self._pool, self.case, self._arm("remember", place))
                found[place].append(taken.values)
                tensors[place] = taken.tensors
            if number == 0 and self.judging:
                self._require_right(tensors)
        decisions = []
        for metric in ("host_peak_bytes", "device_peak_bytes"):
            base, head = ([v[metric] for v in values if metric in v] for values in found)
            if not base or len(base) != len(head):
                continue
            verdict = gate.by_amount(base, head, threshold, least=LEAST_BYTES)
            ratios = [h / max(b, 1.0) for b, h in zip(base, head, strict=True)]
            told = " to ".join(f"{statistics.median(v) / 2**20:.1f}" for v in (base, head))
            decisions.append(
                self._decision(metric, verdict, threshold=threshold, ratios=tuple(ratios),
                               ratio=statistics.median(ratios), seconds=clock.now() - start,
                               reason=f"{told} MiB")
            )  # fmt: skip
        return decisions

    def undecided(self, metric: str, failure: WorkerFailure) -> Decision:
        """That nothing could be compared, and why."""
        return self._decision(metric, INCONCLUSIVE, reason=failure.reason)

    # -- who is to blame? ------------------------------------------------------------------------

    def blame(self, metric: str, failure: WorkerFailure) -> Decision | None:
        """What a failure means for the gate. Head's is a regression where base, alone, does what
        head does not. Where base cannot either, or is itself the one that failed, or nobody is to
        blame, nothing could be compared. None where neither arm supports the case, or the failure
        says that it is not gated."""
        if failure.who != THIS:
            unwanted = failure.status == "unsupported" and not failure.who
            return None if unwanted else self.undecided(metric, failure)
        told = "support lost" if failure.status == "unsupported" else failure.status
        told = f"{told}: {failure.reason}"
        try:
            self._alone(metric)
        except WorkerFailure as other:
            if failure.status == other.status == "unsupported":
                return None
            return self._decision(metric, INCONCLUSIVE, reason=f"{told}; {other.reason}, too")
        return self._decision(metric, REGRESSED, reason=f"{told}; base is fine")

    def _alone(self, metric: str) -> None:
        """Has base do all that head was asked for. Raises WorkerFailure where it cannot."""
        self._phase("start")
        self._renew()
        if metric == "memory":
            tensors = remembered(self._pool, self.case, self._arm("remember", 0)).tensors
        else:
            role = self._arm("cold" if metric == "cold_start" else "time", 0)
            client, _ = self._started(role, fresh=True)
            self._renew()
            tensors = agree(self._pool, client, self.case, deadline=self._deadline)
            if role.purpose == "time":
                self._renew()
                steps = self.warm_up(client)
                (self._called if metric == "latency" else self._stepped)(client, steps)
            self._pool.close(role)
        if self._rank(tensors) == WORST:
            raise _no_baseline()

    # -- what must not get worse at all ----------------------------------------------------------

    def compare_verdicts(self, pair: Pair, decisions: list[Decision]) -> None:
        """The worst verdict on the tensors of either arm, to which a decision is added. Raises
        WorkerFailure when either diverges: what is wrong has no speed, and is no baseline."""
        before, own, wrong = self._judged_both(pair)
        if wrong is not None and wrong.status == "unsupported":
            raise wrong
        told = f"{RANKS[before][0]} to {RANKS[own][0]}" if before != own else RANKS[own][0]
        verdict = grown(before, own)
        if before == own == WORST:
            verdict, told = INCONCLUSIVE, f"{told}, and so is base"
        decisions.append(self._decision("conformance", verdict, reason=told))
        if wrong is not None and wrong.who == THIS:
            raise Decided(wrong.status, wrong.reason, who=THIS)
        if wrong is not None:
            raise wrong

    def require_verdicts(self, pair: Pair) -> None:
        """Raises WorkerFailure when the tensors of either arm diverge; decides nothing."""
        wrong = self._judged_both(pair)[2]
        if wrong is not None:
            raise wrong

    def _judged_both(self, pair: Pair) -> tuple[int, int, WorkerFailure | None]:
        tensors = {}
        for place in (1, 0):  # head's first, which ends most cases that end here
            self._phase("agree")
            self._renew()
            tensors[place] = agree(self._pool, pair[place], self.case, deadline=self._deadline)
        return self._ranks(tensors)

    def _ranks(self, tensors: Mapping[int, Tensors]) -> tuple[int, int, WorkerFailure | None]:
        """The places in RANKS of base's and head's worst verdicts, and who is wrong. Records the
        judgements of head, whose case this is. Raises WorkerFailure where it cannot be judged."""
        wrong = None
        try:
            self._judge(tensors[1])
        except WorkerFailure as failure:
            wrong = WorkerFailure(failure.status, failure.reason, who=THIS)
            if failure.status not in ("divergent", "unsupported"):
                raise  # the references disagree, say
        before = self._rank(tensors[0])
        if wrong is None and before == WORST:
            wrong = _no_baseline()
        return before, _worst(self.judged), wrong

    def _require_right(self, tensors: Mapping[int, Tensors]) -> None:
        wrong = self._ranks(tensors)[2]
        if wrong is not None:
            raise wrong

    def _rank(self, tensors: Tensors) -> int:
        """The place in RANKS of the worst verdict on tensors that are not recorded."""
        self._phase("agree")
        rows, _ = self._runner.referee.judge(self.case, tensors)
        return _worst(self._runner.referee.explained(self.case, rows).rows)

    def compare_counts(self, pair: Pair) -> list[Decision]:
        """Facts that are counts, and the FLOPs of a step, which must not change at all."""
        self._phase("facts")
        base, head = (client.request("facts", timeout=self._left()) for client in pair)
        self._prove(pair, head)
        decisions = []
        for name in COUNTS:
            before, now = base.get(name), head.get(name)
            if isinstance(before, int) and isinstance(now, int):
                verdict = grown(before, now)
                decisions.append(self._decision(name, verdict, reason=_change(before, now)))
        before, now = (
            client.request("count", timeout=self._left(), batch=self.case.batch)["flops"]
            for client in pair
        )
        verdict = UNCHANGED if before == now else REGRESSED
        reason = _change(before, now) + (", another computation" if before != now else "")
        return [*decisions, self._decision("flops_per_step", verdict, reason=reason)]

    def prove_head(self, pair: Pair) -> None:
        """Records head's effective configuration; raises where it is not what was asked for."""
        self._phase("facts")
        self._prove(pair, pair[1].request("facts", timeout=self._left()))

    def _prove(self, pair: Pair, facts: Mapping[str, Any]) -> None:
        try:
            self._keep({**facts, **pair[1].identity, "base": pair[0].identity})
        except WorkerFailure as failure:
            raise pair[1].failure(failure.status, failure.reason) from None

    def compare_artifacts(self, pair: Pair, threshold: float) -> Decision | None:
        """Sizes of the model as it would be shipped; None where the adapter writes none."""
        sizes = []
        for client in pair:
            folder = self._pool.scratch_file("model")
            folder.mkdir()
            try:
                found = client.request("export", timeout=self._left(), folder=str(folder))
            except WorkerFailure as failure:
                if failure.status != "unsupported":
                    raise
                return None
            sizes.append(found["bytes"])
        before, now = sizes
        verdict = gate.by_amount([before], [now], threshold)
        return self._decision("artifact_bytes", verdict, threshold=threshold, ratio=now / before,
                              reason=_change(before, now))  # fmt: skip

    # -- pairs -----------------------------------------------------------------------------------

    def _in_pairs(
        self,
        metric: str,
        threshold: float,
        timed: Callable[[Client, int], float],
        look: Callable[[Pair], None],
    ) -> Decision:
        def ratio(number: int) -> float:
            base, head = pair = self._live(number)
            if number == 0:
                look(pair)
            steps = 1
            for client in self._in_turn(pair, number):
                self._renew()
                steps = max(steps, self.warm_up(client))
            self._renew()
            order = ABBA if self._chance(number, "order").random() < 0.5 else BAAB
            rounds = self.alternate(head, base, steps, timed=timed, order=order)
            if self.arms[1] == HEAD:
                self.agree_afterwards(head)
            self._measured("slowdown", rounds, steps=steps, flags=self._flags)
            self._process += 1
            return statistics.median(rounds)

        return self._until_decided(metric, threshold, ratio)

    def _until_decided(
        self, metric: str, threshold: float, ratio: Callable[[int], float]
    ) -> Decision:
        """Pairs until they decide; when they confirm, so many as were set."""
        start = clock.now()
        ratios: list[float] = []
        looks: Sequence[int] = LOOKS if self.stage == 1 else (gate.CONFIRMING,)
        verdict = ""
        while not verdict:
            ratios.append(ratio(len(ratios)))
            self._renew()
            verdict = gate.look([math.log(r) for r in ratios], threshold, looks=looks)
        found = gate.effect([math.log(r) for r in ratios])
        for number, arm in ((n, arm) for n in range(2) for arm in self.arms):
            self._pool.close(Role(self.case.adapter, "time", number, self.case.threads, arm))
        reason = f"Hodges-Lehmann {found.hodges_lehmann:.4f}"
        return self._decision(
            metric, verdict, threshold=threshold, ratios=tuple(ratios), ratio=found.ratio,
            low=found.low, high=found.high, p=found.p, seconds=clock.now() - start, reason=reason,
        )  # fmt: skip

    def _live(self, number: int) -> Pair:
        """A fresh pair of workers that have built the case and made their first call, side by side,
        since nothing of that is timed."""
        self._phase("start")
        roles = [
            Role(self.case.adapter, "time", n, self.case.threads, arm)
            for n, arm in enumerate(self.arms)
        ]
        inputs = str(self._pool.inputs(self.case))
        self._flags = self._runner.gpu.flags(self.case, self._pool.pids())

        def made(role: Role) -> Client:
            client = self._pool.client(role, fresh=True)
            spec = self._pool.spec(self.case, role)
            built = client.request("build", timeout=self._left(), spec=spec, inputs=inputs)
            if built["untimed"]:
                raise client.failure("unsupported", built["untimed"])
            client.request("first_call", timeout=self._left())
            return client

        order = self._chance(number, "spawn").sample(roles, 2)
        starting = {role: self._runner.starters.submit(made, role) for role in order}
        wait(starting.values())  # also for the one beside one that failed
        # head's failure first: what head cannot do either is no failure of base
        clients = {role: starting[role].result() for role in reversed(roles)}
        return clients[roles[0]], clients[roles[1]]

    def _stepped(self, client: Client, steps: int) -> float:
        return self.block(client, steps)["seconds"]

    def _called(self, client: Client, steps: int) -> float:
        self._phase("rounds")
        taken = client.request(
            "single", timeout=self._left(), what="latency", seconds=BLOCK_SECONDS
        )
        return statistics.median(taken["seconds"])

    def _shuffled(self, number: int) -> list[int]:
        """The places of the arms in the order in which they start: by chance, but for the first
        pair. What head cannot do either is no failure of base."""
        return [1, 0] if number == 0 else self._chance(number, "spawn").sample((0, 1), 2)

    def _arm(self, purpose: str, place: int) -> Role:
        return Role(self.case.adapter, purpose, place, self.case.threads, self.arms[place])

    def _renew(self) -> None:
        """Gives what comes next the case's whole time limit."""
        self._deadline = clock.now() + self._pool.settings.case_timeout

    def _in_turn(self, pair: Pair, number: int) -> list[Client]:
        return self._chance(number, "warm up").sample(pair, 2)

    def _chance(self, number: int, what: str) -> random.Random:
        """The same for the same case, so that a run can be repeated."""
        return random.Random(f"{self.case.suite}/{self.case.key}/{number}/{what}")

    def _decision(self, metric: str, verdict: str, **more: Any) -> Decision:
        told = self._pool.settings.base.told
        found = Decision(self.case, metric, verdict, told, stage=self.stage, **more)
        self._store.append(found)
        return found


class Canary(Paired):
    """Base against itself: whatever is found there, the machine has made."""

    arms = (BASE, BASE)
    judging = False

    def compare(self, metric: str, threshold: float) -> list[Decision]:
        """Figures of two arms that do not differ, taken when nothing else runs."""
        self.wait_for_quiet()
        if metric == "memory":
            return self.compare_memory(threshold)
        if metric == "cold_start":
            return [self.compare_cold_starts(threshold)]
        timed = self.compare_latency if metric == "latency" else self.compare_steps
        return [timed(threshold, look=lambda pair: None)]


def _no_baseline() -> WorkerFailure:
    return WorkerFailure("divergent", "base: it is divergent, so it is no baseline", who=BASE)


def _worst(rows: Sequence[Judgement]) -> int:
    """The place in RANKS of the worst verdict."""
    return max(filter(None, (gate.rank(row.verdict) for row in rows)), default=0)


def _change(before: float, now: float) -> str:
    return f"{before:,}" if before == now else f"{before:,} to {now:,}"
