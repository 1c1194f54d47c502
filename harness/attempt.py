"""One case while it is measured: its phases, and the records that they make."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters import counting
from adapters import model as models
from harness import clock, conditions, convergence, proof
from harness.client import Client, WorkerFailure
from harness.pool import Role
from harness.trial import Trial
from results.metrics import METRICS
from results.records import Case, Facts

ROUNDS = 16
ABBA, BAAB = (1, -1, -1, 1), (-1, 1, 1, -1)
#: Phases in which the framework's code runs and is measured; the rest is Assay's own time.
MEASURING = ("import", "build", "first call", "warm up", "rounds", "single calls", "memory")

Block = dict[str, Any]  # `harness.timing.Block` as plain data


class Attempt(Trial):
    """One case while it is measured. Its methods are the phases; each raises WorkerFailure."""

    # -- a worker --------------------------------------------------------------------------------

    def start(self, process: int = 0, *, adapter: str = "", fresh: bool | None = None) -> Client:
        """A timing worker that has built the case and made its first call. `process` numbers those
        of one case; `fresh` makes it a new one, by default as the run's isolation says."""
        fresh = self._pool.settings.fresh if fresh is None else fresh
        role = self._role("time", process, adapter)
        return self._started(role, fresh=fresh)[0]

    def workers(self, processes: int) -> Iterator[Client]:
        """The timing workers of a case, one after the other. The first is judged, and asked what
        it really did, before anything is timed."""
        self.require_conformance()
        self.prepare_reference()
        for number in range(processes):
            client = self.start(number)
            if number == 0:
                self.agree_in_place(client)
                self.prove(client)
            yield client

    def start_pair(self, control: str, *, control_first: bool) -> tuple[Client, Client]:
        """Two fresh timing workers: the case, and its native control."""
        order = (control, self.case.adapter) if control_first else (self.case.adapter, control)
        clients = {adapter: self.start(adapter=adapter, fresh=True) for adapter in order}
        return clients[self.case.adapter], clients[control]

    def start_precisions(self, base: str, *, base_first: bool) -> tuple[Client, Client]:
        """Two fresh timing workers of the case's adapter: one that has built the case in precision
        `base`, and one with the case itself."""
        other = dataclasses.replace(self.case, precision=base)
        numbered = [(1, other), (0, self.case)] if base_first else [(0, self.case), (1, other)]
        clients = {
            number: self._started(self._role("time", number), fresh=True, case=case)[0]
            for number, case in numbered
        }
        return clients[1], clients[0]

    def _started(
        self, role: Role, *, fresh: bool, case: Case | None = None
    ) -> tuple[Client, dict[str, Any]]:
        self._phase("start")
        self._flags = self._runner.gpu.flags(self.case, self._pool.pids())
        client = self._pool.client(role, fresh=fresh)
        if client.untouched:
            self.rebook("start", "import", client.hello["import_time"])
        self._phase("build")
        _, built = self._pool.build(case or self.case, role, timeout=self._left())
        if built["untimed"]:
            raise client.failure("unsupported", built["untimed"])
        self._phase("first call")
        first = client.request("first_call", timeout=self._left())
        self._phase("start")
        return client, {**built, **first, "import_time": client.hello["import_time"]}

    def _role(self, purpose: str, number: int = 0, adapter: str = "") -> Role:
        return Role(adapter or self.case.adapter, purpose, number, self.case.threads)

    def warm_up(self, client: Client) -> int:
        """Steps until steady. Returns the number of steps in a block."""
        self._phase("warm up")
        warm = client.request("warm_up", timeout=self._left())
        if not warm["steady"]:
            self._flags += ("not_steady",)
        return warm["steps_per_block"]

    def block(self, client: Client, steps: int) -> Block:
        """One timed block."""
        self._phase("rounds")
        return client.request("block", timeout=self._left(), steps=steps)

    # -- how fast? -------------------------------------------------------------------------------

    def measure(
        self,
        client: Client,
        steps: int,
        *,
        rounds: Callable[[Callable[[], float]], None] | None = None,
    ) -> None:
        """Times ROUNDS blocks and records step time and throughput. `rounds` may drive them: it is
        given a function that times one block and returns the seconds of a step."""
        blocks: list[Block] = []

        def measure_one() -> float:
            blocks.append(self.block(client, steps))
            return blocks[-1]["seconds"] / steps

        self._phase("rounds")
        before = self._compilations(client)
        machine, since = conditions.load(), clock.now()
        gpu = self._runner.gpu.sample(self.case)
        if rounds is None:
            for _ in range(ROUNDS):
                measure_one()
        else:
            rounds(measure_one)
        read = conditions.between(machine, conditions.load(), clock.now() - since)
        self._flags += self._runner.gpu.throttling(self.case, gpu)
        voided = proof.recompiled(before, self._compilations(client))
        if voided:
            self._flags += ("recompiled",)
        self.agree_afterwards(client)
        self.record_rounds(blocks, steps, machine=read)
        self._refuse(voided, client)

    def record_rounds(
        self, blocks: list[Block], steps: int, *, machine: Mapping[str, float] = {}
    ) -> None:
        """Records step time and throughput of one process's rounds."""
        seconds = [block["seconds"] / steps for block in blocks]
        threads = self.case.threads or self._pool.settings.threads
        flags = self._flags + conditions.flags(blocks, steps, threads=threads)
        read = {**machine, **conditions.of(blocks, steps)}
        rates = [self.case.batch / s for s in seconds]
        self._measured("step_time", seconds, steps=steps, flags=flags, conditions=read)
        self._measured("throughput", rates, steps=steps, flags=flags, conditions=read)
        on_device = [block["device_seconds"] for block in blocks]
        if None not in on_device:
            times = [taken / steps for taken in on_device]
            self._measured("device_time", times, steps=steps, flags=flags, conditions=read)
        self._process += 1
        self.step_seconds = statistics.median(seconds)
        self.flags = tuple(dict.fromkeys((*self.flags, *flags)))
        marks = "".join(f" ⚑ {flag}" for flag in flags)
        self.note = f"{self.step_seconds * 1e3:.3g} ms a step{marks}; {self._verdict}"

    def single(self, client: Client, what: str, metric: str) -> None:
        """Records single calls: "dispatch" or "transfer"."""
        seconds, voided = self._single_calls(client, what)
        self._record_calls(client, metric, seconds, voided=voided)

    def latency(self, client: Client) -> None:
        """Records synchronised single calls of one process, once its program was judged on what it
        had not seen."""
        seconds, voided = self._single_calls(client, "latency")
        self.agree_afterwards(client)
        self._record_calls(client, "latency", seconds, voided=voided)
        self._process += 1

    def _single_calls(self, client: Client, what: str) -> tuple[list[float], str]:
        """The seconds of single calls, and what was compiled again meanwhile."""
        self._phase("single calls")
        before = self._compilations(client)
        seconds = client.request("single", timeout=self._left(), what=what)["seconds"]
        return seconds, proof.recompiled(before, self._compilations(client))

    def _record_calls(
        self, client: Client, metric: str, seconds: list[float], *, voided: str
    ) -> None:
        flags = self._flags + (("recompiled",) if voided else ())
        self._measured(metric, seconds, flags=flags)
        self._refuse(voided, client)

    def alternate(
        self,
        first: Client,
        second: Client,
        steps: int,
        *,
        timed: Callable[[Client, int], float] | None = None,
        order: Sequence[int] = ABBA,
    ) -> list[float]:
        """Times two live workers in turns, ABBA. Returns one ratio of step times per round: what
        disturbs the machine disturbs both. `timed` takes a time otherwise than as that of a block.
        Raises WorkerFailure where one compiled meanwhile."""
        timed = timed or (lambda client, steps: self.block(client, steps)["seconds"])
        ratios = []
        before = [self._compilations(client) for client in (first, second)]
        for turn in itertools.islice(itertools.cycle(order), ROUNDS):
            seconds = {c: timed(c, steps) for c in (first, second)[::turn]}
            ratios.append(seconds[first] / seconds[second])
        for client, then in zip((first, second), before, strict=True):
            self._refuse(proof.recompiled(then, self._compilations(client)), client)
        return ratios

    def _compilations(self, client: Client) -> dict[str, Any]:
        return client.request("compilations", timeout=self._left())

    @staticmethod
    def _refuse(voided: str, client: Client) -> None:
        """Raises WorkerFailure, as that worker's, where `proof.recompiled` found something."""
        if voided:
            raise client.failure("failed", f"compiled again while it was timed: {voided}")

    def record_ratio(
        self, values: list[float], steps: int, *, metric: str = "control_ratio"
    ) -> None:
        """Records paired rounds of one pair of processes."""
        self._measured(metric, values, steps=steps, flags=self._flags)
        self._process += 1
        self.note += f" {statistics.median(values):.3f}" + " ⚑" * bool(self._flags)

    def count(self) -> None:
        """Records what follows from the model alone: FLOPs and compulsory bytes of a step."""
        case, process = self.case, self._process
        found = counting.count(
            models.get(case.model),
            case.size,
            batch=case.batch,
            mode=case.mode,
            length=case.length,
            recipe=case.recipe,
            precision=case.precision,
        )
        self._process = 0
        self._measured("flops_per_step", [found.flops])
        self._measured("bytes_per_step", [found.bytes])
        self._process = process

    # -- how long until ready? -------------------------------------------------------------------

    def cold_start(self) -> Client:
        """A new worker without any compile cache: records what its start and first call took."""
        client, seconds = self._started(self._role("cold"), fresh=True)
        for metric in METRICS:
            if metric in seconds:
                self._measured(metric, [seconds[metric]])
        self._process += 1
        self.note = self._verdict = f"ready after {self._ready(seconds):.2f} s"
        return client

    def warm_start(self) -> None:
        """A new worker that finds what an earlier one compiled: records its first call. Does
        nothing where the framework keeps no compiled programs."""
        self._phase("fill cache")
        if not self._runner.referee.lanes.fill(self.case):
            return
        _, seconds = self._started(self._role("warm"), fresh=True)
        process, self._process = self._process, max(0, self._process - 1)
        self._measured("first_call_time_warm_cache", [seconds["first_call_time"]])
        self._process = process
        self._pool.close(self._role("warm"))

    def end(self, purpose: str) -> None:
        """Ends the case's worker for a purpose."""
        self._pool.close(self._role(purpose))

    @staticmethod
    def _ready(seconds: Mapping[str, float]) -> float:
        return sum(seconds[n] for n in ("import_time", "build_time", "first_call_time"))

    # -- how long until it has learnt? -----------------------------------------------------------

    def time_to_target(self, seeds: int) -> None:
        """Trains to the model's goal once per seed, alone, in a new process that finds nothing
        compiled: the first seed includes compiling. The program is judged after that, since judging
        it first would have compiled it. Raises WorkerFailure where the goal is not reached."""
        client = self._untouched()
        before, since = conditions.load(), clock.now()
        gpu = self._runner.gpu.sample(self.case)
        curves, voided = self._curves(client, seeds)
        read = conditions.between(before, conditions.load(), clock.now() - since)
        self._flags += self._runner.gpu.throttling(self.case, gpu)
        self._flags += ("recompiled",) if voided else ()
        inputs = str(self._pool.inputs(self.case))  # the last seed has left others there
        client.request("reload", timeout=self._left(), fault="", inputs=inputs)
        self.agree_in_place(client)
        self.agree_afterwards(client)
        self.prove(client)
        self.end("cold")
        self._record_curves(curves, machine=read)
        self._refuse(voided, client)

    def _curves(self, client: Client, seeds: int) -> tuple[list[convergence.Curve], str]:
        """A curve per seed, and what was compiled again after the first."""
        self._phase("rounds")
        data = convergence.write(self._pool, self.case)
        curves: list[convergence.Curve] = []
        compiled: list[dict[str, Any]] = []
        for seed in range(seeds):
            left = self._left()
            curves.append(
                convergence.curve(self._pool, client, self.case, data, seed=seed, timeout=left)
            )
            compiled.append(self._compilations(client))
        data.unlink()
        return curves, proof.recompiled(compiled[0], compiled[-1])

    def _untouched(self) -> Client:
        """A new worker that has built the case, has called nothing, and finds nothing compiled."""
        self._phase("start")
        self._flags = self._runner.gpu.flags(self.case, self._pool.pids())
        client = self._pool.client(self._role("cold"), fresh=True)
        self._phase("build")
        _, built = self._pool.build(self.case, self._role("cold"), timeout=self._left())
        if built["untimed"]:
            raise WorkerFailure("unsupported", built["untimed"])
        return client

    def _record_curves(
        self, curves: list[convergence.Curve], *, machine: Mapping[str, float]
    ) -> None:
        """Records time and steps of every seed. Raises WorkerFailure unless all reach the goal."""
        goal = models.get(self.case.model).goal
        assert goal is not None
        told = {"score": goal.name, "target": goal.target, "rising": goal.rising, "curves": curves}
        self.tell({"convergence": told})
        steps = [convergence.steps_to_target(self.case.model, curve) for curve in curves]
        if not all(map(math.isfinite, steps)):
            missed = f"{sum(map(math.isinf, steps))} of {len(steps)} seeds"
            reason = f"{goal.name} {goal.target:g} is not reached in {goal.steps} steps"
            raise WorkerFailure("divergent", f"{reason} with {missed}")
        seconds = [curve[-1]["seconds"] for curve in curves]
        self._measured("steps_to_target", steps, flags=self._flags, conditions=machine)
        self._measured("time_to_target", seconds, flags=self._flags, conditions=machine)
        self.flags = tuple(dict.fromkeys(self._flags))
        listed = ", ".join(f"{value:.3g}" for value in seconds)
        marks = "".join(f" ⚑ {flag}" for flag in self.flags)
        self.note = f"{goal.name} {goal.target:g} after {listed} s{marks}; {self._verdict}"

    # -- how much memory? ------------------------------------------------------------------------

    def remember(self, processes: int) -> None:
        """Records memory, measured in fresh processes, and judges the tensors of the first."""
        self._phase("memory")
        for number in range(processes):
            found = self._runner.referee.lanes.memory(self.case, number)
            if number == 0:
                self._keep(found.facts)
                for part, held in found.facts.get("held_bytes", {}).items():
                    self._measured(f"{part}_bytes", [held])
                self._judge(found.tensors)
                self._phase("memory")
            for metric, value in found.values.items():
                self._measured(metric, [value])
            self._process += 1
        self.note = f"{found.values['host_peak_bytes'] / 2**20:.1f} MiB; {self.note}"

    # -- how does it run? ----------------------------------------------------------------------

    def trace(self, client: Client, folder: Path) -> None:
        """Has the framework's profiler trace some steps; the file is kept in `folder`."""
        self._phase("trace")
        scratch = self._pool.scratch_file("profile")
        scratch.mkdir()
        try:
            found = client.request("profile", timeout=self._left(), folder=str(scratch))
        except WorkerFailure as failure:
            if failure.status != "unsupported":
                raise
            self._store.append(Facts(self.case, {"trace": None, "no_trace": failure.reason}))
            return
        path = Path(found["path"])
        name = f"{self.case.suite}-{self.case.key}".replace("/", "-") + "".join(path.suffixes[-2:])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
        self._store.append(Facts(self.case, {"trace": f"{folder.name}/{name}"}))
