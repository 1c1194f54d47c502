"""Environment variables that switch frameworks, or parts of them, off or over.

A run under one of them is a run of something else than its name says. They are told in its header,
and kept in its environment record. What is not in the table and begins with a name of
`harness.environment.VARIABLES` is kept there as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_OFF = ("", "0", "false", "no", "off")  # values that stand for no, of any case
_ON = ("1", "true", "yes", "on")

#: Variable -> (values that say so, None for any that is set; what it does).
SWITCHES: Mapping[str, tuple[tuple[str, ...] | None, str]] = {
    "TORCHDYNAMO_DISABLE": (_ON, "torch.compile compiles nothing"),
    "TORCH_COMPILE_DISABLE": (_ON, "torch.compile compiles nothing"),
    "TORCHDYNAMO_SUPPRESS_ERRORS": (_ON, "torch.compile runs eagerly what it fails to compile"),
    "TORCHINDUCTOR_MAX_AUTOTUNE": (_ON, "Inductor picks kernels by timing them"),
    "TORCHINDUCTOR_FREEZING": (_ON, "Inductor makes parameters constants"),
    "TORCHINDUCTOR_CPP_WRAPPER": (_ON, "Inductor's wrapper is C++ and not Python"),
    "PYTORCH_JIT": (_OFF, "TorchScript runs as Python"),
    "ATEN_CPU_CAPABILITY": (None, "holds PyTorch's kernels down to an instruction set"),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": (_ON, "PyTorch's float32 products are TF32"),
    "PYTORCH_NO_CUDA_MEMORY_CACHING": (None, "PyTorch asks CUDA for each piece of memory"),
    "JAX_DISABLE_JIT": (_ON, "JAX compiles nothing"),
    "JAX_ENABLE_X64": (None, "JAX's 64 bits where nothing else is said"),
    "JAX_DEFAULT_MATMUL_PRECISION": (None, "JAX's products where nothing else is said"),
    "JAX_PLATFORMS": (None, "the devices that JAX may use"),
    "JAX_DISABLE_MOST_OPTIMIZATIONS": (_ON, "XLA leaves out most optimisations for JAX"),
    "XLA_FLAGS": (None, "changes how XLA compiles"),
    "TF_XLA_FLAGS": (None, "changes how TensorFlow uses XLA"),
    "TF_FUNCTION_JIT_COMPILE_DEFAULT": (_ON, "every tf.function is compiled by XLA, tf_graph too"),
    "TF_ENABLE_ONEDNN_OPTS": (_OFF, "TensorFlow runs without oneDNN"),
    "TF_DISABLE_MKL": (_ON, "TensorFlow runs without oneDNN"),
    "TF_DETERMINISTIC_OPS": (_ON, "TensorFlow takes deterministic kernels"),
    "ONEDNN_MAX_CPU_ISA": (None, "holds oneDNN's kernels down to an instruction set"),
    "DNNL_MAX_CPU_ISA": (None, "holds oneDNN's kernels down to an instruction set"),
    "ONEDNN_DEFAULT_FPMATH_MODE": (None, "oneDNN may compute float32 in fewer bits"),
    "DNNL_DEFAULT_FPMATH_MODE": (None, "oneDNN may compute float32 in fewer bits"),
    "MKL_ENABLE_INSTRUCTIONS": (None, "holds MKL's kernels down to an instruction set"),
    "MKL_CBWR": (None, "MKL takes kernels that give the same bits everywhere"),
    "OPENBLAS_CORETYPE": (None, "OpenBLAS takes the kernels of this processor"),
    "NVIDIA_TF32_OVERRIDE": (None, "TF32 in NVIDIA's libraries, whatever a framework asks for"),
    "CUDA_VISIBLE_DEVICES": (None, "the GPUs that CUDA shows"),
    "CUDA_LAUNCH_BLOCKING": (_ON, "every CUDA kernel is waited for"),
    "CUBLAS_WORKSPACE_CONFIG": (None, "cuBLAS takes deterministic kernels"),
}


def switched(environment: Mapping[str, str]) -> list[str]:
    """`NAME=VALUE: what it does` of each switch that is thrown in an environment."""
    return [
        f"{name}={environment[name]}: {what}"
        for name, (values, what) in SWITCHES.items()
        if name in environment and (values is None or environment[name].strip().lower() in values)
    ]


def uncompiled(share: float | None) -> list[str]:
    """A sentence where less was compiled than all of it, with the switches that may be the reason.
    None is no claim to compile."""
    if share is None or share >= 1:
        return []
    known = switched(os.environ)
    why = f" ({'; '.join(known)})" if known else ""
    return [f"{share:.0%} was compiled, but should be all of it{why}"]
