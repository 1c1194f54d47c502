"""Verdicts per tensor. The protocol and its experiments: docs/numerics.md.

In float64 an adapter has to be *identical*: normwise error at most IDENTITY against every
reference, or, where rounding alone makes more than that, within the same ratio to the noise floor
that is allowed in lower precisions. (Adam divides the gradient of an attention's key bias, which
is zero but for rounding, by its own size plus 1e-8.) In a lower precision the error is compared
with the noise floor that rounding in that precision makes in this very case (`numerics.floor`):
ratio = error / floor.

The bound on the ratio is provisional. It is the geometric mean of the largest honest ratio and
the smallest of a live fault in the experiment that docs/numerics.md describes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from numerics import reference as by_numpy
from numerics.errors import normwise, unusable
from numerics.reference import NumpyReference

Tensors = Mapping[str, np.ndarray]

IDENTITY = 1e-10
ROUNDING_EQUAL = 4.0
PRECISION_EQUAL = 20.0
#: An error of this size is divergent whatever the floor. Below it x is nearer to the reference r
#: than to nothing: ||x|| >= ||r|| - ||x - r|| > ||x - r|| where ||x - r|| < ||r|| / 2.
CAP = 0.5
#: A float64 reference whose own relative rounding noise is above this has no digits to compare.
NULL = 0.1
#: Elements of a tensor that may all be right by chance.
FEW = 8

#: Quantities of a step, as they are computed.
ORDER = ("output", "loss", "gradient", "buffer", "update", "average")

#: Precisions in which an "fp32" may silently have been computed.
COARSER = ("tf32", "bf16")

#: precision -> significand bits; the unit roundoff is 2^-bits.
BITS = {
    "fp64": 53, "fp32": 24, "tf32": 24, "bf16": 8, "fp16": 11,
    # of what a policy does not run lower
    "amp_bf16": 24, "amp_fp16": 24, "amp_bf16_native": 24, "amp_fp16_native": 24,
}  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """The verdict on one tensor against one reference. `ulp` is how far the worst element is, in
    units in the last place, where that is judged (`numerics.ulp`)."""

    quantity: str
    tensor: str
    error: float
    floor: float | None
    ratio: float | None
    verdict: str
    reference: str
    reason: str = ""
    ulp: float | None = None


@dataclass(frozen=True)
class Reference:
    """What a case is judged against.

    tensors     the consensus in float64
    name        where it comes from, for people
    floors      tensor -> relative noise floor at `bits` bits; that of b bits is 2^(bits - b) of it
    """

    tensors: Tensors
    name: str
    floors: Mapping[str, float]
    bits: int = 24

    def floor(self, tensor: str, precision: str) -> float:
        """Never below one unit roundoff."""
        unit = 2.0 ** -BITS[precision]
        return max(self.floors.get(tensor, 0.0) * 2.0 ** (self.bits - BITS[precision]), unit)

    def is_null(self, tensor: str, precision: str) -> bool:
        """Whether the reference is nothing but rounding noise (an attention's key bias)."""
        return tensor in self.floors and self.floor(tensor, precision) >= NULL


def identity(tensors: Tensors, reference: Reference) -> list[Judgement]:
    """Judges float64 tensors against a consensus."""
    return [_identical(name, value, reference) for name, value in tensors.items()]


def _identical(name: str, value: np.ndarray, reference: Reference) -> Judgement:
    quantity, tensor = split(name)
    if name not in reference.tensors:
        return _mistrusted(name, reference.name, "no reference has this tensor")
    error, problem = normwise(value, reference.tensors[name]), unusable(reference.tensors[name])
    floor = reference.floor(name, "fp64")
    if not problem and (loud := _too_loud(name, error, floor, reference, "fp64")):
        return loud
    wrong = error > IDENTITY or problem  # noise may round to zero in one framework
    if wrong and _follows_null(name, reference) and np.isfinite(value).all():
        reason = "the reference is rounding noise; outputs are compared instead"
        return Judgement(
            quantity, tensor, error, None, None, "null-gradient", reference.name, reason
        )
    if problem:
        return _mistrusted(name, reference.name, problem)
    ratio = None
    if PRECISION_EQUAL * floor > IDENTITY:
        ratio = error / floor
        same = verdict_of(ratio, error) != "divergent"
    else:
        same = error <= IDENTITY
    verdict = "identical" if same else "divergent"
    shown = None if ratio is None else floor
    reason = misshapen(value, reference.tensors[name])
    return Judgement(quantity, tensor, error, shown, ratio, verdict, reference.name, reason)


def _too_loud(
    name: str, error: float, floor: float, reference: Reference, prec: str
) -> Judgement | None:
    """A null gradient is as large as rounding makes it, and no larger."""
    ratio = error / floor
    if not reference.is_null(name, prec) or ratio <= PRECISION_EQUAL or math.isinf(error):
        return None
    reason = (
        f"the reference is rounding noise, and this {ratio:.3g} times as large as rounding makes "
        f"it, but should be at most {PRECISION_EQUAL:g} times"
    )
    return Judgement(*split(name), error, floor, ratio, "divergent", reference.name, reason)


def _follows_null(name: str, reference: Reference) -> bool:
    """A null gradient makes the updates of its parameter noise as well."""
    tensor = split(name)[1]
    return reference.is_null(name, "fp64") or reference.is_null(f"gradient:{tensor}", "fp64")


def against_numpy(
    tensors: Tensors, reference: NumpyReference, params: Tensors, recipe: str, floors: Mapping
) -> list[Judgement]:
    """Judges float64 tensors against what NumPy alone can say."""
    known = dict(reference.tensors)
    judged = [name for name in tensors if name in known]
    found = identity({n: tensors[n] for n in judged}, Reference(known, "numpy", {}))
    null = Reference({}, "numpy", floors)
    for group, slope in reference.slopes.items():
        if len(group) == 1 and null.is_null(f"gradient:{group[0]}", "fp64"):
            continue
        error = by_numpy.slope_error({name: tensors[f"gradient:{name}"] for name in group}, slope)
        verdict = "identical" if error <= IDENTITY else "divergent"
        tensor = group[0] if len(group) == 1 else "all parameters"
        source = "numpy complex step"
        found.append(Judgement("gradient", tensor, error, None, None, verdict, source))
    if reference.slopes:
        updates = by_numpy.update_from(recipe, params, tensors)
        formula = Reference(updates, "numpy formula on its own gradient", floors)
        found += identity({name: tensors[name] for name in updates}, formula)
    return found


def unreferenced(tensors: Tensors, rows: Iterable[Judgement]) -> list[Judgement]:
    """A row for each tensor that no row of `rows` judges, where no second framework is there to
    compare with."""
    judged = {(row.quantity, row.tensor) for row in rows}
    reason = "no second framework that trains in float64 is installed to compare with"
    return [
        Judgement(*split(name), 0.0, None, None, "unreferenced", "none", reason)
        for name in tensors
        if split(name) not in judged
    ]


def precision(tensors: Tensors, reference: Reference, name: str) -> list[Judgement]:
    """Judges tensors of precision `name` by the ratio of their error to the noise floor."""
    return [_by_ratio(key, value, reference, name) for key, value in tensors.items()]


def _by_ratio(name: str, value: np.ndarray, reference: Reference, prec: str) -> Judgement:
    quantity, tensor = split(name)
    if name not in reference.tensors:
        return _mistrusted(name, reference.name, "no reference has this tensor")
    error = normwise(value, reference.tensors[name])
    floor = reference.floor(name, prec)
    ratio = error / floor
    null = reference.is_null(name, prec) or reference.is_null(f"gradient:{tensor}", prec)
    problem = unusable(reference.tensors[name])
    if problem and not (null and np.isfinite(value).all()):
        return _mistrusted(name, reference.name, problem)
    if null and not problem and (loud := _too_loud(name, error, floor, reference, prec)):
        return loud
    if null and (problem or math.isfinite(error)):
        reason = "the reference is below the noise of this precision; outputs are compared instead"
        return Judgement(
            quantity, tensor, error, floor, ratio, "null-gradient", reference.name, reason
        )
    verdict = verdict_of(ratio, error)
    reason = misshapen(value, reference.tensors[name])
    return Judgement(quantity, tensor, error, floor, ratio, verdict, reference.name, reason)


def misshapen(value: np.ndarray, wanted: np.ndarray) -> str:
    """Both shapes where they differ; else the empty string."""
    same = value.shape == wanted.shape
    return "" if same else f"the shape is {value.shape}, but should be {wanted.shape}"


def silent_precision(
    tensors: Tensors,
    reference: Reference,
    floors: Mapping[str, Mapping[str, float]],
    rows: Sequence[Judgement],
) -> list[Judgement]:
    """`rows` of a float32 case; those that diverge say so when they look like a coarser precision
    that nobody asked for.

    floors      coarser precision -> its noise floors by tensor

    A precision is what was computed in when the errors are its floors in size: none of the tensors
    is above what is allowed in it or, where it has more than FEW elements, which may be right by
    chance, as far below; and the median of those that diverge is within a factor of
    ROUNDING_EQUAL. A wrong formula has errors of any size, and of very different ones; but one
    tensor, be it of several batches, has one size of error, and any formula may have that. So it
    takes two tensors to say what was computed in, and of one only the size of its error is told.
    """
    bad = {f"{row.quantity}:{row.tensor}" for row in rows if row.verdict == "divergent"}
    bad |= {row.quantity for row in rows if row.verdict == "divergent"}
    found: dict[str, float] = {}
    witnesses: dict[str, set[str]] = {}
    for precision, known in floors.items():
        ratios = {
            name: normwise(value, reference.tensors[name]) / known[name]
            for name, value in tensors.items()
            if name in reference.tensors and 0 < known.get(name, 0.0) < NULL
        }
        diverging = [ratio for name, ratio in ratios.items() if name in bad]
        if not diverging or max(ratios.values()) > PRECISION_EQUAL:
            continue
        telling = {
            name: ratio
            for name, ratio in ratios.items()
            if tensors[name].size > FEW
            and known[name] > PRECISION_EQUAL**2 * reference.floor(name, "fp32")
        }
        if min(telling.values(), default=math.inf) < 1 / PRECISION_EQUAL:
            continue
        witnesses[precision] = set(map(_of_any_batch, telling))
        found[precision] = abs(math.log(float(np.median(diverging))))
    if not found or min(found.values()) > math.log(ROUNDING_EQUAL):
        return list(rows)
    named = min(found, key=lambda precision: found[precision])
    size = f"the size of {named}'s rounding, not of float32's"
    reason = f"silent {named}: the errors have {size}"
    if len(witnesses[named]) < 2:
        reason = f"the error has {size}; one tensor alone does not tell that from a wrong formula"
    return [replace(row, reason=reason) if row.verdict == "divergent" else row for row in rows]


def _of_any_batch(name: str) -> str:
    """What a tensor is called for whichever batch, and after whichever step, it was computed:
    `output` of `output@2` and of `unseen:output`, `update:w` of `update@10:w`."""
    quantity, _, tensor = name.removeprefix(f"{by_numpy.UNSEEN}:").partition(":")
    return f"{quantity.partition('@')[0]}:{tensor}"


def verdict_of(ratio: float, error: float = 0.0) -> str:
    """The verdict that a ratio of error to noise floor stands for, and the error itself where it is
    CAP or more."""
    if ratio == 0:
        return "bitwise"
    if error >= CAP:
        return "divergent"
    if ratio <= ROUNDING_EQUAL:
        return "rounding-equal"
    return "precision-equal" if ratio <= PRECISION_EQUAL else "divergent"


def worst(judgements: Iterable[Judgement]) -> Judgement | None:
    """The judgement to show first: divergent, then mistrusted, then by ratio or error."""
    nothing = dict.fromkeys(("null-gradient", "unreferenced", "unsupported"), 0)
    order = {"divergent": 4, "mistrusted": 3, "deviation": 2, **nothing}
    return max(
        judgements,
        key=lambda j: (order.get(j.verdict, 1), j.ratio if j.ratio is not None else j.error),
        default=None,
    )


def earliest(judgements: Iterable[Judgement]) -> Judgement | None:
    """The judgement in which a fault shows first: steps come one after the other, and in each of
    them the forward pass, the backward pass and the update. Of several there, the worst."""
    rows = list(judgements)
    first = min(map(_moment, rows), default=None)
    return worst(row for row in rows if _moment(row) == first)


def _moment(row: Judgement) -> tuple[int, int]:
    """`update@10` is of the tenth step; what has no step comes before the first."""
    quantity, _, step = row.quantity.partition("@")
    place = ORDER.index(quantity) if quantity in ORDER else 0
    return int(step) if step.isdecimal() else 0, place


def split(name: str) -> tuple[str, str]:
    """`gradient:fc1/w` -> ("gradient", "fc1/w"); a name without a colon is its own tensor."""
    quantity, _, tensor = name.partition(":")
    return quantity, tensor or quantity


def _mistrusted(name: str, reference: str, reason: str) -> Judgement:
    quantity, tensor = split(name)
    return Judgement(quantity, tensor, math.inf, None, None, "mistrusted", reference, reason)
