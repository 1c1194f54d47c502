"""The noise floor: how much rounding alone disturbs each tensor of a case.

The float64 program is run several times with Monte-Carlo arithmetic (Parker 1997) in the
precision's significand; the floor of a tensor is the root mean square of the normwise errors of
these runs. In PyTorch every kernel of the forward and backward pass and of the optimizer is
disturbed (`adapters.torch_noise`); where PyTorch is missing, every operation of the vocabulary
(`adapters.noise`). The floor of float64 is that of float32 times 2^-29: noise this small is
proportional to the unit roundoff.

Where only the vocabulary is disturbed, updates have a second source. A parameter p is stored with
24 bits after each step, which costs up to u |p| per element and step. With errors independent and
uniform in [-u |p|, u |p|], n steps cost u sqrt(n / 3) ||p||, relative to the update ||p_n - p_0||.
For a normalisation's scale, which is near 1 and moves by 1e-3 a step, this is a thousand times the
noise of its gradient. (Steps that are all equal make equal errors, sqrt(n) times as much; AdamW's
first steps come close to that.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from adapters.noise import Noise
from numerics.errors import normwise
from numerics.sketch import sketched

BITS = 24
RUNS = 8
#: Precision -> the noise that rounding in it makes. In a framework's own mixed precision, whatever
#: it is, every operation may give its result in 16 bits.
NOISES = {
    "fp32": Noise(24, 0),
    "tf32": Noise(24, 0, input_bits=11),
    "bf16": Noise(8, 0),
    "fp16": Noise(11, 0),
    "amp_bf16": Noise(24, 0, input_bits=8, result_bits=8),
    "amp_fp16": Noise(24, 0, input_bits=11, result_bits=11),
    "amp_bf16_native": Noise(24, 0, input_bits=8, result_bits=8, throughout=True),
    "amp_fp16_native": Noise(24, 0, input_bits=11, result_bits=11, throughout=True),
}

Tensors = Mapping[str, np.ndarray]


def noises(precision: str) -> list[Noise]:
    """The disturbances whose errors make the floor of a precision."""
    return [replace(NOISES[precision], seed=seed) for seed in range(RUNS)]


def measure(clean: Tensors, noisy: Iterable[Tensors], params: Tensors | None) -> dict[str, float]:
    """Relative noise floor per tensor, from one clean and several disturbed runs of a case whose
    initial parameters are `params`; None where the runs have rounded what they store. The clean run
    may have gone on for longer."""
    squares = [{name: normwise(value, clean[name]) ** 2 for name, value in run.items()}
               for run in noisy]  # fmt: skip
    floors = {}
    for name in squares[0]:
        value = clean[name]
        arithmetic = math.sqrt(np.mean([run[name] for run in squares]))
        storage = 0.0 if params is None else _storage(name, value, params)
        floors[name] = math.hypot(arithmetic, storage)
    return floors


def _storage(name: str, update: np.ndarray, params: Tensors) -> float:
    """What storing the parameter costs an `update@n:parameter`, or storing its average that; 0 for
    every other tensor."""
    kind, _, parameter = name.partition(":")
    quantity, _, steps = kind.partition("@")
    if quantity not in ("update", "average"):
        return 0.0
    moved = float(np.linalg.norm(update))
    start = params[parameter]
    if update.shape != start.shape:
        start = sketched(parameter, start)
    stored = float(np.linalg.norm(start + update))
    return 2.0**-BITS * math.sqrt(int(steps) / 3) * stored / moved if moved else math.inf
