"""Holding kernels down to a level of instruction sets: another processor out of this one.

Libraries choose their kernels by what the processor can do, and each has a variable that makes it
choose as on a lesser one. `--isa LEVEL` sets them all in workers. ONNX Runtime's own kernels (MLAS)
and LiteRT's (XNNPACK) have no such variable: they go on using what there is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

#: Level -> instruction sets, as `harness.machine.INSTRUCTION_SETS` names them, that it adds to the
#: one before. What no level adds is never held down: Arm's.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "sse4_2": (),
    "avx2": ("f16c", "fma", "avx2"),
    "avx512": ("avx512f",),
    "avx512_vnni": ("avx512_vnni",),
    "avx512_bf16": ("avx512_bf16",),
    "avx512_fp16": ("avx_vnni", "avx512_fp16"),
    "amx": ("amx_tile", "amx_int8", "amx_bf16"),
}


@dataclass(frozen=True)
class Switch:
    """How a library is told.

    variable    of the environment
    values      level -> value; a level without one has that of the level below
    finer       value that no level has -> the level below it
    flag        where the variable holds several
    """

    variable: str
    values: Mapping[str, str]
    finer: Mapping[str, str] = field(default_factory=dict)
    flag: str = ""


#: Library -> its switch.
SWITCHES: Mapping[str, Switch] = {
    "aten": Switch(
        "ATEN_CPU_CAPABILITY", {"sse4_2": "default", "avx2": "avx2", "avx512": "avx512"}
    ),
    "onednn": Switch(
        "ONEDNN_MAX_CPU_ISA",
        {
            "sse4_2": "SSE41",
            "avx2": "AVX2",
            "avx512": "AVX512_CORE",
            "avx512_vnni": "AVX512_CORE_VNNI",
            "avx512_bf16": "AVX512_CORE_BF16",
            "avx512_fp16": "AVX512_CORE_FP16",
        },
        {
            "AVX": "sse4_2",
            "AVX2_VNNI": "avx2",
            "AVX2_VNNI_2": "avx2",
            "AVX10_1_512": "avx512_fp16",
        },
    ),
    "xla": Switch(
        "XLA_FLAGS",
        {
            "sse4_2": "SSE4_2",
            "avx2": "AVX2",
            "avx512": "AVX512",
            "avx512_vnni": "AVX512_VNNI",
            "avx512_bf16": "AVX512_BF16",
        },
        {"AVX": "sse4_2"},
        flag="--xla_cpu_max_isa",
    ),
    "openblas": Switch(
        "OPENBLAS_CORETYPE",
        {"sse4_2": "Nehalem", "avx2": "Haswell", "avx512": "SkylakeX", "avx512_bf16": "Cooperlake"},
    ),
    "mkl": Switch(
        "MKL_ENABLE_INSTRUCTIONS", {"sse4_2": "SSE4_2", "avx2": "AVX2", "avx512": "AVX512"}
    ),
}

#: What `--isa` can be; "native" leaves libraries to themselves.
CHOICES = ("native", *[level for level in LEVELS if level != "amx"])


def environment(level: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold kernels down to a level, beside what is `inherited`."""
    if level == "native":
        return {}
    variables = {}
    for switch in SWITCHES.values():
        value = switch.values[_highest(switch, level)]
        if switch.flag:
            value = f"{inherited.get(switch.variable, '')} {switch.flag}={value}".strip()
        variables[switch.variable] = value
    return variables


def usable(sets: Collection[str], library: str, variables: Mapping[str, str]) -> frozenset[str]:
    """Those of a processor's instruction sets that a library's kernels may use under these
    environment variables. A value that is not in the table holds nothing down."""
    switch = SWITCHES[library]
    value = variables.get(switch.variable, "")
    if switch.flag:
        values = re.findall(rf"{switch.flag}=(\S+)", value)
        value = values[-1] if values else ""
    level_of = {name: level for level, name in switch.values.items()} | {**switch.finer}
    level = {name.upper(): level for name, level in level_of.items()}.get(value.upper())
    if level is None:
        return frozenset(sets)
    order = list(LEVELS)
    above = order[order.index(level) + 1 :]
    return frozenset(sets).difference(*(LEVELS[level] for level in above))


def told(level: str) -> str:
    """The variables of a level for a person, and whom they do not reach."""
    variables = " ".join(f"{name}={value}" for name, value in environment(level, {}).items())
    return f"{variables}; kernels of ONNX Runtime and LiteRT have no switch"


def _highest(switch: Switch, level: str) -> str:
    """The highest level up to this one that a library has a value for."""
    order = list(LEVELS)
    up_to = order[: order.index(level) + 1]
    return [each for each in up_to if each in switch.values][-1]
