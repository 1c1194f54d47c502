"""Quantization of trained models: every layer computes what its integers and scales say, integers
are really used, and how much of the model's quality is left on examples that it has not seen."""

from suites.selection import QUANTIZED, SHIPPED, Plan

USUAL = ("int8_dynamic", "int8_static")  # what most people ship
QUICK = ("mlp", "convnet")


def plan(size: str, *models: str, quick: tuple[str, ...] = ()) -> Plan:
    """`quick` are the precisions that preset quick asks for. fp32 is what the others are compared
    with."""
    others = tuple(name for name in ("fp32", *QUANTIZED) if name not in quick)
    return Plan("quantization", ("infer",), ("fp32", *QUANTIZED), size, models=models,
                later=("torch_compile",), thorough=others)  # fmt: skip


PLANS = [
    plan("tiny", *QUICK, quick=USUAL),
    plan("tiny", *(name for name in SHIPPED if name not in QUICK)),
    plan("small", *SHIPPED),
]


def test_quantization(case, run):
    with run(case) as attempt:
        attempt.require_conformance()
        attempt.quantize()
