"""Exercises: small computations with inputs, and what NumPy says that they should give.

The reference of a gradient is the complex step (Squire and Trapp 1998) along every element of
every input: Im <cotangent, f(x + i h e)> / h with h = 1e-30. No framework and no automatic
differentiation is involved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adapters.exercise import Call
from adapters.numpy_reference import NumpyOps
from adapters.ops import Ops

Tensors = Mapping[str, np.ndarray]
STEP = 1e-30
#: Elements by which an exercise may be differentiated: each costs NumPy a forward pass.
ELEMENTS = 600
PRECISIONS = ("fp64", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Exercise:
    """A computation, its inputs, and how its results are judged.

    subject     what its verdict counts for: an operation, say
    name        tells the exercises of one subject apart
    inputs      name -> values. Floating-point values have to survive bfloat16 and float16 (`coarse`),
                unless `precisions` says that the exercise is not run there: then every precision
                sees the same numbers, and has the same reference
    by          inputs by which the results are differentiated; at most ELEMENTS elements together
    exact       every precision has to give exactly the reference
    bound       largest normwise error in float64; above 1e-10 only where NumPy itself cannot do
                better, with the reason beside it in the table
    """

    subject: str
    name: str
    call: Call
    inputs: Tensors
    by: tuple[str, ...] = ()
    exact: bool = False
    precisions: tuple[str, ...] = PRECISIONS
    bound: float = 1e-10

    def __post_init__(self) -> None:
        elements = sum(self.inputs[name].size for name in self.by)
        if elements > ELEMENTS:
            raise ValueError(f"{self.key}: {elements} elements, but at most {ELEMENTS} are allowed")
        if "bf16" in self.precisions:
            for name, value in self.inputs.items():
                if value.dtype.kind == "f" and not _same(value, coarse(value)):
                    raise ValueError(f"{self.key}: {name} has values that bfloat16 does not hold")

    @property
    def key(self) -> str:
        return f"{self.subject}/{self.name}"


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def coarse(x: np.ndarray) -> np.ndarray:
    """`x` rounded to 8 significant bits, which bfloat16 holds, and float16 where it is in range."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.rint(mantissa * 2**8), exponent - 8)


def cotangents(exercise: Exercise, outputs: Tensors) -> dict[str, np.ndarray]:
    """A fixed random vector per floating-point output: small integers for an exact exercise."""
    made = {}
    for name, value in outputs.items():
        if value.dtype.kind != "f":
            continue
        digest = hashlib.sha256(f"{exercise.key}:{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        drawn = rng.integers(1, 3, value.shape) * rng.choice([-1.0, 1.0], value.shape)
        made[name] = drawn if exercise.exact else coarse(rng.normal(size=value.shape))
    return made


def expected(exercise: Exercise, ops: Ops | None = None) -> dict[str, np.ndarray]:
    """The outputs by name, and `gradient:` tensors by input, in float64. Outputs that are integers
    or booleans stay what they are."""
    ops = ops or NumpyOps()
    outputs = {n: np.asarray(v) for n, v in exercise.call(ops, exercise.inputs).items()}
    tensors = dict(outputs)
    seeds = cotangents(exercise, outputs)
    for name in exercise.by:
        tensors[f"gradient:{name}"] = _gradient(exercise, ops, name, seeds)
    return tensors


def _gradient(exercise: Exercise, ops: Ops, name: str, seeds: Tensors) -> np.ndarray:
    x = exercise.inputs[name]
    slopes = np.zeros(x.size)
    for i in range(x.size):
        moved = x.astype(np.complex128)
        moved.flat[i] += 1j * STEP
        outputs = exercise.call(ops, {**exercise.inputs, name: moved})
        slopes[i] = sum(float(np.sum(np.imag(outputs[n]) * seed)) for n, seed in seeds.items())
    return (slopes / STEP).reshape(x.shape)
