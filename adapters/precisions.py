"""Precisions of programs: what each name stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Precision:
    """How a program computes.

    dtype       of parameters, gradients, optimizer, and of what no policy runs lower
    low         of what the policy of `adapters.policy` runs in 16 bits; empty: nothing
    native      whether that is the framework's own policy, in place of the declared one
    tf32        whether contractions round float32 to the 11 bits of TensorFloat-32, a mode of
                NVIDIA's tensor cores
    """

    dtype: str
    low: str = ""
    native: bool = False
    tf32: bool = False

    @property
    def trains(self) -> bool:
        """Whether parameters hold what a step of training adds to them. In 16 bits they do not, and
        neither do recipes: 0.999 is 1 in bfloat16, and AdamW's epsilon of 1e-8 is 0 in float16."""
        return self.dtype in ("float32", "float64")

    @property
    def scaled(self) -> bool:
        """Whether training scales its loss: gradients leave the range of float16 downwards."""
        return self.low == "float16"


PRECISIONS = {
    "fp64": Precision("float64"),
    "fp32": Precision("float32"),
    "tf32": Precision("float32", tf32=True),
    "bf16": Precision("bfloat16"),
    "fp16": Precision("float16"),
    "amp_bf16": Precision("float32", "bfloat16"),
    "amp_fp16": Precision("float32", "float16"),
    "amp_bf16_native": Precision("float32", "bfloat16", native=True),
    "amp_fp16_native": Precision("float32", "float16", native=True),
}
