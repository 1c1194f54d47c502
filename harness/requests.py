"""What a worker can be asked: one adapter, at most one program, and one method per request."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from adapters import counting, faults, ops, trees
from adapters import model as models
from adapters.base import Adapter, Network, Noise, Setting, Spec, State, Unsupported, require
from adapters.exercise import Call
from adapters.noise import NoisyOps
from adapters.numpy_reference import NumpyOps
from adapters.quantization import SEEN, encode
from harness import clock, exercising, memory, process, timing, turns
from harness.errors import explained
from harness.protocol import VERSION, load_tensors, part, save_tensors
from numerics import floor, reference
from numerics.sketch import sketched

FIRST_LOSSES = 3  # steps of a training to a goal whose losses are judged

SKETCHED = "full"  # the size whose gradients and updates are compared through sketches
STEADY_MEMORY_STEPS = 5
PROFILED_STEPS = 5


class Watch:
    """The `adapters.base.Stopwatch` of a first step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = clock.now()
        yield
        self.note(part, clock.now() - start)

    def note(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds


class Requests:
    """Every public method is a request; its arguments and its result are plain data."""

    def __init__(self, module: str) -> None:
        start = clock.now()
        self.adapter = importlib.import_module(module).Adapter()
        self._import_time = clock.now() - start
        self._program: Any = None
        self._params: dict[str, np.ndarray] = {}
        self._buffers: dict[str, np.ndarray] = {}
        self._host_batch: dict[str, np.ndarray] = {}
        self._calibration: list[dict[str, np.ndarray]] = []

    def hello(self) -> dict[str, Any]:
        """Who is there."""
        return {
            "protocol": VERSION,
            "framework": self.adapter.framework,
            "execution": self.adapter.execution,
            "versions": {**self.adapter.versions(), "numpy": np.__version__},
            "python": sys.version.split()[0],
            "executable": sys.executable,
            "compile_cache": self.adapter.compile_cache,
            "disturbs_storage": self.adapter.disturbs_storage,
            "import_time": self._import_time,
        }

    def libraries(self) -> dict[str, str]:
        """What the framework was built with. To ask may start its devices, so hello does not."""
        return self.adapter.libraries()

    def contract(self) -> dict[str, Any]:
        """What the adapter lacks of the vocabulary."""
        implementation = self.adapter.ops
        return {"missing": ops.missing(implementation), "misshapen": ops.misshapen(implementation)}

    def exercise(
        self,
        *,
        setting: dict[str, Any],
        calls: dict[str, Any],
        by: dict[str, list[str]],
        noises: list[dict[str, Any] | None],
        inputs: str,
        out: str,
        fault: str = "",
    ) -> dict[str, Any]:
        """Runs calls (`harness.exercising.run`), once for each of `noises`, whose number comes
        before the names of the results in `out`."""
        tensors: dict[str, np.ndarray] = {}
        failed: dict[str, dict[str, str]] = {}
        for number, noise in enumerate(noises):
            found, without = exercising.run(
                self.adapter,
                {key: Call(**call) for key, call in calls.items()},
                by,
                Setting(**setting, noise=Noise(**noise) if noise else None),
                load_tensors(Path(inputs)),
                explain=self._explained,
                fault=fault,
            )
            tensors |= {f"{number}:{name}": value for name, value in found.items()}
            failed |= without
        save_tensors(Path(out), tensors)
        return {"failed": failed}

    def _explained(self, error: Exception) -> dict[str, str]:
        why = explained(error, self.adapter)
        if why["status"] != "unsupported":  # of which there are thousands, and nothing is wrong
            traceback.print_exception(error)
        return why

    def in_turn(
        self, *, setting: dict[str, Any], calls: dict[str, Any], inputs: str, out: str
    ) -> dict[str, Any]:
        """Runs one function on the inputs of several calls (`harness.exercising.run_in_turn`)."""
        found, counts = exercising.run_in_turn(
            self.adapter,
            {key: Call(**call) for key, call in calls.items()},
            Setting(**setting),
            load_tensors(Path(inputs)),
        )
        save_tensors(Path(out), found)
        return {"counts": counts}

    def default(self, *, trap: int, inputs: str, out: str) -> dict[str, Any]:
        """The framework's own default in a trap (`Adapter.default`): its result in `out`, and what
        was `told` of it. Or the `problem`: why there is none, or what was raised. `shared` is
        whether it is another adapter's."""
        kind = type(self.adapter)
        if kind.default is not Adapter.default and "default" not in vars(kind):
            return {"shared": True}
        try:
            value, told = self.adapter.default(trap, load_tensors(Path(inputs)))
        except Unsupported as error:
            return {"shared": False, "problem": str(error)}
        except Exception as error:
            return {"shared": False, "problem": f"raises {type(error).__name__}: {error}"[:300]}
        save_tensors(Path(out), {"default": np.asarray(value)})
        return {"shared": False, "told": told}

    # -- one program -------------------------------------------------------------------------

    def build(self, *, spec: dict[str, Any], inputs: str) -> dict[str, Any]:
        """Makes a program; replaces the one before."""
        self._prepare(spec, inputs)
        return self._build()

    def _prepare(self, spec: dict[str, Any], inputs: str) -> None:
        """Does what neither the time nor the memory of a program includes: reads the tensors that
        it is made of, and has the adapter import what only such programs need."""
        timing.thaw()
        self._program = self._batch = None  # frees the one before first
        noise = spec.pop("noise")
        self._spec = Spec(**spec, noise=Noise(**noise) if noise else None)
        own = self.adapter.precisions
        require(self._spec.precision in own, f"this adapter runs {', '.join(own)}")
        self._read(inputs)
        self.adapter.prepare(self._spec.precision)

    def _build(self) -> dict[str, Any]:
        """Makes a program of what was read."""
        state = self._state()
        start = clock.now()
        self._program = faults.in_program(self.adapter.build(self._spec, *state), self._spec.fault)
        self._calibrate()
        seconds = clock.now() - start
        self._batch = self._program.put(self._host_batch)
        return {"build_time": seconds, "untimed": self._program.untimed}

    def forget(self) -> dict[str, Any]:
        """Gives the program's memory back."""
        self._program = self._batch = None
        self._params, self._buffers, self._host_batch = {}, {}, {}
        gc.collect()
        return {}

    def reload(self, *, fault: str, inputs: str) -> dict[str, Any]:
        """Gives the live program other parameters and another batch, perhaps with a fault in them:
        nothing is compiled again."""
        planted = faults.find(fault)
        if planted is not None and planted.where not in ("weights", "data"):
            raise ValueError(f"{fault} is a fault of the program, which has to be built with it")
        self._spec = dataclasses.replace(self._spec, fault=fault)
        self._read(inputs)
        self._batch = self._program.put(self._host_batch)
        return {}

    def _calibrate(self) -> None:
        scheme = self._spec.numbers.scheme
        if scheme is not None and scheme.calibration:
            self._program.calibrate(self._calibration)

    def _read(self, inputs: str) -> None:
        """Reads the tensors of a program. Its batch has the planted fault, if there is one; the
        parameters are as they should be."""
        self._inputs = Path(inputs)
        tensors = load_tensors(self._inputs, parts=("parameter", "buffer", "batch", "calibration"))
        self._params = part(tensors, "parameter")
        self._buffers = part(tensors, "buffer")
        batch = part(tensors, "batch")
        numbers = sorted({n.split(":")[1] for n in tensors if n.startswith("calibration:")})
        self._calibration = [part(tensors, f"calibration:{number}") for number in numbers]
        self._host_batch = faults.in_batch(batch, self._spec.fault, self._spec.dtype)
        if batch:
            models.give(models.get(self._spec.model), self._spec.size, self._spec.length, batch)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters and buffers as the program gets them."""
        fault = self._spec.fault
        return faults.in_weights(self._params, fault), faults.in_weights(self._buffers, fault)

    def first_call(self) -> dict[str, Any]:
        """The first step, with whatever the framework does on it; in seconds."""
        watch = Watch()
        start = clock.now()
        self._program.wait(self._program.first_step(self._batch, watch))
        seconds = clock.now() - start
        parts = {f"{part}_time": taken for part, taken in watch.seconds.items()}
        return {"first_call_time": seconds, **parts}

    def agree(self, *, steps: list[int], out: str, unseen: bool = True) -> dict[str, Any]:
        """Writes the tensors to be judged to `out`, from the initial state on, of several batches
        in turn (`harness.turns`). Without `unseen`, the program sees one of them later."""
        batches = self._batches(reference.TURNS)
        if self._spec.numbers.scheme is None or self._spec.trains:
            self._program.load(*self._state())  # what is quantized was so when it was built
        if self._spec.trains:
            tensors = self._training_tensors(steps, list(batches.values()))
        else:
            named = {reference.output_of(name): batch for name, batch in batches.items()}
            tensors = turns.infer(self._program, named, repeat=self._spec.noise is None)
        if unseen:
            tensors |= self._of_unseen()
        self._batch = self._program.put(self._host_batch)  # the last one was overwritten
        if self._spec.numbers.scheme is not None and not self._spec.trains:
            tensors |= encode(self._program.layers(self._batch))
            if (seen := self._program.seen_output()) is not None:
                tensors |= trees.named(seen, SEEN)
        save_tensors(Path(out), tensors)
        return {}

    def unseen(self, *, out: str) -> dict[str, Any]:
        """Writes what the program makes of a batch that it has not seen; in training, from the
        initial state on."""
        save_tensors(Path(out), self._of_unseen())
        self._batch = self._program.put(self._host_batch)
        return {}

    def _of_unseen(self) -> dict[str, np.ndarray]:
        unseen = self._batches((reference.UNSEEN,))
        if not self._spec.trains:
            named = {reference.output_of(name): batch for name, batch in unseen.items()}
            return turns.infer(self._program, named, repeat=False)
        self._program.load(*self._state())
        twice = [batch for batch in unseen.values() for _ in range(2)]  # one step learns from it
        losses = [self._trained_on(batch) for batch in twice]
        return {f"{reference.UNSEEN}:loss@{i}": loss for i, loss in enumerate(losses, 1)}

    def _batches(self, names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """Those batches of the inputs, by name, with the planted fault if it is one of data."""
        found = reference.batches(load_tensors(self._inputs, parts=names))
        spec = self._spec
        return {n: faults.in_batch(batch, spec.fault, spec.dtype) for n, batch in found.items()}

    def _trained_on(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """The loss of one step."""
        with turns.guest(self._program, batch) as there, memory.filled(turns.FILLS[0]):
            return np.array(self._program.fetch(self._program.step(there.placed)))

    def _gradients(self, placed: Any) -> dict[str, np.ndarray]:
        found = self._program.gradients(placed)
        shown = sketched if self._spec.size == SKETCHED else _whole
        return {
            **trees.named(found.output, "output"),
            "loss": found.loss,
            **{f"gradient:{name}": shown(name, g) for name, g in found.gradients.items()},
        }

    def _training_tensors(
        self, steps: list[int], batches: list[dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        shown = sketched if self._spec.size == SKETCHED else _whole
        with turns.guest(self._program, batches[0]) as there:
            tensors = turns.twice(
                lambda: self._gradients(there.placed), repeat=self._spec.noise is None
            )
        for number in range(1, max(steps) + 1):
            loss = self._trained_on(batches[(number - 1) % len(batches)])
            if number not in steps:
                continue
            state = self._program.state()
            tensors[f"loss@{number}"] = loss
            # what is judged is the change: beside the parameter it would drown
            for quantity, values in (("update", state.params), ("average", state.averages)):
                tensors |= {
                    f"{quantity}@{number}:{name}": shown(name, value - self._start(name))
                    for name, value in values.items()
                    if self._spec.training.trains(name) or self._moved(name, value)
                }
            tensors |= {f"buffer@{number}:{name}": v for name, v in state.buffers.items()}
        return tensors

    def _moved(self, name: str, value: np.ndarray) -> bool:
        """False. Raises RuntimeError where a frozen parameter is no longer what it was."""
        if not np.array_equal(value, self._start(name)):
            raise RuntimeError(f"{name} is frozen by the recipe, but training changed it")
        return False

    def _start(self, name: str) -> np.ndarray:
        """A parameter as it was before the first step."""
        return trees.in_dtype(self._params[name], self._spec.dtype)

    def scaling(self, *, steps: int) -> dict[str, Any]:
        """Loss scaling, step by step from the initial state on: `scale` and `good` after each step,
        and whether it moved parameters; `finite`: whether the last ones are."""
        self._program.load(*self._state())
        before = self._program.state()
        told: dict[str, list[Any]] = {"scale": [], "good": [], "moved": []}
        for _ in range(steps):
            self._program.wait(self._program.step(self._batch))
            after = self._program.state()
            if not after.scaling:
                raise Unsupported("this adapter does not scale its loss")
            changed = (not np.array_equal(v, before.params[n]) for n, v in after.params.items())
            told["moved"].append(any(changed))
            told["scale"].append(float(after.scaling["scale"]))
            told["good"].append(int(after.scaling["good"]))
            before = after
        finite = all(bool(np.isfinite(v).all()) for v in before.params.values())
        return {**told, "finite": finite, "steps": before.steps}

    def loaded(self, *, out: str) -> dict[str, Any]:
        """Writes the state to `out` as the program has it once it was given one."""
        self._program.load(self._params, self._buffers)
        state = self._program.state()
        tensors = {f"parameter:{name}": value for name, value in state.params.items()}
        save_tensors(
            Path(out), tensors | {f"buffer:{name}": v for name, v in state.buffers.items()}
        )
        return {}

    def depart(self, *, steps: int, file: str, end: str, folder: str) -> dict[str, Any]:
        """Trains for some steps from the initial state, writes the state to `file`, brings it back
        from the framework's own format in `folder`, trains on for as many steps, and writes that
        state to `end`. `lost` are the names of what the own format did not bring back."""
        self._program.load(*self._state())
        self._train(steps)
        left = self._program.state().flat()
        save_file(left, file)
        self._program.save(Path(folder))
        self._train(steps)
        final = self._program.state().flat()
        self._program.restore(Path(folder))
        back = self._program.state().flat()
        save_tensors(Path(end), final)
        names = sorted({*left, *back})
        return {"lost": [n for n in names if not _same(left.get(n), back.get(n))]}

    def arrive(self, *, steps: int, file: str, found: str, end: str) -> dict[str, Any]:
        """Takes over the state in `file`. In training, writes what arrived to `found`, trains on
        and writes the state after that to `end`; else writes the output to `found`."""
        state = State.of(load_file(file))
        if not self._spec.trains:
            self._program.load(state.params, state.buffers)
            output = self._program.fetch(self._program.step(self._batch))
            save_tensors(Path(found), trees.named(output, "output"))
            return {}
        self._program.load(*self._state())  # something else, which must not stay
        self._program.resume(state)
        save_tensors(Path(found), self._program.state().flat())
        self._train(steps)
        save_tensors(Path(end), self._program.state().flat())
        return {}

    def _train(self, steps: int) -> None:
        for _ in range(steps):
            self._program.wait(self._program.step(self._batch))

    def converge(self, *, data: str, inputs: str, seed: int, to_the_end: bool) -> dict[str, Any]:
        """Trains from the parameters in `inputs` on the examples in `data` until the model's goal
        is reached, or for as many steps as it allows.

        `curve` has an entry per evaluation: the `step`, the training `loss` of that step, the
        `score` on the held-out examples, and the `seconds` of training until then: bringing
        batches to the device and steps, compiling included. The same seed gives the same order of
        examples in every adapter. NumPy evaluates, so that all are measured with one rule.

        The first entry has also what the first steps give, once more from the start: `loss@n`;
        `numpy@n`, the loss of the same examples in float64 from the state before that step; and
        `floor@n`, its noise floor, relative."""
        model = models.get(self._spec.model)
        goal, config = model.goal, model.config(self._spec.size)
        if goal is None:
            raise Unsupported(f"{self._spec.model} has no goal")
        self._read(inputs)
        self._program.load(*self._state())
        tensors = load_tensors(Path(data))
        training, held = part(tensors, "training"), part(tensors, "held")
        network = Network(NumpyOps(), model, config, "infer")
        order = _order(len(next(iter(training.values()))), goal.batch, goal.steps, seed)
        curve: list[dict[str, float]] = []
        seconds = 0.0
        for end in range(goal.every, goal.steps + 1, goal.every):
            start = clock.now()
            for chosen in order[end - goal.every : end]:
                batch = self._program.put({n: v[chosen] for n, v in training.items()})
                loss = self._program.step(batch)
            self._program.wait(loss)
            seconds += clock.now() - start
            state = self._program.state()
            output, _ = network.forward({**state.params, **state.buffers}, trees.part(held, "x"))
            score = goal.score(output, trees.part(held, "y"))
            last = float(self._program.fetch(loss))
            curve.append({"step": end, "loss": last, "score": score, "seconds": seconds})
            if goal.reached(score) and not to_the_end:
                break
        curve[0] |= self._first_losses(training, order[:FIRST_LOSSES])
        return {"curve": curve}

    def _first_losses(self, training: dict[str, np.ndarray], order: np.ndarray) -> dict[str, float]:
        """What the first steps of a training give, and what NumPy makes of the same."""
        spec, found = self._spec, {}
        model = models.get(spec.model)
        config = model.config(spec.size)
        self._program.load(*self._state())
        for number, chosen in enumerate(order, 1):
            examples = {name: value[chosen] for name, value in training.items()}
            state = self._program.state()
            tensors = {
                n: v.astype(np.float64) for n, v in {**state.params, **state.buffers}.items()
            }
            x, y = (trees.part(examples, name) for name in "xy")

            def loss(ops: Any, tensors: Any = tensors, x: Any = x, y: Any = y) -> float:
                return float(Network(ops, model, config, "train").loss(tensors, x, y)[0])

            wanted = loss(NumpyOps())
            noisy = [loss(NoisyOps(NumpyOps(), n)) for n in floor.noises(spec.precision)]
            told = self._program.step(self._program.put(examples))
            found[f"loss@{number}"] = float(self._program.fetch(told))
            found[f"numpy@{number}"] = wanted
            errors = np.array(noisy) / wanted - 1
            found[f"floor@{number}"] = float(np.sqrt(np.mean(errors**2)))
        return found

    def fit(self, *, data: str, seed: int, steps: int, out: str) -> dict[str, Any]:
        """Trains for some steps on the examples in `data`, in the order of `converge`, and writes
        parameters and buffers to `out`, named as in the inputs of a program."""
        goal = models.get(self._spec.model).goal
        if goal is None:
            raise Unsupported(f"{self._spec.model} has no goal")
        training = part(load_tensors(Path(data)), "training")
        order = _order(len(next(iter(training.values()))), goal.batch, steps, seed)
        loss = None
        for chosen in order:
            batch = self._program.put({name: value[chosen] for name, value in training.items()})
            loss = self._program.step(batch)
        self._program.wait(loss)
        state = self._program.state()
        found = {f"parameter:{name}": value for name, value in state.params.items()}
        found |= {f"buffer:{name}": value for name, value in state.buffers.items()}
        save_tensors(Path(out), found)
        return {}

    def evaluate(self, *, data: str, out: str) -> dict[str, Any]:
        """Writes the output of the program for all examples in `data`, whole batches of them."""
        held, n = load_tensors(Path(data)), len(next(iter(self._host_batch.values())))
        parts: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(next(iter(held.values()))), n):
            batch = self._program.put({k: v[start : start + n] for k, v in held.items()})
            output = self._program.fetch(self._program.step(batch))
            for name, value in trees.named(output, "output").items():
                parts.setdefault(name, []).append(value)
        save_tensors(Path(out), {name: np.concatenate(values) for name, values in parts.items()})
        return {}

    def export(self, *, folder: str) -> dict[str, Any]:
        """Has the program write its model to `folder`, and returns the size of that in bytes."""
        self._program.export(Path(folder))
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        if not files:
            raise RuntimeError("the adapter said that it wrote its model, but there is no file")
        return {"bytes": sum(path.stat().st_size for path in files)}

    def facts(self) -> dict[str, Any]:
        """The effective configuration, read back from the framework and from the process."""
        return {**self._program.facts(), "libraries": self.adapter.libraries(), **process.facts()}

    def compilations(self) -> dict[str, Any]:
        """How often the program was traced or compiled so far, and how often it gave up."""
        facts = self._program.facts()
        return {name: facts.get(name) for name in ("compilations", "graph_breaks")}

    # -- time --------------------------------------------------------------------------------

    def warm_up(self) -> dict[str, Any]:
        """Steps until steady."""
        return dataclasses.asdict(timing.warm_up(self._step))

    def block(self, *, steps: int) -> dict[str, Any]:
        """Times one block."""
        program, batch = self._program, self._batch
        on_device = program.device_seconds if self._spec.device != "cpu" else timing.untold
        taken = timing.block(lambda: program.step(batch), program.wait, steps, on_device)
        return dataclasses.asdict(taken)

    def single(self, *, what: str, seconds: float = timing.LATENCY_SECONDS) -> dict[str, Any]:
        """Seconds of single calls: "latency", for `seconds`, "dispatch" or "transfer"."""
        program, batch = self._program, self._batch
        if what == "latency":
            return {"seconds": timing.latencies(self._step, seconds=seconds)}
        if what == "dispatch":
            return {"seconds": timing.dispatches(lambda: program.step(batch), program.wait)}
        # what is brought over already has the program's dtype: converting is no transfer
        host = {n: trees.in_dtype(v, self._spec.dtype) for n, v in self._host_batch.items()}
        return {"seconds": timing.transfers(lambda: program.put(host), program.wait)}

    def probe(self, *, limit: str, device: str, threads: int) -> dict[str, Any]:
        """The largest rate at which the adapter reaches a limit of the machine, per second."""
        probe = self.adapter.probe(limit, device, threads)
        return {"rate": timing.rate(probe.step, probe.wait, probe.work)}

    def count(self, *, batch: int) -> dict[str, Any]:
        """FLOPs of a step, as this copy of Assay counts them."""
        spec = self._spec
        found = counting.count(
            models.get(spec.model), spec.size, batch=batch, mode=spec.mode, length=spec.length,
            recipe=spec.recipe, precision=spec.precision,
        )  # fmt: skip
        return {"flops": found.flops}

    def profile(self, *, folder: str) -> dict[str, Any]:
        """Traces some steps with the framework's own profiler. Never while anything is timed."""
        return {"path": str(self._program.profile(self._batch, PROFILED_STEPS, Path(folder)))}

    # -- memory ------------------------------------------------------------------------------

    def remember(self, *, spec: dict[str, Any], inputs: str) -> dict[str, Any]:
        """Measures memory of build, first call and steady steps in this process: of the host above
        what was resident before the build, of the device as its allocator counts. Raises
        Unsupported where the system does not count as it should.

        Assay's own float64 copies of the inputs are there before, stay, and so are in no figure,
        whether an adapter keeps them or not. In the figures is what an adapter makes of them."""
        memory.require()
        self._prepare(spec, inputs)
        before = memory.resident()
        memory.reset_peak()
        self._build()
        self._step()
        compile_peak = memory.peak() - before
        device = self.adapter.device_memory()
        for _ in range(STEADY_MEMORY_STEPS):
            self._step()
        held = memory.resident()
        memory.reset_peak()
        resettable = self.adapter.reset_device_memory()
        for _ in range(STEADY_MEMORY_STEPS):
            self._step()
        peak = memory.peak()
        found = {
            "compile_peak_bytes": compile_peak,
            "host_peak_bytes": peak - before,
            "step_peak_bytes": peak - held,
        }
        if device is not None:
            steady = self.adapter.device_memory()
            found["device_peak_bytes"] = steady["peak"]
            if "reserved" in steady:
                found["device_reserved_bytes"] = steady["reserved"]
            if resettable:
                found["device_compile_peak_bytes"] = device["peak"]
        return found

    def _step(self) -> None:
        self._program.wait(self._program.step(self._batch))


def _whole(name: str, x: np.ndarray) -> np.ndarray:
    return x


def _order(examples: int, batch: int, steps: int, seed: int) -> np.ndarray:
    """Which examples each step sees, (steps, batch): all of them in a random order, again and
    again, in whole batches."""
    rng = np.random.default_rng(seed)
    whole = examples // batch
    epochs = -(-steps // whole)
    shuffled = [rng.permutation(examples)[: whole * batch] for _ in range(epochs)]
    return np.concatenate(shuffled).reshape(-1, batch)[:steps]


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two arrays are equal in every bit."""
    if a is None or b is None or (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    return a.tobytes() == b.tobytes()
