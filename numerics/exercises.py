"""Exercises: small computations with inputs, and what NumPy says that they should give.

The reference of a gradient is the complex step (Squire and Trapp 1998) along every element of
every input: Im <cotangent, f(x + i h e)> / h with h = 2^-100. No framework and no automatic
differentiation is involved.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapters.exercise import Call
from adapters.numpy_reference import NumpyOps
from adapters.ops import Ops

Tensors = Mapping[str, np.ndarray]
STEP = 2.0**-100  # a power of two: multiplying by it and dividing do not round
#: Elements up to which an input is differentiated by each of them: each costs NumPy a forward pass.
#: The gradient by a larger input is compared along DIRECTIONS instead (`directions`).
ELEMENTS = 600
#: Random vectors of signs along which a large gradient is compared. The error of n of them has the
#: norm of the whole error within a standard deviation of 1 / sqrt(2 n), 18%: nothing beside the
#: factor 4 between verdicts; and an error in a single element shows along every one of them.
DIRECTIONS = 16
PRECISIONS = ("fp64", "fp32", "bf16", "fp16")
ODD = 1_000_003  # an index or a divisor that no exercise has
#: Precision -> significant bits of what an exercise is given in it.
BITS = {"fp64": 53, "fp32": 24, "bf16": 8, "fp16": 11}


@dataclass(frozen=True)
class Exercise:
    """A computation, its inputs, and how its results are judged.

    subject     what its verdict counts for: an operation, say
    name        tells the exercises of one subject apart
    inputs      name -> values. Those of floating-point numbers have up to 53 significant bits, so
                that float64 which is float32 inside shows even where values are only moved. A lower
                precision gets them rounded to what it holds (`at`), and has a reference of its own
    by          inputs by which the results are differentiated; above ELEMENTS elements along
                DIRECTIONS
    exact       every precision has to give exactly the reference
    bound       largest normwise error in float64; above 1e-10 only where the reference itself is
                not better, with a derivation beside it in the table
    reference   gives the expected results where NumPy does not get them by running `call`
    worst       whether of all outputs only the one that is furthest off is told: those of one
                operation at many sizes
    bits        significant bits of inputs and cotangents
    """

    subject: str
    name: str
    call: Call
    inputs: Tensors
    by: tuple[str, ...] = ()
    exact: bool = False
    precisions: tuple[str, ...] = PRECISIONS
    bound: float = 1e-10
    reference: Callable[[], Tensors] | None = None
    worst: bool = False
    bits: int = BITS["fp64"]

    def at(self, precision: str) -> Exercise:
        """The same with inputs and cotangents that a precision holds."""
        bits = BITS[precision]
        inputs = {
            name: rounded(value, bits) if value.dtype.kind == "f" else value
            for name, value in self.inputs.items()
        }
        return dataclasses.replace(self, inputs=inputs, bits=bits)

    @property
    def key(self) -> str:
        return f"{self.subject}/{self.name}"

    @property
    def digest(self) -> str:
        """Changes with anything on which the results depend."""
        told = [self.key, dataclasses.asdict(self.call), self.by, self.exact, self.bits]
        made = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name, value in sorted(self.inputs.items()):
            made.update(f"{name}{value.dtype}{value.shape}".encode() + value.tobytes())
        return made.hexdigest()

    @property
    def handed(self) -> Tensors:
        """The inputs as a `Call` gets them: of views, what they are views of. Gradients are of
        these."""
        views = self.call.views
        return {
            name: _stored(value, views[name][0]) if name in views else value
            for name, value in self.inputs.items()
        }


def _stored(x: np.ndarray, layout: str) -> np.ndarray:
    """What `x` is a view of in a layout (`adapters.exercise.LAYOUTS`): of a broadcast view, the
    first element along an axis. What the view does not show would spoil every result."""
    if layout == "reversed":
        return np.ascontiguousarray(x.T)
    if layout == "broadcast":
        return np.take(x, [0], axis=broadcast_axis(x.shape))
    spoil = _spoil(x)
    if layout == "offset":
        return np.concatenate([np.ravel(spoil)[:1], np.ravel(x)])
    return np.stack([x, spoil], axis=-1)


def _spoil(x: np.ndarray) -> np.ndarray:
    """What `x` has nowhere; of narrow integers their largest number."""
    if x.dtype.kind == "b":
        return ~x
    if x.dtype.kind == "f":
        return np.full_like(x, np.nan)
    return np.full_like(x, min(ODD, np.iinfo(x.dtype).max))


def broadcast_axis(shape: Sequence[int]) -> int:
    """The axis along which a broadcast view of that shape is the same: the first of more than one
    element, or 0 where there is none."""
    return next((axis for axis, size in enumerate(shape) if size > 1), 0)


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """`x` rounded to `bits` significant bits, whatever its exponent."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    return np.asarray(np.ldexp(np.rint(mantissa * 2.0**bits), exponent - bits))


def coarse(x: np.ndarray) -> np.ndarray:
    """`x` rounded to 8 significant bits, which bfloat16 holds, and float16 where it is in range."""
    return rounded(x, BITS["bf16"])


def cotangents(exercise: Exercise, outputs: Tensors) -> dict[str, np.ndarray]:
    """A fixed random vector per floating-point output, of as many bits as the inputs; of small
    integers for an exact exercise."""
    made = {}
    for name, value in outputs.items():
        if value.dtype.kind != "f":
            continue
        digest = hashlib.sha256(f"{exercise.key}:{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        drawn = rng.integers(1, 3, value.shape) * rng.choice([-1.0, 1.0], value.shape)
        made[name] = drawn if exercise.exact else _normal(rng, value.shape, exercise.bits)
    return made


def directions(exercise: Exercise, name: str) -> Iterator[np.ndarray]:
    """DIRECTIONS tensors of 1 and -1, of the shape of the input `name` as it is handed over."""
    digest = hashlib.sha256(f"{exercise.key}:{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    shape = exercise.handed[name].shape
    for _ in range(DIRECTIONS):
        yield rng.choice(np.array([-1, 1], np.int8), shape)


def along_directions(exercise: Exercise, name: str) -> bool:
    """Whether the gradient by the input `name` is compared along directions: of an exercise that
    is many computations in one, any that has more elements than there are directions."""
    return exercise.handed[name].size > (DIRECTIONS if exercise.worst else ELEMENTS)


def projected(exercise: Exercise, name: str, gradient: np.ndarray) -> np.ndarray:
    """What a gradient by the input `name` is compared by: itself, or where it is large its products
    with the directions, (DIRECTIONS,)."""
    if not along_directions(exercise, name):
        return gradient
    wide = gradient.astype(np.float64)
    return np.array([np.sum(wide * signs) for signs in directions(exercise, name)])


def _normal(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> np.ndarray:
    return rounded(rng.normal(size=shape), bits)


def expected(exercise: Exercise, ops: Ops | None = None) -> dict[str, np.ndarray]:
    """The outputs by name, and `gradient:` tensors by input, in float64, as `projected`. Outputs
    that are integers or booleans stay what they are."""
    if exercise.reference is not None:
        given = exercise.reference().items()
        by = {f"gradient:{name}": name for name in exercise.by}
        return {n: projected(exercise, by[n], value) if n in by else value for n, value in given}
    ops = ops or NumpyOps()
    with np.errstate(all="ignore"):  # infinities and NaN are meant
        outputs = {n: np.asarray(v) for n, v in exercise.call(ops, exercise.handed).items()}
        seeds = cotangents(exercise, outputs)
        slopes = {f"gradient:{n}": _gradient(exercise, ops, n, seeds) for n in exercise.by}
    return {**outputs, **slopes}


def _gradient(exercise: Exercise, ops: Ops, name: str, seeds: Tensors) -> np.ndarray:
    inputs = exercise.handed
    x = inputs[name]

    def along(moved: np.ndarray) -> float:
        outputs = exercise.call(ops, {**inputs, name: moved})
        return sum(float(np.sum(np.imag(outputs[n]) * seed)) for n, seed in seeds.items()) / STEP

    if along_directions(exercise, name):
        return np.array([along(x + 1j * STEP * signs) for signs in directions(exercise, name)])
    slopes = np.zeros(x.size)
    for i in range(x.size):
        moved = x.astype(np.complex128)
        moved.flat[i] += 1j * STEP
        slopes[i] = along(moved)
    return slopes.reshape(x.shape)
