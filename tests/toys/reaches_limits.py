"""A backend that says what its machine can do at most."""

import numpy as np

from adapters import base
from tests.toys import backend


class Adapter(backend.Adapter):
    def probe(self, limit, device, threads):
        base.require(limit in ("matmul_fp32", "bandwidth"), f"the toy has no {limit}")
        a = np.ones((64, 64), np.float32)
        return base.Probe(lambda: a @ a, lambda value: None, 2 * 64**3)
