"""Records of quantized programs: five adapters in all precisions of integers, some of which cannot,
diverge, crash or do not pay. The same call gives the same records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reports.data import QUANTIZED
from results.metrics import METRICS
from results.records import Agreement, Case, Facts, Measurement, Outcome, Record

MODELS = {"mlp": ("fc1", "fc2"), "convnet": ("conv1", "conv2", "conv3", "head")}
PRECISIONS = ("fp32", *QUANTIZED)
LEGACY = "torch.ao is deprecated and is used by torch_eager alone"
#: adapter -> (times the speed of int8 over fp32, name of what multiplies integers)
ADAPTERS = {
    "torch_eager": (0.81, "aten::_int_mm"),
    "torch_compile": (1.9, "onednn::qlinear_pointwise"),
    "jax_jit": (1.004, "dot s8,s8->s32"),
    "onnx_runtime": (2.2, "QLinearConv (MlasQGemm, vpdpbusd)"),
    "litert": (1.6, "FULLY_CONNECTED int8 (XNNPACK)"),
}
#: dB of the output, in order of PRECISIONS
SQNR = dict(
    zip(PRECISIONS, (139.5, 43, 39.2, 34.1, 38.4, 37.7, 36, 49.6, 50.2, 24.9, 42, 41.3, 31.8),
        strict=True)
)  # fmt: skip
#: (adapter, precision) -> why it is not supported
UNSUPPORTED = {
    **{("litert", name): "LiteRT's converter knows no such scheme" for name in
       ("int8_static_tensor", "int8_static_percentile", "int8_static_entropy", "fp8_dynamic")},
    **{(name, "int8_dynamic_legacy"): LEGACY for name in ADAPTERS if name != "torch_eager"},
    ("onnx_runtime", "int4_weight_only"): "MatMulNBits has no kernel for convolutions: 94% of the "
    "weights of this model are convolutions",
    ("jax_jit", "int16_static"): "XLA has no product of 8 and 16 bits on CPU",
}  # fmt: skip
#: (suite, model, adapter, precision) -> (status, reason)
FATES = {
    ("quantization", "mlp", "jax_jit", "int8_static"): (
        "divergent",
        "layer fc2/w: 61.20% exact, at most 3 LSB",
    ),
    ("performance", "convnet", "litert", "int8_qat"): ("crashed", "the worker died of signal 11"),
    ("memory", "convnet", "torch_compile", "int8_static"): ("timeout", "no answer within 300 s"),
}


def records(models: tuple[str, ...] = tuple(MODELS)) -> Iterator[Record]:
    for model in models:
        for adapter in ADAPTERS:
            for precision in PRECISIONS:
                case = Case("quantization", "infer", model, "tiny", adapter, "cpu", precision, 2)
                yield from _case(case)
                for suite in ("quantization", "performance", "memory"):
                    yield from _case(replace(case, suite=suite, size="small", batch=16))


def _case(case: Case) -> Iterator[Record]:
    reason = UNSUPPORTED.get((case.adapter, case.precision), "")
    status = "unsupported" if reason else "ok"
    if not reason:
        where = (case.suite, case.model, case.adapter, case.precision)
        status, reason = FATES.get(where, ("ok", "")) if case.size == "small" else ("ok", "")
    if status in ("ok", "divergent"):
        yield from judged(case, divergent=status == "divergent")
        yield Facts(case, facts(case))
        for metric, values in _values(case).items():
            flags = ("noisy",) if (case.adapter, metric) == ("litert", "step_time") else ()
            yield Measurement(case, metric, METRICS[metric][0], values, flags=flags)
    yield Outcome(case, status, reason, 2.5, f"pytest suites --case '{case.key}'")


def judged(case: Case, *, divergent: bool = False) -> Iterator[Agreement]:
    source = "integer oracle in numpy"
    if case.precision == "fp32":
        row = ("output", "output", 3e-7, None, None, "precision-equal")
        yield Agreement(case, *row, "numpy in float64", "139 dB")
        return
    for layer in MODELS.get(case.model, ("fc1",)):
        name = f"{layer}/w"
        told = "at most 0.500 steps from the parameter"
        row = ("weight", name, 4e-3, None, None, "rounding-equal")
        yield Agreement(case, *row, source, told)
        told = "-2.1 to 3.4, and -2.09 to 3.41 came in"
        row = ("range", name, 3e-3, None, None, "rounding-equal")
        yield Agreement(case, *row, source, told)
        wrong = divergent and layer == "fc2"
        told = "61.20% exact, at most 3 LSB" if wrong else "99.98% exact, at most 1 LSB"
        row = ("layer", name, 2e-3, None, None, "divergent" if wrong else "rounding-equal")
        yield Agreement(case, *row, source, told)
    told = "98.40% of the elements of all weights are integers"
    row = ("weight", "all", 0.016, None, None, "rounding-equal")
    yield Agreement(case, *row, source, told)
    told = "78 dB; of the integers into layers 99.91% exact, at most 1 LSB"
    row = ("output", "output", 1e-4, None, None, "precision-equal")
    yield Agreement(case, *row, source, told)


def facts(case: Case) -> dict:
    if case.precision == "fp32":
        quality = {"score": "accuracy", "examples": 256, "trained_steps": 800}
        return {"threads": 8, **({"quality": quality} if case.suite == "quantization" else {})}
    names = [f"{layer}/w" for layer in MODELS.get(case.model, ("fc1",))]
    told = {
        "threads": 8,
        "weight_dtypes": dict.fromkeys(names, "int8"),
        "integer_kernels": [ADAPTERS.get(case.adapter, (1, "gemm"))[1], "aten::quantize"],
    }
    if case.suite != "quantization":
        return told
    whole = SQNR.get(case.precision, 40.0)
    quality = {
        "score": "accuracy",
        "examples": 256,
        "trained_steps": 800,
        "layers": {name: whole + 3.0 - number for number, name in enumerate(names)},
        "share": 0.984,
        "left_in_float": ["embeddings/words"],
        "sensitivity": {"": whole, **{n: whole + 0.9 + 1.7 * i for i, n in enumerate(names)}},
    }
    if "static" in case.precision:
        method = case.precision.removeprefix("int8_static").strip("_")
        quality["calibration"] = {
            "method": method if method in ("percentile", "entropy") else "min-max",
            "batches": 4, "examples": 256, "of": "training examples",
            "ranges": {name: {"low": -2.1, "high": 3.4, "scale": 0.0216} for name in names},
        }  # fmt: skip
    if case.precision == "int8_qat":
        quality["tuned_steps"] = 200
    return {**told, "quality": quality}


def _values(case: Case) -> dict[str, tuple[float, ...]]:
    quantized = case.precision != "fp32"
    faster = ADAPTERS[case.adapter][0] if quantized else 1.0
    if case.precision.endswith("weight_only"):
        faster *= 0.7
    size = {"mlp": 0.43e6, "convnet": 1.9e6}[case.model]
    bits = 4 if case.precision == "int4_weight_only" else 8 if quantized else 32
    if case.suite == "quantization":
        sqnr = SQNR[case.precision] - 2 * (case.model == "convnet")
        lost = 0.0 if sqnr > 45 else -0.004 if sqnr > 41 else 2.0 ** (-sqnr / 4)
        return {
            "sqnr": (sqnr,),
            "top1_agreement": (1.0 if sqnr > 45 else 255 / 256,),
            "kl_divergence": (math.exp(-sqnr / 5),),
            "score": (0.9735 - lost,),
            "score_lost": (lost,),
            "artifact_bytes": (size * bits / 32 + 9000,),
        }
    if case.suite == "memory":
        peak = 8 * size + 3e7
        return {"host_peak_bytes": (peak * (0.9 if quantized else 1),),
                "step_peak_bytes": (size / 3,), "parameter_bytes": (size * bits / 32,)}  # fmt: skip
    rng = np.random.default_rng(sum(map(ord, case.key)))
    step = {"mlp": 9.1e-5, "convnet": 2.3e-3}[case.model] / faster
    rounds = tuple(float(x) for x in step * np.exp(np.abs(rng.normal(0, 0.01, size=16))))
    return {"step_time": rounds, "throughput": tuple(case.batch / x for x in rounds)}
