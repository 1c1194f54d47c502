"""What adapters do to reach a limit of a device: the same work in each of them."""

from __future__ import annotations

from adapters.ops import Unsupported

#: limit -> rows of the square matrices whose product reaches it, on the CPU
MATRICES = {"matmul_fp32": 2048, "matmul_bf16": 4096, "matmul_int8": 4096}
MATRICES_CUDA = 8192

#: Elements of each of two float32 arrays, 512 MiB: there are caches of 480 MiB.
ELEMENTS = 2**27


def matrix_product(limit: str, device: str, *, most: int = MATRICES_CUDA) -> tuple[int, float]:
    """(n, operations): the limit is that of a product of two (n, n) matrices; n is at most `most`,
    for kernels that are so slow that larger ones would take minutes."""
    if limit not in MATRICES:
        raise Unsupported(f"this adapter does not measure {limit}")
    n = min(most, MATRICES_CUDA if device == "cuda" else MATRICES[limit])
    return n, 2.0 * n**3


def bandwidth() -> tuple[int, float]:
    """(elements, bytes): a float32 array is added to another, which reads two and writes one. In
    place where the framework can: before it writes to a third array a processor reads that too,
    which nobody counts."""
    return ELEMENTS, 3.0 * 4 * ELEMENTS
