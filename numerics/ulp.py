"""How far single elements of elementwise operations may be off, in units in the last place.

A normwise error forgets small elements beside large ones: an exponential that is 0 below -10 is
right to 20 digits beside e^80. So what acts on every element alone is judged element by element as
well: |value - reference| <= allowed * ulp(reference), where ulp(y) = 2^(e - p + 1) for 2^e <= |y| <
2^(e + 1) and p significant bits.

What is allowed follows from how an operation is made of others. The inputs are held exactly, so
nothing is added for them.

    FUNCTION    for each elementary function. Libraries state at most 4: SLEEF 1.0 and 3.5 (its u10
                and u35 variants), Intel's VML 1 and 4 (HA and LA)
    ROUNDING    for each further addition, product, quotient or square root, which IEEE 754 rounds
                to the nearest: half a unit of that result, which may be a whole one of the next
    REFERENCE   in float64 only, for functions: NumPy's own error, which is at most 1.96 against 160
                bits on 800 arguments of each function

No operation here amplifies the error of the one before: of sigmoid 1 / (1 + e^-x) the exponential
counts by e^-x / (1 + e^-x) < 1, and so it is in silu, and in softplus max(x, 0) + log1p(e^-|x|).
That is why gelu has no such bound: 1 + erf(x / sqrt 2) cancels below -1, so that no digit has to
be left where the result is far below x. It is judged by magnitudes instead.

Results below the smallest normal number may be flushed to zero, as XLA, Eigen and oneDNN do.
"""

from __future__ import annotations

import numpy as np

from adapters.ops import EXACT

FUNCTION, ROUNDING, REFERENCE = 4.0, 1.0, 2.0
#: Precision -> (significant bits, exponent of the smallest normal number).
FORMATS = {"fp64": (53, -1022), "fp32": (24, -126), "bf16": (8, -126), "fp16": (11, -14)}
#: Operation -> (elementary functions, further operations that round) that it is made of.
_MADE_OF = {
    "add": (0, 1), "subtract": (0, 1), "multiply": (0, 1), "divide": (0, 1), "sqrt": (0, 1),
    "leaky_relu": (0, 2),  # the slope is rounded as well
    "exp": (1, 0), "log": (1, 0), "sin": (1, 0), "cos": (1, 0), "tanh": (1, 0),
    "sigmoid": (1, 2), "silu": (1, 3), "softplus": (2, 1),
}  # fmt: skip
#: Operations that move or select what they are given; `constant` and `cast` are there to round.
_EXACT = EXACT - {"constant", "cast"}


def allowed(operation: str, precision: str) -> float | None:
    """Units in the last place that an element of an operation's result may be off; None where it
    is not made of its own elements alone, or has no such bound."""
    if operation in _EXACT:
        return 0.0
    if operation not in _MADE_OF:
        return None
    functions, roundings = _MADE_OF[operation]
    own = REFERENCE if functions and precision == "fp64" else 0.0
    return functions * FUNCTION + roundings * ROUNDING + own


def farthest(value: np.ndarray, wanted: np.ndarray, precision: str) -> tuple[float, int]:
    """How far the worst element is from the reference, in units in the last place of the latter in
    `precision`, and its place in the flattened tensor: (0, 0) where nothing is finite. Of what is
    below the smallest normal number, an error up to that number counts nothing."""
    value, wanted = (np.ravel(x).astype(np.float64) for x in (value, wanted))
    finite = np.isfinite(wanted) & np.isfinite(value)
    if not finite.any():
        return 0.0, 0
    bits, least = FORMATS[precision]
    _, exponent = np.frexp(np.where(finite, wanted, 0.0))
    unit = np.ldexp(1.0, np.maximum(exponent - 1, least) - bits + 1)
    away = np.abs(np.where(finite, value, 0.0) - np.where(finite, wanted, 0.0))
    subnormal = np.abs(wanted) < 2.0**least
    away = np.where(subnormal & (away <= 2.0**least), 0.0, away / unit)
    worst = int(np.argmax(away))
    return float(away[worst]), worst
