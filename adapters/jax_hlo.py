"""What XLA made of a program: its contractions, from the text of the optimized HLO."""

from __future__ import annotations

import re
from collections import Counter

#: Dtypes of HLO that are integers.
INTEGERS = ("s4", "u4", "s8", "u8", "s16", "u16", "s32", "u32")

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(?[\w]+)\[.*?\s([a-z][\w-]*)\((.*)$")
_OPERAND = re.compile(r"%([\w.-]+)")
_LIBRARY = re.compile(r'calls=%?([\w.-]+).*"kind":"([^"]+)"')
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_CONTRACTIONS = ("dot", "convolution")


def contractions(text: str) -> Counter[str]:
    """How often each kind of contraction is in an optimized module, "s32 dot(s8, s8) in
    __ynn_fusion" say: dtypes of the result and of the operands, and the library to which XLA hands
    the fusion that it is part of. A call of a library with two operands or more of dtypes that
    contractions have counts as one, by its target's name."""
    libraries = dict(_LIBRARY.findall(text))
    found: Counter[str] = Counter()
    dtypes: dict[str, str] = {}
    computation = ""
    for line in text.splitlines():
        if opened := _COMPUTATION.match(line):
            computation, dtypes = opened[1], {}
        if not (told := _INSTRUCTION.match(line)):
            continue
        name, dtype, op, rest = told.groups()
        dtypes[name] = dtype.removeprefix("(")
        operands = [dtypes[o] for o in _OPERAND.findall(rest.partition(")")[0]) if o in dtypes]
        if op in _CONTRACTIONS:
            library = libraries.get(computation)
            kind = f"{dtypes[name]} {op}({', '.join(operands)})"
            found[f"{kind} in {library}" if library else kind] += 1
        elif op == "custom-call" and len(operands) > 1 and (target := _TARGET.search(line)):
            found[f"{dtypes[name]} {target[1]}({', '.join(operands)})"] += 1
    return found


def of_integers(kind: str) -> bool:
    """Whether a kind of contraction multiplies integers: its operands are nothing else."""
    operands = kind.partition("(")[2].partition(")")[0].split(", ")
    return all(operand in INTEGERS for operand in operands)
