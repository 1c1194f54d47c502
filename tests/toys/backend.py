"""A toy framework in one file, as somebody outside Assay would write its adapter: NumPy, eager,
inference only."""

import numpy as np

from adapters import base
from adapters.base import require
from adapters.numpy_reference import NumpyOps


class Adapter(base.Adapter):
    framework = "toy"
    ops = NumpyOps

    def versions(self):
        return {"toy": "1.0"}

    def is_out_of_memory(self, error):
        return False

    def build(self, spec, params, buffers):
        require(spec.mode == "infer", "the toy backend runs inference only")
        require(spec.device == "cpu", "the toy backend runs on the CPU only")
        program = self.program(spec)
        program.load(params, buffers)
        return program

    def program(self, spec):
        return Program(spec)

    def function(self, body, setting):
        require(setting.precision in ("fp64", "fp32"), "the toy backend has no 16 bits")
        return Function(body, self.ops(), setting.dtype)


class Program(base.Program):
    untimed = ""

    def __init__(self, spec):
        self.spec = spec

    def load(self, params, buffers):
        self.tensors = {n: v.astype(self.spec.dtype) for n, v in {**params, **buffers}.items()}

    def put(self, batch):
        return batch["x"].astype(self.spec.dtype)

    def step(self, x):
        return self.spec.forward(NumpyOps(), self.tensors, x)[0]

    def wait(self, value):
        pass

    def fetch(self, value):
        return np.array(value)

    def facts(self):
        return {
            "parameter_dtypes": sorted({str(v.dtype) for v in self.tensors.values()}),
            "output_dtype": self.spec.dtype,
            "device_kind": "cpu",
            "threads": None,  # NumPy's, which nobody tells
        }


class Function(base.Function):
    def __init__(self, body, ops, dtype):
        self.body, self.ops, self.dtype = body, ops, dtype

    def __call__(self, inputs):
        tensors = {n: self.converted(v) for n, v in inputs.items()}
        outputs = self.body(self.ops, tensors)
        return {n: self.converted(np.asarray(v)) for n, v in outputs.items()}

    def converted(self, x):
        return x.astype(self.dtype) if x.dtype.kind == "f" else x
