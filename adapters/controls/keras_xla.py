"""The models of `keras_native`, compiled with XLA: `jit_compile=True`."""

from __future__ import annotations

from adapters.base import Spec, require
from adapters.controls import keras_native


class Adapter(keras_native.Adapter):
    jit_compile = True
    compile_cache = True

    def program(self, spec: Spec) -> Program:
        models = keras_native.NETWORKS
        require(spec.model in models, f"there is no native Keras control of {spec.model}")
        return Program(spec)


class Program(keras_native.Program):
    jit_compile = True
