"""What a program really did, against what it was asked: a silent fallback is a failure.

The names are those of `adapters.base.Program.facts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.policy import CONTRACTIONS, FULL, declared
from adapters.precisions import PRECISIONS, Precision
from adapters.quantization import Scheme
from harness import switches
from harness.client import WorkerFailure
from results.records import Case

#: What the names of dtypes of quantized weights begin with.
INTEGERS = ("int", "uint", "qint", "quint")
FLOATS_OF_8_BITS = ("float8",)
REQUIRED = ("parameter_dtypes", "output_dtype", "device_kind", "threads")


def fallbacks(case: Case, facts: Mapping[str, Any], *, threads: int) -> list[str]:
    """Sentences that say what is and what should be; empty where the program did what it was
    asked. `facts` has what is REQUIRED."""
    found = []
    numbers = PRECISIONS[case.precision]
    wanted = numbers.dtype
    if numbers.scheme is not None and case.mode != "train":
        found += _unquantized(numbers.scheme, facts)
    elif facts["parameter_dtypes"] != [wanted]:
        found.append(f"parameters are {_list(facts['parameter_dtypes'])}, but should be {wanted}")
    if numbers.low:
        found += _broken(numbers, facts.get("policy") or {})
    elif facts["output_dtype"] != wanted:
        found.append(f"the output is {facts['output_dtype']}, but should be {wanted}")
    if facts.get("tf32") not in (None, numbers.tf32):
        found.append(f"TF32 is {_on(facts['tf32'])}, but should be {_on(numbers.tf32)}")
    if facts["device_kind"] != case.device:
        found.append(f"it ran on {facts['device_kind']}, but should run on {case.device}")
    if facts["threads"] not in (None, threads):
        found.append(f"it had {facts['threads']} threads, but should have {threads}")
    if facts.get("graph_breaks"):
        found.append(f"{facts['graph_breaks']} graph breaks, but should be none")
    found += switches.uncompiled(facts.get("compiled_share"))
    for place, nodes in (facts.get("foreign_nodes") or {}).items():
        found.append(f"{nodes} nodes ran on {place}, but should run on {case.device}")
    return found


def _unquantized(scheme: Scheme, facts: Mapping[str, Any]) -> list[str]:
    """Where weights are no integers, or nothing is known that multiplies integers. Of weights alone
    that are quantized, some engines make real numbers before they multiply."""
    dtypes = facts.get("weight_dtypes") or {}
    kinds = FLOATS_OF_8_BITS if scheme.floating else INTEGERS
    wrong = {name: dtype for name, dtype in dtypes.items() if not str(dtype).startswith(kinds)}
    found = [f"the weight {name} is {dtype}, but should be {' or '.join(kinds)}"
             for name, dtype in wrong.items()]  # fmt: skip
    if not dtypes:
        found.append("no weight is quantized, but all weights of layers should be")
    if scheme.activation_bits and not facts.get("integer_kernels"):
        found.append("no kernel multiplies integers, but those of layers should")
    return found


def _on(state: bool) -> str:
    return "on" if state else "off"


def _broken(numbers: Precision, policy: Mapping[str, list[str]]) -> list[str]:
    """Where the dtypes of results are not those of the policy. Of a framework's own policy nothing
    is known but that some contraction runs in 16 bits."""
    contractions = {name: policy[name] for name in sorted(policy) if name in CONTRACTIONS}
    if numbers.native or not contractions:
        some = any(dtypes == [numbers.low] for dtypes in contractions.values())
        return [] if some else [f"no contraction was {numbers.low}, but all of them should be"]
    wanted = {**dict.fromkeys(contractions, numbers.low),
              **{name: numbers.dtype for name in policy if declared(name) == FULL}}  # fmt: skip
    return [f"{name} gave {_list(policy[name])}, but should give {dtype}"
            for name, dtype in wanted.items() if policy[name] != [dtype]]  # fmt: skip


def require(case: Case, facts: Mapping[str, Any], *, threads: int) -> None:
    """Raises WorkerFailure where a fact is missing, or `fallbacks` finds any."""
    missing = [name for name in REQUIRED if name not in facts]
    if missing:
        raise WorkerFailure(
            "failed",
            f"what Program.facts returned lacks {', '.join(missing)}: without it nobody knows what "
            "really ran (docs/extending.md says what each holds)",
        )
    found = fallbacks(case, facts, threads=threads)
    if found:
        raise WorkerFailure("failed", "silent fallback: " + "; ".join(found))


def recompiled(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What the framework traced, compiled or gave up on between two readings; empty if nothing."""
    parts = []
    for name in ("compilations", "graph_breaks"):
        if before.get(name) is not None and after.get(name) != before[name]:
            parts.append(f"{name.replace('_', ' ')} went from {before[name]} to {after[name]}")
    return "; ".join(parts)


def _list(names: Any) -> str:
    return ", ".join(map(str, names)) if isinstance(names, list | tuple) else str(names)
