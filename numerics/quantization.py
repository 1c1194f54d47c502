"""Judges quantized programs: whether they compute what their numbers say, and how good that is.

Conformance, layer by layer, with the numbers that the engine tells:

    weight      each integer is the nearest one: within half a step of the parameter. Each channel
                has a scale of its own where the scheme says so, and uses its range
    range       with calibration by the minimum and maximum, the numbers of what comes into a layer
                cover what the float64 program has there, and not more
    layer       what the layer makes of what really came in: integers are at most 1 away from the
                oracle's, and at least 99% of them equal it. Real numbers are likewise: within
                rounding, or one step of one integer of the input away. Where that is not so, they
                are still precision-equal with an SQNR of 60 dB: realistic faults reach 46. And
                no channel is off where the others are not
    between     what comes into each layer against what the oracle has there, which goes on from
                what the engine's layers before gave: the same for integers, or an SQNR of 60 dB
    output      likewise: an SQNR of 60 dB

Quality is told and never judged: SQNR, the signal-to-quantization-noise ratio against float64,
10 log10(sum reference^2 / sum difference^2) in dB.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special  # scipy.stats would take a second to import

from adapters.quantization import ENTROPY, MIN_MAX, SEEN, Layer, Numbers, Scheme, decode
from numerics import integer, reference
from numerics.errors import normwise
from numerics.integer import PLAIN, Chained, Seen, Watched
from numerics.judge import Judgement

Tensors = Mapping[str, np.ndarray]

EXACT = 0.99  # of integers have to be equal
STEPS = 1  # how far the others may be away
SQNR = 60.0  # dB, of what is equal but for rounding
TRIANGLE = 2.0  # times the error of one of two programs that are both right, between them
HALF = 0.5 * (1 + 2.0**-10)  # of a step; the scale was computed in float32
USED = 0.9  # of a channel's range that its largest weight reaches at least
COVERED = 2.0**-8  # of a range, by which calibration in float32 may miss its ends
CHANCE = 1e-6  # that an honest channel is called odd
LEAST = 0.5  # of the elements of all weights of layers have to be integers
SOURCE = "integer oracle in numpy"

__all__ = ["PLAIN", "SQNR", "Subject", "by_layer", "judge", "left_out", "ranges", "sensitivity",
           "share", "sqnr", "sqnr_of"]  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A program that is judged: its scheme, what it was given, and what it gave.

    calibration     batches for the ranges of activations; empty where there are none
    tensors         of the program: its output, and its layers as `adapters.quantization.encode`
                    writes them
    """

    model: str
    size: str
    scheme: Scheme | None
    params: Tensors
    buffers: Tensors
    batch: Tensors
    tensors: Tensors
    calibration: Sequence[Tensors] = ()
    length: int = 0
    mode: str = "infer"

    @cached_property
    def layers(self) -> list[Layer]:
        return decode(self.tensors)

    @cached_property
    def outputs(self) -> Tensors:
        return {n: t for n, t in self.tensors.items() if n.partition(":")[0] == "output"}

    @cached_property
    def seen(self) -> Tensors:
        """The outputs of the program whose layers were seen."""
        found = {n: t for n, t in self.tensors.items() if n.partition(":")[0] == SEEN}
        return {"output" + n.removeprefix(SEEN): t for n, t in found.items()} or self.outputs

    def run(self, ops: Any, batch: Tensors) -> Tensors:
        """The output of the model over `ops`, which work on NumPy arrays."""
        return reference.forward_pass(
            self.model, self.size, self.params, self.buffers, batch,
            ops=ops, length=self.length, mode=self.mode,
        )  # fmt: skip

    @cached_property
    def watched(self) -> tuple[Tensors, Mapping[str, Seen]]:
        """The output in float64, and what weights were used for there."""
        ops = Watched(self.params)
        return self.run(ops, self.batch), ops.seen

    @cached_property
    def ranges(self) -> Mapping[str, Seen]:
        """What came into each layer in float64 during calibration."""
        ops = Watched(self.params)
        for batch in self.calibration:
            self.run(ops, batch)
        return ops.seen

    def by_call(self, calls: Sequence[Layer]) -> list[tuple[Layer, float, float]]:
        """(layer, least, most) of what came into each call of a weight during calibration. They are
        counted from the end: of a recurrence, an engine may leave out what came of zeros first."""
        inputs = self.ranges[calls[0].weight].inputs
        runs = len(inputs) // len(self.calibration)
        groups = [inputs[i::runs] for i in range(runs)][-len(calls) :]
        return [
            (layer, min(float(x.min()) for x in xs), max(float(x.max()) for x in xs))
            for layer, xs in zip(calls, groups, strict=True)
        ]

    @cached_property
    def chained(self) -> tuple[Tensors, Mapping[str, list[np.ndarray]]]:
        """The output behind the engine's layers as the oracle has it, and what comes into each."""
        ops = Chained(self.params, self.layers, forced=True)
        return self.run(ops, self.batch), ops.inputs


def judge(subject: Subject) -> list[Judgement]:
    """One judgement per check."""
    assert subject.scheme is not None
    if not subject.layers:
        reason = "no layer is quantized, but all layers should be"
        return [_row("layer", "none", math.inf, "divergent", reason)]
    rows = []
    by_weight: dict[str, list[Layer]] = {}
    for layer in subject.layers:
        by_weight.setdefault(layer.weight, []).append(layer)
    for name, calls in by_weight.items():
        seen = subject.watched[1].get(name)
        if seen is None:
            reason = f"the model has no layer with {name}"
            rows.append(_row("weight", name, math.inf, "divergent", reason))
            continue
        rows.append(_weight(calls[0], seen, subject.scheme))
        if subject.calibration:
            between = [_covered(*pair) for pair in subject.by_call(calls)]
            whole = _range(calls[0], subject.ranges[name], subject.scheme)
            rows.append(_worst(between) if calls[0].between else whole)
        rows.append(_worst(_layer(call) for call in calls))
    return [*rows, _enough(subject), *_whole(subject)]


def _enough(subject: Subject) -> Judgement:
    """Whether the program is quantized at all, or silently stayed in floating-point numbers."""
    part, left = share(subject), left_out(subject)
    told = f"{_percent(part)} of the elements of all weights are integers"
    if left:
        told += f"; not those of {', '.join(left)}"
    if part < LEAST:
        told = f"silent float32: {told}, but should be {_percent(LEAST)}"
    verdict = "rounding-equal" if part >= LEAST else "divergent"
    return _row("weight", "all", 1 - part, verdict, told)


def share(subject: Subject) -> float:
    """The share of the elements of all weights of layers that are integers."""
    sizes = {name: seen.weight.size for name, seen in subject.watched[1].items()}
    quantized = {layer.weight for layer in subject.layers}
    return sum(n for name, n in sizes.items() if name in quantized) / max(1, sum(sizes.values()))


def left_out(subject: Subject) -> list[str]:
    """The weights of layers that are no integers."""
    return sorted(set(subject.watched[1]) - {layer.weight for layer in subject.layers})


def ranges(subject: Subject) -> dict[str, dict[str, float]]:
    """What calibration found: weight -> the least and the largest real number that the integers of
    what comes into its layer stand for, and the scale."""
    found = {}
    for layer in subject.layers:
        numbers = layer.x_numbers
        if isinstance(numbers, Numbers):
            scale, zero = (float(np.ravel(x)[0]) for x in (numbers.scale, numbers.zero))
            low, high = (scale * (end - zero) for end in (numbers.low, numbers.high))
            found[layer.weight] = {"low": low, "high": high, "scale": scale}
    return found


def sensitivity(subject: Subject) -> dict[str, float]:
    """SQNR of the output in dB where one layer is left in float64 and all others are as they are:
    weight -> SQNR, and "" -> that of all. By the oracle's chain; empty where there is none."""
    if any(layer.between for layer in subject.layers):
        return {}
    found = {"": _chain_sqnr(subject, ())}
    for weight in dict.fromkeys(layer.weight for layer in subject.layers):
        found[weight] = _chain_sqnr(subject, (weight,))
    return found


def _chain_sqnr(subject: Subject, left: Sequence[str]) -> float:
    output = subject.run(Chained(subject.params, subject.layers, leave=left), subject.batch)
    ratio = sqnr_of(output, subject.watched[0])
    return ratio if math.isfinite(ratio) else 400.0


def sqnr(value: np.ndarray, wanted: np.ndarray) -> float:
    """SQNR in dB; infinite where the two are equal."""
    noise = float(np.sum((value.astype(np.float64) - wanted) ** 2))
    signal = float(np.sum(np.asarray(wanted, np.float64) ** 2))
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def sqnr_of(found: Tensors, wanted: Tensors) -> float:
    """SQNR of all outputs together, in dB."""
    names = sorted(wanted)
    return sqnr(
        np.concatenate([np.ravel(found[n]).astype(np.float64) for n in names]),
        np.concatenate([np.ravel(wanted[n]) for n in names]),
    )


def by_layer(subject: Subject) -> dict[str, float]:
    """SQNR in dB of what each layer gives, against the float64 program: weight -> the least."""
    found: dict[str, float] = {}
    left: dict[str, int] = Counter(layer.weight for layer in subject.layers)
    for layer in subject.layers:
        seen = subject.watched[1][layer.weight]
        # counted from the end: of a recurrence, an engine may leave out what came of zeros first
        number, left[layer.weight] = -left[layer.weight], left[layer.weight] - 1
        wanted = (seen.normalised if layer.folded and seen.normalised else seen.outputs)[number]
        wanted = np.maximum(wanted, 0) if layer.relu else wanted
        y = layer.y if layer.y_numbers is None else layer.y_numbers.real(layer.y)
        bias_follows = layer.bias is None and layer.y.shape == wanted.shape
        value = sqnr(y, wanted) if not bias_follows else _without_bias(y, wanted)
        found[layer.weight] = min(value, found.get(layer.weight, math.inf))
    return found


def _without_bias(y: np.ndarray, wanted: np.ndarray) -> float:
    """SQNR of what lacks a constant per channel that the wanted value may have."""
    axes = tuple(range(wanted.ndim - 1))
    constant = np.median(wanted - y, axis=axes)
    return sqnr(y + constant, wanted)


# -- the checks --------------------------------------------------------------------------------


def _row(quantity: str, tensor: str, error: float, verdict: str, reason: str) -> Judgement:
    return Judgement(quantity, tensor, error, None, None, verdict, SOURCE, reason)


def _worst(rows: Iterable[Judgement]) -> Judgement:
    order = ("bitwise", "rounding-equal", "precision-equal", "divergent")
    return max(rows, key=lambda row: (order.index(row.verdict), row.error))


def _weight(layer: Layer, seen: Seen, scheme: Scheme) -> Judgement:
    wanted = seen.weight
    if layer.folded:
        if seen.factor is None:
            reason = "a normalisation is folded into it, but the model has none behind this layer"
            return _row("weight", layer.weight, math.inf, "divergent", reason)
        wanted = wanted * seen.factor
    if layer.w.dtype.kind not in "iu":
        reason = f"weights are {layer.w.dtype}, but should be integers"
        return _row("weight", layer.weight, math.inf, "divergent", reason)
    if layer.w.shape != wanted.shape:
        reason = f"shape {layer.w.shape}, but should be {wanted.shape}"
        return _row("weight", layer.weight, math.inf, "divergent", reason)
    numbers = layer.w_numbers
    real = numbers.real(layer.w)
    error = normwise(real, wanted)
    scale = np.abs(np.broadcast_to(np.asarray(numbers.scale, np.float64), wanted.shape))
    steps = np.abs(real - wanted) / scale
    problem = _granularity(numbers, wanted, scheme)
    if problem:
        return _row("weight", layer.weight, error, "divergent", problem)
    if steps.max() > HALF:
        wrong = float(np.mean(steps > HALF))
        reason = (
            f"{wrong:.2%} of its integers are not the nearest: up to {steps.max():.3g} steps away "
            "from the parameter, but should be at most half a step"
        )
        return _row("weight", layer.weight, error, "divergent", reason)
    problem = _unused(numbers, layer.w, wanted)
    if problem:
        return _row("weight", layer.weight, error, "divergent", problem)
    told = f"at most {steps.max():.3f} steps from the parameter"
    return _row("weight", layer.weight, error, "rounding-equal", told)


def _granularity(numbers: Numbers, wanted: np.ndarray, scheme: Scheme) -> str:
    """What is wrong with how many scales there are; empty: nothing."""
    channels, scales = wanted.shape[-1], np.asarray(numbers.scale).size
    if not scheme.per_channel:
        return f"{scales} scales, but should be one for the tensor" if scales != 1 else ""
    if scales == 1 and channels > 1:
        return f"one scale for the tensor, but should be one for each of {channels} channels"
    return ""


def _unused(numbers: Numbers, w: np.ndarray, wanted: np.ndarray) -> str:
    """Whether a scale is larger than its channel needs; empty: none is."""
    reach = numbers.high - int(np.min(numbers.zero))
    centred = np.abs(w.astype(np.int64) - numbers.zero)
    if np.asarray(numbers.scale).size == w.shape[-1]:
        used = centred.reshape(-1, w.shape[-1]).max(axis=0)
        used = used[np.abs(wanted).reshape(-1, w.shape[-1]).max(axis=0) > 0]
    elif np.asarray(numbers.scale).size == 1:
        used = centred.max(keepdims=True)
    else:
        return ""  # groups: some may hold small weights alone
    least = int(used.min(initial=reach))
    if least >= USED * reach:
        return ""
    return (
        f"the largest integer of a channel is {least}, but should be near {reach}: its scale is "
        "larger than its weights need"
    )


def _range(layer: Layer, seen: Seen, scheme: Scheme) -> Judgement:
    numbers, name = layer.x_numbers, layer.weight
    if not isinstance(numbers, Numbers):
        reason = "its input has no numbers of its own, but should have those of calibration"
        return _row("range", name, math.inf, "divergent", reason)
    scale, zero = float(np.ravel(numbers.scale)[0]), int(np.ravel(numbers.zero)[0])
    if np.asarray(numbers.scale).size != 1:
        reason = f"{np.asarray(numbers.scale).size} scales of activations, but should be one"
        return _row("range", name, math.inf, "divergent", reason)
    low, high = scale * (numbers.low - zero), scale * (numbers.high - zero)
    least, most = min(seen.least, 0.0), max(seen.most, 0.0)
    if scheme.symmetric:
        most = max(most, -least)
        least, low = -most, -high
    width = most - least
    told = f"{low:.4g} to {high:.4g}, and {least:.4g} to {most:.4g} came in"
    missed = max(abs(low - least), abs(high - most))
    error = missed / width if width else 0.0
    slack = COVERED * width + 1.5 * scale  # the zero is rounded to a whole number
    if scheme.calibration == MIN_MAX:
        verdict = "rounding-equal" if missed <= slack else "divergent"
    else:  # may leave out what is rare, and nothing else
        outside = _outside(seen.inputs, low - scale, high + scale)
        most_left = 0.05 if scheme.calibration == ENTROPY else 0.01
        told += f"; {outside:.2%} of it outside"
        inside = low >= least - slack and high <= most + slack
        verdict = "rounding-equal" if inside and outside <= most_left else "divergent"
    if verdict == "divergent":
        told = f"covers {told}"
    return _row("range", name, error, verdict, told)


def _covered(layer: Layer, least: float, most: float) -> Judgement:
    """Whether a range covers what came in. Where operations between layers are integers as well, it
    may be wider: the parts of a tensor share its numbers."""
    numbers = layer.x_numbers
    if not isinstance(numbers, Numbers):
        reason = "its input has no numbers of its own, but should have those of calibration"
        return _row("range", layer.weight, math.inf, "divergent", reason)
    scale, zero = float(np.ravel(numbers.scale)[0]), int(np.ravel(numbers.zero)[0])
    low, high = scale * (numbers.low - zero), scale * (numbers.high - zero)
    slack = COVERED * (most - least) + 1.5 * scale
    missed = max(low - least, most - high, 0.0)
    told = f"{low:.4g} to {high:.4g}, and {least:.4g} to {most:.4g} came in"
    verdict = "rounding-equal" if missed <= slack else "divergent"
    error = missed / (most - least) if most > least else 0.0
    return _row("range", layer.weight, error, verdict, told)


def _outside(inputs: Sequence[np.ndarray], low: float, high: float) -> float:
    """The share of values outside of a range."""
    count = sum(x.size for x in inputs)
    return sum(int(((x < low) | (x > high)).sum()) for x in inputs) / max(1, count)


def _layer(layer: Layer) -> Judgement:
    found = integer.expected(layer, layer.x)
    name = layer.weight
    if layer.y.shape != found.value.shape:
        reason = f"shape {layer.y.shape}, but should be {found.value.shape}"
        return _row("layer", name, math.inf, "divergent", reason)
    if layer.y_numbers is not None:
        wanted = layer.y_numbers.quantized(found.value)
        away = np.abs(layer.y.astype(np.int64) - wanted)
        equal, most = float(np.mean(away == 0)), int(away.max())
        real = layer.y_numbers.real(layer.y)
        error = normwise(real, layer.y_numbers.real(wanted))
        told = f"{_percent(equal)} exact, at most {most} LSB"
        if equal == 1:
            return _row("layer", name, error, "bitwise", told)
        if equal >= EXACT and most <= STEPS:
            return _row("layer", name, error, "rounding-equal", told)
        # a step of 16 bits is below what a kernel that scales by 16 bits can tell
        fine = layer.y_numbers.high - layer.y_numbers.low > 2**8
        close = fine and sqnr(real, layer.y_numbers.real(wanted)) >= SQNR
        return _row("layer", name, error, "precision-equal" if close else "divergent", told)
    y = layer.y.astype(np.float64)
    away, error = np.abs(y - found.value), normwise(y, found.value)
    equal = float(np.mean(away <= found.rounding))
    near = found.rounding if found.step is None else found.rounding + found.step
    close, ratio = bool((away <= near).all()), sqnr(y, found.value)
    told = f"{_percent(equal)} within rounding, {ratio:.0f} dB"
    odd = _odd_channel(~(away <= found.rounding), y, found.value)
    if odd:
        return _row("layer", name, error, "divergent", f"{told}; {odd}")
    if equal >= EXACT and close:
        return _row("layer", name, error, "rounding-equal", told)
    return _row("layer", name, error, "precision-equal" if ratio >= SQNR else "divergent", told)


def _odd_channel(off: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> str:
    """A channel that is off where others are not; empty: none is. A wrong scale of one channel of
    128 is 1/128 of all elements, which the shares above allow.

    An integer of the input that is rounded the other way moves a whole row, all channels of it;
    rows in which most channels are off are left out. In the others at most 1 - EXACT of the
    elements are off, each by itself, so that of n in a channel more than the CHANCE quantile of the
    binomial distribution are so for a reason. With fewer than 4 rows that shows nothing.
    """
    off, y, wanted = (x.reshape(-1, x.shape[-1]) for x in (off, y, wanted))  # (rows, channels)
    rows = np.mean(off, axis=1) <= 0.5
    count, n = off[rows].sum(axis=0), int(rows.sum())
    allowed = int(np.argmax(special.bdtrc(np.arange(n + 1), n, 1 - EXACT) <= CHANCE))
    for channel in np.flatnonzero(count > allowed):
        ratio = sqnr(y[:, channel], wanted[:, channel])
        if not ratio >= SQNR:
            return (
                f"channel {channel} is off in {count[channel]} of {n} rows in which others are "
                f"not, by {ratio:.0f} dB, but should be in at most {allowed}"
            )
    return ""


def _percent(part: float) -> str:
    return "100%" if part == 1 else f"{math.floor(part * 1e4) / 1e2:.2f}%"


def _whole(subject: Subject) -> list[Judgement]:
    """The output of the whole program."""
    if any(layer.between for layer in subject.layers):
        reason = "operations between layers are integers as well; layers are judged one by one"
        return [_row("output", name, 0.0, "unreferenced", reason) for name in subject.outputs]
    wanted, inputs = subject.chained
    rows = [_worst(found) for found in _between(subject.layers, inputs).values()]
    for name, value in wanted.items():
        rows.append(_output(name, subject.seen[name], value, subject))
    return rows


def _output(name: str, seen: np.ndarray, wanted: np.ndarray, subject: Subject) -> Judgement:
    """One output. Where a program was run to see its layers which is not the step's, the two may
    round otherwise between layers, so that an integer in one of them turns. Both are then right,
    and each is as far from float64 as the other: by the triangle inequality they are at most twice
    that far apart."""
    tensor = name.partition(":")[2] or "output"
    ratio, error = sqnr(seen, wanted), normwise(seen, wanted)
    verdict, told = "precision-equal" if ratio >= SQNR else "divergent", f"{ratio:.0f} dB"
    value = subject.outputs[name]
    if seen is not value and not np.array_equal(seen, value, equal_nan=True):
        exact = subject.watched[0][name]
        apart, away = (float(np.linalg.norm(value - seen)), float(np.linalg.norm(seen - exact)))
        error = max(error, normwise(value, seen))
        told += f"; the step's output is {sqnr(value, seen):.0f} dB from that of the layers seen"
        if not apart <= TRIANGLE * away:  # a NaN is not
            verdict = "divergent"
            told += f", but should be at most {TRIANGLE:g} times as far as that is from float64"
    return _row("output", tensor, error, verdict, told)


def _between(
    layers: Sequence[Layer], inputs: Mapping[str, list[np.ndarray]]
) -> dict[str, list[Judgement]]:
    """What came into each layer in the engine, against the oracle's chain: weight -> calls."""
    found: dict[str, list[Judgement]] = defaultdict(list)
    for layer in layers:
        name = layer.weight
        if len(found[name]) == len(inputs[name]):
            reason = f"it ran {len(found[name]) + 1} times or more, but should {len(found[name])}"
            found[name].append(_row("between", name, math.inf, "divergent", reason))
            break
        wanted, real = inputs[name][len(found[name])], integer.real_input(layer)
        if real.shape == wanted.shape[1:] and len(wanted) == 1:
            wanted = wanted[0]  # of one example, an engine may leave the axis out
        if real.shape != wanted.shape:
            reason = f"shape {real.shape}, but should be {wanted.shape}"
            found[name].append(_row("between", name, math.inf, "divergent", reason))
            continue
        alike, told = False, ""
        if isinstance(layer.x_numbers, Numbers):
            q, numbers = integer.incoming(layer, layer.x)
            assert numbers is not None
            # of two that are equally near, either is right: with some engines' scales the largest
            # number of each row lies there
            place = np.clip(wanted / numbers.scale + numbers.zero, numbers.low, numbers.high)
            away = np.ceil(np.abs(q - place) - HALF)
            equal, most = float(np.mean(away <= 0)), max(0, int(away.max()))
            told = f"{_percent(equal)} exact, at most {most} LSB"
            alike = equal >= EXACT and most <= STEPS
            if layer.x.dtype.kind in "iu":
                wanted = numbers.real(numbers.quantized(wanted))
        ratio = sqnr(real, wanted)
        alike = alike or ratio >= SQNR
        told = told or f"{ratio:.0f} dB"
        verdict = "precision-equal" if alike else "divergent"
        found[name].append(_row("between", name, normwise(real, wanted), verdict, told))
    return found
