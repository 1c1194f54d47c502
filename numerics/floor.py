"""The noise floor: how much rounding alone disturbs each tensor of a case.

The float64 program is run several times with Monte-Carlo arithmetic of a 24-bit significand
(`adapters.noise`); the floor of a tensor is the root mean square of the normwise errors of these
runs. Rounding noise is proportional to the unit roundoff, so one measurement serves every
precision that is fine enough for this to hold.

Updates have a second source. A parameter p is stored with 24 bits after each step, which costs
up to u |p| per element and step. With errors independent and uniform in [-u |p|, u |p|], n steps
cost u sqrt(n / 3) ||p||, relative to the update ||p_n - p_0||. For a normalisation's scale, which
is near 1 and moves by 1e-3 a step, this is a thousand times the noise of its gradient. (Steps that
are all equal make equal errors, sqrt(n) times as much; AdamW's first steps come close to that.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from numerics.errors import normwise

BITS = 24
RUNS = 4

Tensors = Mapping[str, np.ndarray]


def measure(clean: Tensors, noisy: Sequence[Tensors], params: Tensors) -> dict[str, float]:
    """Relative noise floor per tensor, from one clean and several disturbed runs of a case whose
    initial parameters are `params`."""
    floors = {}
    for name, value in clean.items():
        arithmetic = math.sqrt(np.mean([normwise(run[name], value) ** 2 for run in noisy]))
        floors[name] = math.hypot(arithmetic, _storage(name, value, params))
    return floors


def _storage(name: str, update: np.ndarray, params: Tensors) -> float:
    """What storing the parameter costs an `update@n:parameter`; 0 for every other tensor."""
    kind, _, parameter = name.partition(":")
    quantity, _, steps = kind.partition("@")
    if quantity != "update":
        return 0.0
    moved = float(np.linalg.norm(update))
    stored = float(np.linalg.norm(params[parameter] + update))
    return 2.0**-BITS * math.sqrt(int(steps) / 3) * stored / moved if moved else math.inf
