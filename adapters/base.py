"""What a framework has to provide: one file with a class `Adapter`.

The file is imported in a worker only, and is the only place that imports its framework.
`adapters/torch_eager.py` is the shortest complete example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from adapters import model as models
from adapters.noise import NoisyOps
from adapters.ops import Array, Ops, Unsupported
from adapters.training import RECIPES, Recipe

__all__ = ["Adapter", "Gradients", "Noise", "Program", "Spec", "Unsupported", "require"]

FLOAT = {"fp64": "float64", "fp32": "float32"}  # precision -> dtype of every tensor in it


@dataclass(frozen=True)
class Noise:
    """Asks for rounding noise of a `bits`-bit significand in every operation (`adapters.noise`)."""

    bits: int
    seed: int


@dataclass(frozen=True)
class Spec:
    """What to build. Plain data, the same for every adapter."""

    model: str
    size: str
    mode: str  # infer | train
    device: str  # cpu | cuda
    precision: str  # fp64 | fp32
    recipe: str  # a name in `adapters.training.RECIPES`; of no effect for infer
    threads: int
    noise: Noise | None = None

    @property
    def dtype(self) -> str:
        """The name of the floating-point dtype. Raises Unsupported for other precisions."""
        if self.precision not in FLOAT:
            raise Unsupported(f"precision {self.precision!r}; there are {', '.join(FLOAT)}")
        return FLOAT[self.precision]

    @property
    def training(self) -> Recipe:
        return RECIPES[self.recipe]

    def network(self, ops: Ops) -> Network:
        """The model over `ops`. Made once per program: a step looks nothing up, and a tracing
        compiler sees tensor operations only."""
        model = models.get(self.model)
        if self.noise is not None:
            ops = NoisyOps(ops, bits=self.noise.bits, seed=self.noise.seed)
        return Network(ops, model.forward, model.sizes[self.size], self.mode == "train")

    def forward(self, ops: Ops, p: Mapping[str, Array], x: Array) -> tuple[Array, dict[str, Array]]:
        """`network(ops).forward(p, x)`, for callers that run it once."""
        return self.network(ops).forward(p, x)


@dataclass(frozen=True)
class Network:
    """A model of one size over one implementation of the vocabulary."""

    ops: Ops
    model: models.Forward
    config: Any
    train: bool

    def forward(self, p: Mapping[str, Array], x: Array) -> tuple[Array, dict[str, Array]]:
        """(output, updated buffers); `p` holds parameters and buffers."""
        return self.model(self.ops, p, x, config=self.config, train=self.train)

    def loss(
        self, p: Mapping[str, Array], x: Array, y: Array
    ) -> tuple[Array, Array, dict[str, Array]]:
        """(loss, output, updated buffers) of one batch."""
        output, buffers = self.forward(p, x)
        return self.ops.cross_entropy(output, y), output, buffers


@dataclass(frozen=True)
class Gradients:
    """The quantities of one training step before the optimizer acts, as NumPy arrays."""

    loss: np.ndarray
    output: np.ndarray
    gradients: dict[str, np.ndarray]  # by parameter name, not clipped


class Program(Protocol):
    """One model, ready to run. Only one is alive in a worker at a time."""

    #: Why the speed of this program must never be published; empty where it may be.
    untimed: str

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        """Sets all state: parameters and buffers as given, optimizer as before its first step."""

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Brings {"x": (N, ...) floats, "y": (N,) integers} to the device; floats in the program's
        dtype."""

    def step(self, batch: Any) -> Any:
        """Enqueues one step on what `put` returned and does not wait. infer: returns the output.
        train: updates the state in place and returns the loss before the update."""

    def wait(self, value: Any) -> None:
        """Returns when `value`, and all work enqueued before it, is done."""

    def fetch(self, value: Any) -> np.ndarray:
        """What `step` returned, as a NumPy array. Waits."""

    def gradients(self, batch: Any) -> Gradients:
        """The gradient at the current state, which it leaves as it is. train only."""

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Copies of the current parameters and buffers, in boundary layouts. train only."""

    def facts(self) -> dict[str, Any]:
        """What was really done, read back from the framework after at least one step: at least
        `parameter_dtypes`, `output_dtype`, `device` and `threads`."""


class Adapter(Protocol):
    """A framework. Constructed once per worker with no arguments, before anything else runs."""

    framework: str  # what it runs on: "torch", "tensorflow", ...
    ops: type[Ops]  # the vocabulary's implementation, for the contract test

    def versions(self) -> dict[str, str]:
        """Distribution name -> version of everything whose version changes results."""

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        """A program with this state. Raises Unsupported with a reason that users read."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether `error` is the framework's way to say that memory ran out."""


def require(condition: bool, reason: str) -> None:
    """Raises Unsupported(reason) unless `condition`."""
    if not condition:
        raise Unsupported(reason)
