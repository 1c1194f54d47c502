"""PyTorch with integers for the weights of dense layers through torch.compile, and what Inductor
generated: torchao's integers as in `adapters.torch_quantized`."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch._dynamo.utils import counters
from torch._inductor import metrics
from torch._inductor.graph import GraphLowering

from adapters import torch_compile, torch_quantized
from adapters.base import Spec, require
from adapters.quantization import Layer
from adapters.torch_integers import kind_of

PACKED = (
    "PyTorch's deprecated quantized operations keep weights packed in objects that TorchDynamo "
    "cannot trace"
)
#: What generated code calls in libraries to multiply integers: extern_kernels._int_mm(...), or
#: torch.ops.onednn.qlinear_pointwise.tensor(...).
_CALL = re.compile(
    r"(?:torch\.ops\.|extern_kernels\.)"
    r"(_int_mm|onednn\.q(?:linear|conv)\w*(?:\.\w+)?|quantized\.\w*mm\w*)(?:\.default)?\("
)


class Code(list[str]):
    """The code that Inductor generates, or finds in its cache, from now on."""

    def __init__(self) -> None:
        super().__init__()
        GraphLowering.save_output_code = self.append  # Inductor's own hook

    def kernels(self) -> list[str]:
        """What multiplies integers in it."""
        return sorted({name for code in self for name in _CALL.findall(code)})


@contextmanager
def aside() -> Iterator[None]:
    """What is compiled inside does not count as the program's."""
    kept = {name: copy.copy(counter) for name, counter in counters.items()}
    kernels, hook = metrics.generated_kernel_count, GraphLowering.save_output_code
    GraphLowering.save_output_code = None
    try:
        yield
    finally:
        counters.clear()
        counters.update(kept)
        metrics.generated_kernel_count = kernels
        GraphLowering.save_output_code = hook


def program(spec: Spec) -> torch_compile.Program:
    """Follows the scheme of its precision, compiled. Raises Unsupported."""
    scheme = torch_quantized.scheme_of(spec)
    require(not scheme.legacy, PACKED)
    if scheme.calibration:
        from adapters import torch_static

        return torch_static.Program(spec)
    return Program(spec, kind_of(scheme))


class Program(torch_quantized.Program, torch_compile.Program):
    """`layers` are those of another compilation, whose results are its layers' tensors."""

    def __init__(self, spec: Spec, kind: Any) -> None:
        self._code = Code()
        super().__init__(spec, kind)

    def layers(self, batch: Any) -> list[Layer]:
        with aside():
            return super().layers(batch)

    def kernels(self) -> list[str]:
        return self._code.kernels()
