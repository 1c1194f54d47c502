"""How good a quantized program is: on parameters that were trained, and on examples that nobody has
seen. What is quantized for real use is a trained model; one with random weights has neither the
ranges nor the margins of such."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters import model as models
from adapters import trees
from adapters.model import Goal
from adapters.precisions import PRECISIONS
from harness import clock, convergence, proof
from harness.client import Client, WorkerFailure
from harness.memo import digest
from harness.pool import CALIBRATION, Pool, Role
from harness.protocol import load_tensors, save_tensors
from numerics import quantization
from numerics.errors import normwise
from numerics.judge import Judgement
from numerics.quantization import Subject
from results.records import Case

if TYPE_CHECKING:
    from harness.referee import Referee

Tensors = dict[str, np.ndarray]
HELD_OUT = 256  # examples that quality is measured on, at most: whole batches of the model's
TUNING = 200  # steps of training with quantization, from the trained parameters on
TUNED_BY = "adamw_tuning"  # a recipe that moves good parameters a little


@dataclass
class Found:
    """What assessing a case came to: judgements, metrics by name, and facts."""

    rows: list[Judgement]
    facts: dict[str, Any]
    values: dict[str, float] = field(default_factory=dict)


class Assessor:
    """Assesses one case, in a worker that judges."""

    def __init__(self, pool: Pool, referee: Referee, case: Case) -> None:
        self.pool, self.referee, self.case = pool, referee, case
        self._deadline = 0.0  # a reading of the clock

    def assess(self) -> Found:
        """Raises WorkerFailure."""
        goal = models.get(self.case.model).goal
        if goal is None:
            raise WorkerFailure("unsupported", f"{self.case.model} has no goal to be trained for")
        training, held = self._examples(goal)
        self._begin()
        params = self._trained(goal)
        self._begin()  # what all adapters are given is not this one's time
        with self.referee.lanes.worker(self.case.adapter) as client:
            if not (self._scheme and self._scheme.trained):
                return self._assessed(client, goal, self._inputs(params, training, held), held)
            tuned = self._tuned(client, goal, params)
            found = self._assessed(client, goal, self._inputs(tuned, training, held), held)
        # what tuning is worth is seen beside the model as it was before
        before = self._reference(subject(self.case, params, {}), held)
        exact = goal.score(trees.unnamed(before, "output"), trees.part(held, "y"))
        found.values["score_lost"] = _lost(goal, exact, found.values["score"])
        found.facts["quality"]["score_before"] = exact
        return found

    def _assessed(self, client: Client, goal: Goal, inputs: Path, held: Tensors) -> Found:
        case, role = self.case, Role(self.case.adapter, "judge")
        spec = self.pool.spec(case, role)
        client.request("build", timeout=self._left(), spec=spec, inputs=str(inputs))
        tensors = self._written(client, "agree", steps=[1])
        data = self.pool.scratch_file("held.npz")
        save_tensors(data, held)
        outputs = self._written(client, "evaluate", data=str(data))
        folder = self.pool.scratch_file("model")
        folder.mkdir()
        try:
            size = client.request("export", timeout=self._left(), folder=str(folder))["bytes"]
        except WorkerFailure as failure:
            if failure.status != "unsupported":
                raise
            size = None
        facts = client.request("facts", timeout=self._left())
        proof.require(case, facts, threads=self.pool.threads(role))
        subject = self._subject(load_tensors(inputs), tensors)
        wanted = self._reference(subject, held)
        found = Found(self._judged(subject), {**facts, **client.identity})
        found.values = self._values(goal, outputs, wanted, held)
        if size is not None:
            found.values["artifact_bytes"] = size
        found.facts["quality"] = self._told(goal, subject, held)
        for path in (inputs, data):
            path.unlink()
        return found

    # -- examples and parameters -----------------------------------------------------------------

    @property
    def _scheme(self) -> Any:
        return PRECISIONS[self.case.precision].scheme

    def _begin(self) -> None:
        self._deadline = clock.now() + self.pool.settings.case_timeout

    def _left(self) -> float:
        return max(0.001, self._deadline - clock.now())

    def _examples(self, goal: Goal) -> tuple[Tensors, Tensors]:
        """(training examples, held-out examples in whole batches)."""
        training, held = goal.data(models.get(self.case.model).config(self.case.size))
        examples = min(HELD_OUT, len(next(iter(held.values()))))
        whole = examples // self.case.batch * self.case.batch
        return dict(training), {name: value[:whole] for name, value in held.items()}

    def _trained(self, goal: Goal) -> Tensors:
        """Parameters and buffers after training in float32, `parameter:NAME` and `buffer:NAME`: the
        same for all adapters, made by the first of the oracle's that is installed."""
        failure: WorkerFailure | None = None
        for adapter in self.referee.members():
            try:
                return self._trained_by(adapter, goal)
            except WorkerFailure as failed:
                if failed.status != "unsupported":
                    raise
                failure = failed
        raise failure or WorkerFailure("unsupported", "no adapter can train the model")

    def _trained_by(self, adapter: str, goal: Goal) -> Tensors:
        case = dataclasses.replace(
            self.case, suite="conformance", mode="train", adapter=adapter, precision="fp32",
            device="cpu", recipe=goal.recipe, batch=goal.batch, threads=0,
        )  # fmt: skip
        start, data = self.pool.inputs(case), convergence.write(self.pool, case)
        question = {"trained": dataclasses.asdict(case), "steps": goal.steps,
                    "inputs": digest(start), "data": digest(data)}  # fmt: skip

        def fit() -> Tensors:
            with self.referee.lanes.worker(adapter) as client:
                return self._fit(client, case, start, data, goal.steps)

        try:
            return dict(self.pool.settings.memo.get(question, fit))
        finally:
            data.unlink()

    def _tuned(self, client: Client, goal: Goal, params: Tensors) -> Tensors:
        """Parameters after training with quantization, in the case's own adapter."""
        case = dataclasses.replace(
            self.case, suite="conformance", mode="train", recipe=TUNED_BY, batch=goal.batch
        )
        start, data = self.pool.scratch_file("start.npz"), convergence.write(self.pool, case)
        batch = {n: v for n, v in load_tensors(self.pool.inputs(case)).items() if "batch:" in n}
        save_tensors(start, {**params, **batch})
        try:
            return self._fit(client, case, start, data, TUNING)
        finally:
            start.unlink()
            data.unlink()

    def _fit(self, client: Client, case: Case, start: Path, data: Path, steps: int) -> Tensors:
        spec = self.pool.spec(case, Role(case.adapter, "judge"))
        client.request("build", timeout=self._left(), spec=spec, inputs=str(start))
        return self._written(client, "fit", data=str(data), seed=0, steps=steps)

    def _written(self, client: Client, request: str, **arguments: Any) -> Tensors:
        """The tensors that a request writes."""
        out = self.pool.scratch_file("tensors.npz")
        client.request(request, timeout=self._left(), out=str(out), **arguments)
        tensors = load_tensors(out)
        out.unlink()
        return dict(tensors)

    def _inputs(self, params: Tensors, training: Tensors, held: Tensors) -> Path:
        n = self.case.batch
        tensors = {**params, **{f"batch:{name}": value[:n] for name, value in held.items()}}
        if self._scheme and self._scheme.calibration:
            for i in range(CALIBRATION):
                part = {k: v[i * n : (i + 1) * n] for k, v in training.items()}
                tensors |= {f"calibration:{i}:{name}": value for name, value in part.items()}
        path = self.pool.scratch_file("inputs.npz")
        save_tensors(path, tensors)
        return path

    # -- what came of it -------------------------------------------------------------------------

    def _subject(self, inputs: Mapping[str, np.ndarray], tensors: Tensors) -> Subject:
        return subject(self.case, inputs, tensors)

    @staticmethod
    def _judged(subject: Subject) -> list[Judgement]:
        if subject.scheme is not None:
            return quantization.judge(subject)
        wanted = subject.watched[0]
        ratio = quantization.sqnr_of(subject.outputs, wanted)
        verdict = "precision-equal" if ratio >= quantization.SQNR else "divergent"
        return [
            Judgement("output", n.partition(":")[2] or "output", normwise(value, wanted[n]), None,
                      None, verdict, "numpy in float64", f"{ratio:.0f} dB")
            for n, value in subject.outputs.items()
        ]  # fmt: skip

    def _reference(self, subject: Subject, held: Tensors) -> Tensors:
        """The outputs of all held-out examples in float64."""
        parts: dict[str, list[np.ndarray]] = {}
        n = self.case.batch
        for start in range(0, len(next(iter(held.values()))), n):
            batch = {name: value[start : start + n] for name, value in held.items()}
            for name, value in subject.run(quantization.PLAIN, batch).items():
                parts.setdefault(name, []).append(value)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _values(
        self, goal: Goal, outputs: Tensors, wanted: Tensors, held: Tensors
    ) -> dict[str, float]:
        targets = trees.part(held, "y")
        score = goal.score(trees.unnamed(outputs, "output"), targets)
        exact = goal.score(trees.unnamed(wanted, "output"), targets)
        first = next(iter(wanted))
        ratio = quantization.sqnr_of(outputs, wanted)
        agreement, divergence = compared(outputs[first], wanted[first])
        return {
            "sqnr": ratio if math.isfinite(ratio) else 400.0,
            "top1_agreement": agreement,
            "kl_divergence": divergence,
            "score": float(score),
            "score_lost": _lost(goal, exact, score),
        }

    def _told(self, goal: Goal, subject: Subject, held: Tensors) -> dict[str, Any]:
        told: dict[str, Any] = {
            "score": goal.name,
            "examples": len(next(iter(held.values()))),
            "trained_steps": goal.steps,
        }
        if subject.scheme is None:
            return told
        told["layers"] = quantization.by_layer(subject)
        told["share"] = quantization.share(subject)
        told["left_in_float"] = quantization.left_out(subject)
        if subject.scheme.trained:
            told |= {"tuned_steps": TUNING, "tuned_by": TUNED_BY}
        if subject.scheme.calibration:
            told["calibration"] = {
                "method": subject.scheme.calibration, "batches": len(subject.calibration),
                "examples": len(subject.calibration) * self.case.batch, "of": "training examples",
                "ranges": quantization.ranges(subject),
            }  # fmt: skip
        told["sensitivity"] = quantization.sensitivity(subject)
        return told


def subject(case: Case, inputs: Mapping[str, np.ndarray], tensors: Mapping[str, Any]) -> Subject:
    """What is judged of a quantized program that had these inputs and gave these tensors."""
    parts: dict[str, Tensors] = {"parameter": {}, "buffer": {}, "batch": {}}
    calibration: dict[str, Tensors] = {}
    for name, value in inputs.items():
        part, _, rest = name.partition(":")
        exact = value.astype(np.float64) if value.dtype.kind == "f" else value
        if part == "calibration":
            number, _, rest = rest.partition(":")
            calibration.setdefault(number, {})[rest] = exact
        elif part in parts:  # layers are kept of the first batch alone
            parts[part][rest] = exact
    scheme = PRECISIONS[case.precision].scheme
    return Subject(
        case.model, case.size, scheme, parts["parameter"], parts["buffer"], parts["batch"],
        tensors=tensors, calibration=tuple(calibration.values()),
        length=case.length, mode=case.mode,
    )  # fmt: skip


def _lost(goal: Goal, exact: float, score: float) -> float:
    """How much worse a score is than another."""
    return float(exact - score if goal.rising else score - exact)


def compared(logits: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """(share of rows with the same largest logit, mean Kullback-Leibler divergence in nat of the
    probabilities from the wanted ones), over the last axis."""
    same = np.argmax(logits, axis=-1) == np.argmax(wanted, axis=-1)
    p, q = (_log_softmax(np.asarray(x, np.float64)) for x in (wanted, logits))
    divergence = float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1)))
    return float(np.mean(same)), max(0.0, divergence)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
