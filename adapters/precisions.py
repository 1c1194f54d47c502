"""Precisions of programs: what each name stands for."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.quantization import ENTROPY, MIN_MAX, PERCENTILE, Scheme


@dataclass(frozen=True)
class Precision:
    """How a program computes.

    dtype       of parameters, gradients, optimizer, and of what no policy runs lower
    low         of what the policy of `adapters.policy` runs in 16 bits; empty: nothing
    native      whether that is the framework's own policy, in place of the declared one
    tf32        whether contractions round float32 to the 11 bits of TensorFloat-32, a mode of
                NVIDIA's tensor cores
    scheme      how layers are quantized; None: they are not
    """

    dtype: str
    low: str = ""
    native: bool = False
    tf32: bool = False
    scheme: Scheme | None = None

    @property
    def trains(self) -> bool:
        """Whether parameters hold what a step of training adds to them. In 16 bits they do not, and
        neither do recipes: 0.999 is 1 in bfloat16, and AdamW's epsilon of 1e-8 is 0 in float16.
        Integers are trained where the scheme says so, on parameters in float32."""
        if self.scheme is not None:
            return self.scheme.trained
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
    **{
        name: Precision("float32", scheme=scheme)
        for name, scheme in {
            "int8_dynamic": Scheme(8, 8),
            "int8_static": Scheme(8, 8, MIN_MAX),
            "int8_static_tensor": Scheme(8, 8, MIN_MAX, per_channel=False),
            "int8_static_symmetric": Scheme(8, 8, MIN_MAX, symmetric=True),
            "int8_static_percentile": Scheme(8, 8, PERCENTILE),
            "int8_static_entropy": Scheme(8, 8, ENTROPY),
            "int16_static": Scheme(8, 16, MIN_MAX, symmetric=True),  # weights of 8 bits
            "int8_weight_only": Scheme(8),
            "int4_weight_only": Scheme(4),
            "int8_qat": Scheme(8, 8, trained=True),
            "int8_dynamic_legacy": Scheme(8, 8, legacy=True),
            "fp8_dynamic": Scheme(8, 8, floating=True),
        }.items()
    },
}
