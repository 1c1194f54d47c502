"""What proves an ONNX graph: onnx's own evaluator, which has every operation in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_batch_normalization import BatchNormalization_14
from onnx.reference.ops.op_conv_transpose import ConvTranspose as OnnxConvTranspose
from onnx.reference.ops.op_layer_normalization import LayerNormalization as OnnxLayerNormalization

from adapters.base import Spec, Unsupported, require

WHERE = "float64 runs in onnx's reference evaluator, on CPU only"


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    return ReferenceEvaluator(model, new_ops=REPLACEMENTS)


class Reference:
    """An engine of `adapters.onnx_runtime.Program`. Its speed is never published."""

    untimed = "float64 runs in onnx's reference evaluator: ONNX Runtime has no float64 Conv or Erf"

    def __init__(self, spec: Spec) -> None:
        require(spec.device == "cpu", WHERE)

    def put(self, x: np.ndarray) -> np.ndarray:
        return x

    def start(self, model: onnx.ModelProto) -> None:
        self._evaluator = evaluator(model)

    def bind(self, values: Mapping[str, np.ndarray]) -> None:
        self._values = dict(values)

    def run(self) -> list[np.ndarray]:
        self._outputs = self._evaluator.run(None, self._values)
        return self._outputs

    def profile(self, model: onnx.ModelProto, steps: int, folder: Path) -> Path:
        raise Unsupported("onnx's reference evaluator has no profiler")

    def memory_of(self, value: np.ndarray) -> np.ndarray:
        return value

    def fetch(self, value: np.ndarray) -> np.ndarray:
        return np.array(value)

    def facts(self) -> dict[str, Any]:
        return {
            "engine": "onnx.reference.ReferenceEvaluator",
            "output_dtype": ", ".join(sorted({value.dtype.name for value in self._outputs})),
            "device_kind": "cpu",
            "threads": None,  # NumPy's, which nobody sets here
        }


# -- in place of onnx's own ------------------------------------------------------------------------


class Erf(OpRun):
    """onnx's rounds erf to float32 whatever its input."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class LogSoftmax(OpRun):
    """onnx's is the logarithm of a softmax, which is minus infinity where that underflows."""

    op_domain = ""

    def _run(self, x: np.ndarray, axis: int) -> tuple[np.ndarray]:
        shifted = x - x.max(axis=axis, keepdims=True)
        return (shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)),)


class ConvTranspose(OnnxConvTranspose):
    """onnx's fails where there are no examples."""

    op_domain = ""

    def _run(self, x: np.ndarray, *weights: np.ndarray, **attributes: Any) -> Any:
        if len(x):
            return super()._run(x, *weights, **attributes)
        (one,) = super()._run(np.zeros((1, *x.shape[1:]), x.dtype), *weights, **attributes)
        return (one[:0],)


def _decimal(attribute: float) -> float:
    """The number that an attribute stands for: ONNX keeps it in float32, and 1e-5 is read as
    9.999999747e-06. The shortest decimal that rounds to it is what was written."""
    return float(str(np.float32(attribute)))


class LayerNormalization(OnnxLayerNormalization):
    """With epsilon as it was written."""

    op_domain = ""

    def _run(self, *inputs: Any, epsilon: float, **attributes: Any) -> Any:
        return super()._run(*inputs, epsilon=_decimal(epsilon), **attributes)


class BatchNormalization(BatchNormalization_14):
    """With epsilon as it was written."""

    op_domain = ""

    def _run(self, *inputs: Any, epsilon: float, **attributes: Any) -> Any:
        return super()._run(*inputs, epsilon=_decimal(epsilon), **attributes)


REPLACEMENTS = [Erf, LogSoftmax, ConvTranspose, LayerNormalization, BatchNormalization]
