"""What a framework has to provide: one file with a class `Adapter`.

The file is imported in a worker only, and is the only place that imports its framework. Its
classes extend those below: what they leave out has a default, or is `unsupported`.
`adapters/torch_eager.py` is the shortest complete example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adapters import faults
from adapters import model as models
from adapters.noise import Noise, NoisyOps
from adapters.ops import Array, Ops, Unsupported
from adapters.policy import Policy, PolicyOps, declared
from adapters.precisions import PRECISIONS, Precision
from adapters.quantization import Layer
from adapters.training import RECIPES, Recipe
from adapters.trees import Tree

__all__ = [
    "Adapter", "Body", "Function", "Gradients", "Noise", "Probe", "Program", "Setting", "Spec",
    "State", "Stopwatch", "Unsupported", "require",
]  # fmt: skip

FLOAT = {"fp64": "float64", "fp32": "float32"}  # precision -> dtype of every tensor in it
#: Precision -> dtype of every tensor of a single operation.
DTYPES = {name: p.dtype for name, p in PRECISIONS.items() if not (p.low or p.scheme)}

NO_MASTER_WEIGHTS = (
    "training needs parameters of at least 32 bits: AdamW's 1e-8 is 0 in float16, and 0.999 is 1 "
    "in bfloat16; amp_bf16 and amp_fp16 keep them"
)
NO_INTEGERS = "these integers are made of weights that are trained; int8_qat trains for them"

Body = Callable[[Ops, Mapping[str, Array]], Mapping[str, Array]]  # (ops, inputs) -> outputs


@dataclass(frozen=True)
class Setting:
    """How to run a computation. Plain data, the same for every adapter."""

    device: str  # cpu | cuda
    precision: str  # a name in DTYPES
    threads: int
    noise: Noise | None = None

    @property
    def dtype(self) -> str:
        """The name of the floating-point dtype. Raises Unsupported for other precisions."""
        if self.precision not in DTYPES:
            raise Unsupported(f"precision {self.precision!r}; there are {', '.join(DTYPES)}")
        return DTYPES[self.precision]

    def noisy(self, ops: Ops) -> Ops:
        """`ops`, with rounding noise where that is asked for."""
        return NoisyOps(ops, self.noise) if self.noise else ops


@dataclass(frozen=True)
class Spec:
    """What to build. Plain data, the same for every adapter."""

    model: str
    size: str
    mode: str  # infer | train | generate
    device: str  # cpu | cuda
    precision: str  # a name in `adapters.precisions.PRECISIONS`
    recipe: str  # a name in `adapters.training.RECIPES`; of effect for train only
    threads: int
    noise: Noise | None = None
    length: int = 0  # of the input sequence; 0: the model's own
    fault: str = ""  # of `adapters.faults`, planted to try the judge; empty: none

    @property
    def numbers(self) -> Precision:
        """What the precision stands for. Raises Unsupported for a name that is not known, for TF32
        where there are no tensor cores, and for training without master weights."""
        if self.precision not in PRECISIONS:
            raise Unsupported(f"precision {self.precision!r}; there are {', '.join(PRECISIONS)}")
        numbers = PRECISIONS[self.precision]
        require(not numbers.tf32 or self.device == "cuda", "TF32 is a mode of CUDA's tensor cores")
        refused = NO_INTEGERS if numbers.scheme else NO_MASTER_WEIGHTS
        require(numbers.trains or not self.trains, refused)
        return numbers

    @property
    def dtype(self) -> str:
        """The name of the dtype of parameters."""
        return self.numbers.dtype

    def vocabulary(self, make: Callable[[str], Ops], *, native: Policy) -> Ops:
        """The vocabulary in this precision: make(dtype), or two such under a policy. `native` is
        the framework's own."""
        numbers = self.numbers
        if not numbers.low:
            return make(numbers.dtype)
        policy = native if numbers.native else declared
        dtypes = numbers.dtype, numbers.low
        return PolicyOps(make(numbers.dtype), make(numbers.low), policy, dtypes)

    @property
    def trains(self) -> bool:
        return self.mode == "train"

    @property
    def training(self) -> Recipe:
        recipe = RECIPES[self.recipe]
        return faults.in_recipe(recipe, self.fault) if self.fault else recipe

    def network(self, ops: Ops) -> Network:
        """The model over `ops`. Made once per program: a step looks nothing up, and a tracing
        compiler sees tensor operations only."""
        model = models.get(self.model)
        ops = faults.in_ops(ops, self.fault, self.dtype, threads=self.threads)
        if self.noise is not None:
            ops = NoisyOps(ops, self.noise)
        config = model.config(self.size, self.length)
        return Network(ops, model, config, self.mode)

    def forward(self, ops: Ops, p: Mapping[str, Array], x: Tree) -> tuple[Tree, dict[str, Array]]:
        """`network(ops).forward(p, x)`, for callers that run it once."""
        return self.network(ops).forward(p, x)


@dataclass(frozen=True)
class Network:
    """A model of one size over one implementation of the vocabulary."""

    ops: Ops
    model: models.Model
    config: Any
    mode: str

    def forward(self, p: Mapping[str, Array], x: Tree) -> tuple[Tree, dict[str, Array]]:
        """(output, updated buffers); `p` holds parameters and buffers."""
        if self.mode == "generate":
            require(self.model.generate is not None, "this model generates nothing")
            return self.model.generate(self.ops, p, x, config=self.config)  # type: ignore[misc]
        return self.model.forward(self.ops, p, x, config=self.config, train=self.mode == "train")

    def loss(
        self, p: Mapping[str, Array], x: Tree, y: Tree
    ) -> tuple[Array, Tree, dict[str, Array]]:
        """(loss, output, updated buffers) of one batch."""
        output, buffers = self.forward(p, x)
        return self.model.loss(self.ops, output, y), output, buffers


@dataclass(frozen=True)
class Gradients:
    """The quantities of one training step before the optimizer acts, as NumPy arrays."""

    loss: np.ndarray
    output: Tree
    gradients: dict[str, np.ndarray]  # by the name of each trained parameter, not clipped


@dataclass(frozen=True)
class State:
    """All that training goes on from, as NumPy arrays in boundary layouts.

    averages    by the name of each trained parameter, where the recipe keeps them
    slots       what the optimizer keeps, by its letter in `adapters.training`, then by the name of
                each trained parameter: {"m": {"fc1/w": ..}, "v": ..}; empty before the first step,
                or everything as it starts
    steps       that were done, without those that loss scaling left out
    scaling     {"scale", "good"} of loss scaling: the steps in a row since it changed; empty
                where there is none
    """

    params: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    averages: dict[str, np.ndarray] = field(default_factory=dict)
    slots: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    steps: int = 0
    scaling: dict[str, np.ndarray] = field(default_factory=dict)

    def flat(self) -> dict[str, np.ndarray]:
        """One name for each array: "parameter:fc1/w", "slot:m:fc1/w", "steps"."""
        named = {"parameter": self.params, "buffer": self.buffers, "average": self.averages}
        named |= {"scaling": self.scaling}
        named |= {f"slot:{letter}": values for letter, values in self.slots.items()}
        arrays = {f"{kind}:{n}": v for kind, values in named.items() for n, v in values.items()}
        return {**arrays, "steps": np.array(self.steps)}

    @classmethod
    def of(cls, flat: Mapping[str, np.ndarray]) -> State:
        """The state whose `flat` form this is."""
        parts: dict[str, dict[str, np.ndarray]] = {
            name: {} for name in ("parameter", "buffer", "average", "scaling")
        }
        slots: dict[str, dict[str, np.ndarray]] = {}
        for name, value in flat.items():
            kind, _, rest = name.partition(":")
            if kind == "slot":
                letter, _, tensor = rest.partition(":")
                slots.setdefault(letter, {})[tensor] = value
            elif kind in parts:
                parts[kind][rest] = value
        params, buffers, averages, scaling = parts.values()
        return cls(params, buffers, averages, slots, int(flat["steps"]), scaling)


class Stopwatch(Protocol):
    """Is told what the parts of a first step take. Adapters read no clock of their own."""

    def __call__(self, part: str) -> AbstractContextManager[None]:
        """Times what happens inside; `part` is "trace" or "compile"."""

    def note(self, part: str, seconds: float) -> None:
        """Adds seconds that the framework itself measured."""


@dataclass(frozen=True)
class Probe:
    """Something that drives the device to one of its limits, for one of `results.metrics.LIMITS`.
    `step` enqueues `work` operations or bytes, `wait` waits for what it returned."""

    step: Callable[[], Any]
    wait: Callable[[Any], None]
    work: float


class Program:
    """One model, ready to run. Only one is alive in a worker at a time. A subclass has to define
    what raises NotImplementedError here; `gradients` and `state` only for training."""

    #: Why the speed of this program must never be published; empty where it may be.
    untimed: str = ""

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        """Sets all state: parameters and buffers as given, optimizer as before its first step."""
        raise NotImplementedError

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        """Brings a batch (`adapters.model.Model`) to the device, floats in the program's dtype.
        `wait` has to accept what this returns."""
        raise NotImplementedError

    def memory_of(self, batch: Any) -> list[np.ndarray]:
        """The tensors of what `put` returned, as arrays over the very memory in which they lie,
        where the framework lets its users write there; else as they are now. For a judge, who looks
        whether a step changes its input, and changes it afterwards."""
        return []

    def step(self, batch: Any) -> Any:
        """Enqueues one step on what `put` returned and does not wait. infer: returns the output.
        train: updates the state in place and returns the loss before the update."""
        raise NotImplementedError

    def wait(self, value: Any) -> None:
        """Returns when `value`, and all work enqueued before it, is done."""
        raise NotImplementedError

    def fetch(self, value: Any) -> Tree:
        """What `step` returned, as NumPy arrays. Waits."""
        raise NotImplementedError

    def gradients(self, batch: Any) -> Gradients:
        """The gradient at the current state, which it leaves as it is. train only."""
        raise Unsupported("this adapter computes no gradients: it has no Program.gradients")

    def calibrate(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Finds the ranges of activations on batches in the form of `put`. Called once after
        `load`, before anything else, where the scheme of the precision has a calibration."""
        raise Unsupported("this adapter does not calibrate")

    def layers(self, batch: Any) -> list[Layer]:
        """Every layer that is quantized, as one step on what `put` returned ran it, in the order
        in which they ran. The tensors are those of the very program that `step` runs, or of one
        that differs from it in nothing but in that it keeps them."""
        raise Unsupported("this adapter does not quantize")

    def seen_output(self) -> Any | None:
        """What `layers` had as the output of the program that it ran, as `fetch` returns it; None
        where that program is the one that `step` runs."""
        return None

    def export(self, folder: Path) -> None:
        """Writes what inference needs, and nothing else, in the framework's own usual format. Its
        size is the size of the model."""
        raise Unsupported("this adapter writes no model for inference")

    def state(self) -> State:
        """A copy of the current state. train only."""
        raise Unsupported("this adapter does not train: it has no Program.state")

    def resume(self, state: State) -> None:
        """Sets all state to what `state` returned, perhaps in another framework. train only."""
        raise Unsupported("this adapter takes no training over: it has no Program.resume")

    def save(self, folder: Path) -> None:
        """Writes all state in the framework's own usual format. train only."""
        raise Unsupported("this adapter keeps no training: it has no Program.save")

    def restore(self, folder: Path) -> None:
        """Sets all state to what `save` wrote. train only."""
        raise Unsupported("this adapter keeps no training: it has no Program.restore")

    def facts(self) -> dict[str, Any]:
        """What was really done, read back from the framework after at least one step. Everything
        is recorded; these names are checked by `harness.proof`, and a program that did something
        else than it was asked fails:

        parameter_dtypes   names of the parameters' dtypes, such as ["float32"]
        output_dtype       name of the output's dtype (`adapters.trees.dtypes`)
        tf32               whether float32 may be rounded to TF32; None where it does not tell
        policy             in mixed precision, operation -> names of the dtypes of its results
        weight_dtypes      of quantized layers: name of the weight -> name of the dtype in which the
                           framework keeps it, such as "int8"
        integer_kernels    of quantized layers: names of the kernels, operations or instructions
                           that multiply, as a profiler, a graph or generated code has them
        device_kind        "cpu" or "cuda", where the parameters lie
        threads            as the framework reports them; None where it does not tell
        compilations       how often a step was traced or compiled so far; None where it is not
        graph_breaks       how often a compiler gave up and ran Python instead
        compiled_share     the share of the captured functions that were compiled, 0 to 1
        foreign_nodes      device or provider -> nodes that run there and should not
        held_bytes         {"parameter", "gradient", "optimizer"} -> bytes: of parameters with
                           buffers, of a step's gradients, of what the optimizer keeps with averages
        """
        raise NotImplementedError

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        """`step`, but tells `watch` what tracing and compiling take, where the framework lets
        them be told apart. Called once, first."""
        return self.step(batch)

    def device_seconds(self, run: Callable[[], None]) -> float | None:
        """Calls `run`, once, and returns the seconds between two events on the device around it;
        None where the device has none."""
        run()
        return None

    def profile(self, batch: Any, steps: int, folder: Path) -> Path:
        """Runs steps under the framework's own profiler. Returns a file in `folder`: a trace that
        Chrome and Perfetto open, .json or .json.gz."""
        raise Unsupported("this adapter has no profiler")


class Function:
    """A computation over the vocabulary, as the framework runs it: eagerly, traced or compiled.

    Tensors come and go as NumPy arrays by name. Floating-point inputs are converted to the
    setting's dtype, and results that NumPy has no dtype for (bfloat16) to float32, which holds them
    exactly; integers and booleans stay what they are."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of the body."""
        raise NotImplementedError

    def pullback(
        self,
        inputs: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
        by: Sequence[str],
    ) -> dict[str, np.ndarray]:
        """The gradient, by each input in `by`, of the sum of <cotangent, output> over the outputs
        in `cotangents`. By an input on which that does not depend: zeros."""
        raise Unsupported("this adapter computes no gradients")

    def counts(self) -> dict[str, int | None]:
        """{"traces", "compilations", "graph_breaks"} so far, each None where there is no such thing
        or the framework does not tell: how often the body was run symbolically, how many
        executables were made of it, and how often a compiler gave up."""
        return {"traces": None, "compilations": None, "graph_breaks": None}

    def compiled_share(self) -> float | None:
        """The share of what was called so far that ran as the adapter says that its framework runs
        things: as a graph, or compiled; 0 to 1. Below 1 its results are another thing's. None
        where functions run eagerly."""
        return None


class Adapter:
    """A framework. Constructed once per worker with no arguments, before anything else runs."""

    framework: str  # what it runs on: "torch", "tensorflow", ...

    #: How that runs operations: one by one ("eager"), as a "graph", or as what a compiler made of
    #: them ("inductor", "xla"). Known deviations of a framework name it.
    execution: str = "eager"

    ops: type[Ops]  # the vocabulary's implementation, for the contract test
    precisions: tuple[str, ...] = tuple(FLOAT)

    #: Whether the framework keeps compiled programs on disk and a new process finds them.
    compile_cache: bool = False

    #: Whether its programs with noise (`Spec.noise`) round parameters when they are stored, too.
    disturbs_storage: bool = False

    def versions(self) -> dict[str, str]:
        """Distribution name -> version of everything whose version changes results."""
        raise NotImplementedError

    def prepare(self, precision: str) -> None:
        """Imports what only programs of this precision need: neither the time nor the memory that
        an import takes is a program's. Raises Unsupported where it is not installed."""

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        """A program with this state. Raises Unsupported with a reason that users read."""
        raise NotImplementedError

    def function(self, body: Body, setting: Setting) -> Function:
        """`body` over this adapter's vocabulary. Raises Unsupported with a reason."""
        raise Unsupported("this adapter runs whole models only: it has no Adapter.function")

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether `error` is the framework's way to say that memory ran out."""
        return isinstance(error, MemoryError)

    def is_missing_kernel(self, error: BaseException) -> bool:
        """Whether `error` is the framework's way to say that it has no kernel for an operation on
        this device and dtype: that is `unsupported`, and no failure."""
        return isinstance(error, NotImplementedError)

    def default(self, trap: int, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        """What the framework's own usual API gives with its default arguments, on the CPU, for a
        trap of `suites.conformance.traps`; and in a few words what the default is. An adapter that
        inherits this from another adapter has that one's defaults. Raises Unsupported."""
        raise Unsupported(f"this adapter has no default for trap {trap}")

    def devices(self) -> list[str]:
        """Those of "cpu" and "cuda" that the framework can use here."""
        return ["cpu"]

    def libraries(self) -> dict[str, str]:
        """What the framework was built with, as it says: BLAS, oneDNN, compilers, flags."""
        return {}

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        """Drives the device to a limit of `results.metrics.LIMITS`. Raises Unsupported."""
        raise Unsupported(f"this adapter does not measure {limit}")

    def reset_device_memory(self) -> bool:
        """Sets the device's memory statistics to what is allocated now. False where the framework
        cannot: then a figure needs a process of its own."""
        return False

    def device_memory(self) -> dict[str, int] | None:
        """{"peak": bytes, "reserved": bytes} by the framework's allocator since the reset;
        "reserved" where it says so. None where it keeps no such statistics, never 0."""
        return None


def require(condition: bool, reason: str) -> None:
    """Raises Unsupported(reason) unless `condition`."""
    if not condition:
        raise Unsupported(reason)
