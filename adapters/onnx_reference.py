"""What proves an ONNX graph: onnx's own evaluator, which has every operation in float64."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from adapters.base import Spec, Unsupported, require


class Reference:
    """An engine of `adapters.onnx_runtime.Program`. Its speed is never published."""

    untimed = "float64 runs in onnx's reference evaluator: ONNX Runtime has no float64 Conv or Erf"

    def __init__(self, spec: Spec) -> None:
        require(spec.device == "cpu", "float64 runs in onnx's reference evaluator, on CPU only")

    def put(self, x: np.ndarray) -> np.ndarray:
        return x

    def start(self, model: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(model, new_ops=[Erf])

    def bind(self, x: np.ndarray) -> None:
        self._x = x

    def run(self) -> np.ndarray:
        (self._output,) = self._evaluator.run(None, {"x": self._x})
        return self._output

    def profile(self, model: onnx.ModelProto, steps: int, folder: Path) -> Path:
        raise Unsupported("onnx's reference evaluator has no profiler")

    def fetch(self, value: np.ndarray) -> np.ndarray:
        return np.array(value)

    def facts(self) -> dict[str, Any]:
        return {
            "engine": "onnx.reference.ReferenceEvaluator",
            "output_dtype": self._output.dtype.name,
            "device_kind": "cpu",
            "threads": None,  # NumPy's, which nobody sets here
        }


class Erf(OpRun):
    """In place of onnx's own, which rounds erf to float32 whatever its input."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)
