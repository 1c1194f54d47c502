"""Names -> adapters, without importing any of them.

An adapter is a module with a class `Adapter`. It is known by its name here, by an entry point in
the group `assay.adapters` (name = dotted module), or by `--adapter-module`, which takes a dotted
module or its file; the module's last part is then its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path

from adapters import modules as places

BUILT_IN = (
    "torch_eager", "torch_compile", "tf_graph", "tf_xla", "jax_jit", "onnx_runtime", "litert",
)  # fmt: skip

#: One adapter of each framework that trains in float64: their consensus is the oracle.
ORACLE = ("torch_eager", "jax_jit", "tf_graph")


@dataclass(frozen=True)
class Difference:
    """What a native control computes otherwise: in tensors whose name matches the pattern
    `tensors`, up to a normwise error of `within`."""

    tensors: str
    within: float
    reason: str


@dataclass(frozen=True)
class Control:
    """A native control (`adapters.controls`): networks as a framework's users write them.

    adapter     that they are compared with
    models      that it has, all of them at size `size`
    batches     model -> examples per step, where the model's usual batch is too small: its step
                would compare Python with Python
    differs     model -> what is not quite the same there
    """

    adapter: str
    models: tuple[str, ...]
    size: str = "small"
    batches: Mapping[str, int] = field(default_factory=dict)
    differs: Mapping[str, Sequence[Difference]] = field(default_factory=dict)

    def difference(self, model: str, tensor: str) -> Difference | None:
        """Why a tensor of a model may be another one."""
        known = self.differs.get(model, ())
        return next((each for each in known if fnmatchcase(tensor, each.tensors)), None)


_OWN = ("mlp", "convnet", "vit", "gpt")  # written in `adapters.controls`
_LARGE = {"mlp": 1024}
_VARIANCE = Difference(
    "buffer@*/var", 2e-4, "its running variance divides by n, the pinned one by n - 1"
)
_VERSION_1 = Difference(
    "*", math.inf,
    "ResNet-50 version 1: the stride of a block is in its first 1x1 convolution, where it takes 6% "
    "fewer operations; convolutions have biases; padding is TensorFlow's own",
)  # fmt: skip

#: Name -> native control.
CONTROLS: Mapping[str, Control] = {
    "torch_native": Control("torch_eager", _OWN, batches=_LARGE),
    "torch_native_compile": Control("torch_compile", _OWN, batches=_LARGE),
    "transformers_native": Control("torch_eager", ("vit", "bert", "gpt", "resnet50")),
    "keras_native": Control("tf_graph", _OWN, batches=_LARGE, differs={"convnet": (_VARIANCE,)}),
    "keras_xla": Control("tf_xla", _OWN, batches=_LARGE, differs={"convnet": (_VARIANCE,)}),
    "keras_applications": Control(
        "tf_graph",
        ("resnet50",),
        size="full",
        batches={"resnet50": 1},
        differs={"resnet50": (_VERSION_1,)},
    ),
    "flax_native": Control("jax_jit", _OWN, batches=_LARGE, differs={"convnet": (_VARIANCE,)}),
}


#: What preset quick asks of adapters that take long to start a computation: precision -> which
#: exercises of each operation are done in it. ALL of them; the ESSENTIAL ones, which together
#: notice every planted mistake (`suites.conformance.essentials`); or the FIRST of these, which
#: notices most, several operations making one program. Presets
#: standard and full ask for everything of everybody, and so does quick of who is not named here.
#: The slowest leads.
ALL, ESSENTIAL, FIRST = "all", "essential", "first"
QUICK: Mapping[str, Mapping[str, str]] = {
    "jax_jit": {"fp64": ESSENTIAL, "fp32": ESSENTIAL, "bf16": FIRST},
    "tf_graph": {"fp64": ESSENTIAL, "fp32": ESSENTIAL, "bf16": FIRST},
    "tf_xla": {"fp32": FIRST},
    "torch_compile": {"fp32": FIRST},
    "litert": {},  # which runs no single operations
}


class UnknownName(ValueError):
    """A name that nothing has. The text lists the valid names and the nearest match."""


@dataclass(frozen=True)
class Registry:
    """Adapter name -> dotted module path; `folders` are where modules lie that Python does not find
    by itself, and `named` are the adapters that somebody named a module of."""

    modules: Mapping[str, str]
    folders: tuple[Path, ...] = ()
    named: tuple[str, ...] = ()

    @classmethod
    def load(cls, extra_modules: Sequence[str] = ()) -> Registry:
        """Built-in adapters, then entry points, then `extra_modules`: dotted modules, or files; the
        later one wins. Raises UnknownName for a file that is not there."""
        modules = {name: f"adapters.{name}" for name in BUILT_IN}
        modules |= {point.name: point.value for point in entry_points(group="assay.adapters")}
        folders: dict[Path, None] = {}
        named: list[str] = []
        for text in extra_modules:
            try:
                module, folder = places.located(text)
            except ValueError as error:
                raise UnknownName(f"--adapter-module {text}: {error}") from None
            named.append(module.rpartition(".")[2])
            modules[named[-1]] = module
            if folder is not None:
                folders[folder] = None
        return cls(modules, tuple(folders), tuple(named))

    def require_modules(self, *, elsewhere: Sequence[str] = ()) -> None:
        """Raises UnknownName where a module that somebody named cannot be found: otherwise each of
        its cases would say so. Adapters in `elsewhere` have an interpreter that may find it."""
        for name in self.named:
            module = self.modules[name]
            if name not in elsewhere and not places.findable(module, self.folders):
                raise UnknownName(
                    f"--adapter-module {module}: there is no such module in {Path.cwd()}, on "
                    "PYTHONPATH or among the installed packages; name its file instead "
                    f"(--adapter-module PATH/{name}.py), or put its folder on PYTHONPATH"
                )

    def sources(self) -> list[Path]:
        """Where the code of adapters lies that are not Assay's own."""
        own = set(BUILT_IN)
        return [
            place
            for name, module in sorted(self.modules.items())
            if name not in own or name in self.named
            for place in places.sources(module, self.folders)
        ]

    def module(self, name: str) -> str:
        """The module of an adapter or of a control."""
        return self.modules.get(name) or f"adapters.controls.{name}"

    def select(self, wanted: Sequence[str]) -> list[str]:
        """The adapters called `wanted`, or all. Raises UnknownName."""
        return choose("adapter", wanted, list(self.modules))


def choose(kind: str, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """`wanted` if all of it is known, everything known if nothing is wanted."""
    for name in wanted:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownName(f"unknown {kind} {name!r}: there are {', '.join(known)}{hint}")
    return list(wanted) or list(known)
