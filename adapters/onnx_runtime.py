"""ONNX Runtime, inference only. The operations append nodes to an ONNX graph.

In float64 ONNX Runtime's CPU kernels lack Conv and Erf, so there onnx's reference evaluator runs
the very same graph: it proves what the graph means, and its speed is nobody's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from adapters import base, probes, trees
from adapters.base import (
    Body,
    Gradients,
    Probe,
    Setting,
    Spec,
    State,
    Stopwatch,
    Unsupported,
    require,
)  # fmt: skip
from adapters.onnx_defaults import DEFAULTS
from adapters.onnx_function import Function
from adapters.onnx_graph import Value, single_node
from adapters.onnx_ops import INFERENCE_ONLY, OnnxOps
from adapters.onnx_reference import Reference
from adapters.onnx_session import PROVIDERS, options_for_integers, options_of, session_of, usable
from adapters.trees import Tree

QUANTIZED = (
    "int8_dynamic", "int8_static", "int8_static_tensor", "int8_static_symmetric",
    "int8_static_percentile", "int8_static_entropy", "int16_static", "int8_weight_only",
    "int4_weight_only", "fp8_dynamic",
)  # fmt: skip


class Adapter(base.Adapter):
    framework = "onnxruntime"
    execution = "graph"
    ops = OnnxOps
    precisions = (*base.FLOAT, *QUANTIZED)

    def versions(self) -> dict[str, str]:
        return {"onnxruntime": ort.__version__, "onnx": onnx.__version__}

    def default(self, trap: int, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        return DEFAULTS.ask(trap, inputs)

    def prepare(self, precision: str) -> None:
        if precision in QUANTIZED:
            import_module("adapters.onnx_quantized")

    def devices(self) -> list[str]:
        return [device for device in PROVIDERS if usable(device)]

    def libraries(self) -> dict[str, str]:
        return {
            "build": ort.get_build_info(),
            "providers": ", ".join(ort.get_available_providers()),
        }

    def probe(self, limit: str, device: str, threads: int) -> Probe:
        if limit == "bandwidth":
            n, work = probes.bandwidth()
            kind, shape, types = "Add", [n], [TensorProto.FLOAT] * 3
        else:
            n, work = probes.matrix_product(limit, device)
            shape = [n, n]
            kind, types = {
                "matmul_fp32": ("MatMul", [TensorProto.FLOAT] * 3),
                "matmul_bf16": ("MatMul", [TensorProto.BFLOAT16] * 3),
                # on the CPU signed times signed is far slower; CUDA has that only
                "matmul_int8": ("MatMulInteger", [
                    TensorProto.UINT8 if device == "cpu" else TensorProto.INT8,
                    TensorProto.INT8, TensorProto.INT32,
                ]),
            }[limit]  # fmt: skip
        model = single_node(kind, shape, types)
        try:
            session = session_of(model, device, options_of(device, threads))
        except (ort_errors.NotImplemented, ort_errors.Fail) as error:
            raise Unsupported(f"ONNX Runtime has no {limit}: {error}") from error
        binding = session.io_binding()
        for value, element_type in zip(session.get_inputs(), types[:2], strict=True):
            ones = np.ones(shape, helper.tensor_dtype_to_np_dtype(element_type))
            binding.bind_ortvalue_input(
                value.name,
                ort.OrtValue.ortvalue_from_numpy_with_onnx_type(ones, element_type),
            )
        result = ort.OrtValue.ortvalue_from_shape_and_type(shape, types[2], device)
        binding.bind_ortvalue_output(session.get_outputs()[0].name, result)
        return Probe(lambda: session.run_with_iobinding(binding), lambda _: None, work)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return "Failed to allocate memory" in str(error)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        require(not spec.trains, INFERENCE_ONLY)
        program = _kind(spec)(spec)
        program.load(params, buffers)
        return program

    def function(self, body: Body, setting: Setting) -> Function:
        def start(model: onnx.ModelProto) -> ort.InferenceSession:
            options = options_of(setting.device, setting.threads)
            try:
                return session_of(model, setting.device, options)
            except (ort_errors.NotImplemented, ort_errors.InvalidGraph) as error:
                raise Unsupported(f"ONNX Runtime on {setting.device}: {error}") from error

        return Function(body, setting, start)


def _kind(spec: Spec) -> type[Program]:
    """The class of its program. What quantizes is imported where it is asked for only."""
    if spec.numbers.scheme is None:
        return Program
    from adapters.onnx_quantized import Quantized

    return Quantized


def inputs_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Value]:
    """The inputs of a graph for a batch. What is real has the dtype of the program."""
    return {
        name: Value(x.shape, name, dtype=None if x.dtype.kind == "f" else x.dtype)
        for name, x in arrays.items()
    }


class Program(base.Program):
    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._starts = 0  # of the engine
        self._engine = (Reference if spec.dtype == "float64" else _Runtime)(spec)
        self.untimed = self._engine.untimed

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._values = {**params, **buffers}
        self._inputs: dict[str, Value] = {}  # of the batches that there is a graph for
        self._bound: Any = None  # the batch that the next run reads

    def put(self, batch: Mapping[str, np.ndarray]) -> Any:
        """The graph's inputs, and their values on the device, by name."""
        arrays = self._arrays(batch)
        return inputs_of(arrays), {name: self._engine.put(x) for name, x in arrays.items()}

    def memory_of(self, batch: Any) -> list[np.ndarray]:
        return [self._engine.memory_of(value) for value in batch[1].values()]

    def _arrays(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs of a batch, in the dtype of the program."""
        return {
            name: np.array(trees.in_dtype(value, self._spec.dtype), order="C")
            for name, value in batch.items()
            if name.split("/")[0] == "x"
        }

    def step(self, batch: Any) -> Any:
        """The outputs in the order of the graph. They lie in the same memory in every step."""
        if batch is not self._bound:
            self._bind(batch)
        return self._engine.run()

    def _bind(self, batch: Any) -> None:
        inputs, values = batch
        if inputs != self._inputs:  # shapes in the graph are static
            self._start(inputs, self._build(inputs))
        self._engine.bind(values)
        self._bound = batch

    def _start(self, inputs: dict[str, Value], model: onnx.ModelProto) -> None:
        self._engine.start(model)
        # not the graph itself: a session has its weights, and whoever runs one keeps no other copy
        self._inputs, self._told = inputs, _told(model)
        self._starts += 1

    def _graph(self) -> onnx.ModelProto:
        """The graph of the batch that is bound, made once more."""
        return self._build(self._inputs)

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        inputs, _ = batch
        with watch("trace"):
            model = self._build(inputs)
        with watch("compile"):
            self._start(inputs, model)
        return self.step(batch)

    def _build(self, inputs: dict[str, Value]) -> onnx.ModelProto:
        ops = self._vocabulary()
        p = {name: ops.parameter(name, value) for name, value in self._values.items()}
        output = self._spec.network(ops).forward(p, trees.part(inputs, "x"))[0]
        self._names = list(output) if isinstance(output, Mapping) else None
        results = [ops.result(value) for value in trees.leaves(output)]
        return ops.graph(list(inputs.values()), results)

    def _vocabulary(self) -> OnnxOps:
        return OnnxOps(self._spec.dtype)

    def wait(self, value: Any) -> None:
        """There is nothing to wait for: a run returns when it is done."""

    def fetch(self, value: Any) -> Tree:
        arrays = [self._engine.fetch(one) for one in value]
        return arrays[0] if self._names is None else dict(zip(self._names, arrays, strict=True))

    def gradients(self, batch: Any) -> Gradients:
        raise Unsupported(INFERENCE_ONLY)

    def state(self) -> State:
        raise Unsupported(INFERENCE_ONLY)

    def export(self, folder: Path) -> None:
        onnx.save(self._graph(), folder / "model.onnx")

    def profile(self, batch: Any, steps: int, folder: Path) -> Path:
        self.step(batch)  # so that the graph is that of this batch
        return self._engine.profile(self._graph(), steps, folder)

    def facts(self) -> dict[str, Any]:
        return {**self._told, "compilations": self._starts, **self._engine.facts()}


def _told(model: onnx.ModelProto) -> dict[str, Any]:
    """The facts that a graph tells."""
    tensors = model.graph.initializer
    dtypes = {helper.tensor_dtype_to_np_dtype(t.data_type) for t in tensors}
    return {
        "parameter_dtypes": sorted(d.name for d in dtypes if d.kind == "f"),
        "held_bytes": {"parameter": sum(len(t.raw_data) for t in tensors)},
        "opset": model.opset_import[0].version,
        "graph_nodes": len(model.graph.node),
    }


class _Runtime:
    """ONNX Runtime, with input and output bound to memory on the device."""

    untimed = ""

    def __init__(self, spec: Spec) -> None:
        self._device, self._threads = spec.device, spec.threads
        there, wanted = ort.get_available_providers(), PROVIDERS[spec.device]
        require(wanted in there, f"no {wanted}: this onnxruntime has {', '.join(there)}")
        self._options = options_for_integers if spec.numbers.scheme else options_of

    def options(self) -> ort.SessionOptions:
        return self._options(self._device, self._threads)

    def put(self, x: np.ndarray) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(x, self._device)

    def start(self, model: onnx.ModelProto) -> None:
        self._session = session_of(model, self._device, self.options())
        self._outputs = [
            ort.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32, self._device)
            for output in self._session.get_outputs()
        ]
        self._binding = self._bound_to_outputs(self._session)

    def _bound_to_outputs(self, session: ort.InferenceSession) -> Any:
        binding = session.io_binding()
        for output, value in zip(session.get_outputs(), self._outputs, strict=True):
            binding.bind_ortvalue_output(output.name, value)
        return binding

    def bind(self, values: Mapping[str, ort.OrtValue]) -> None:
        self._values = values
        self._bind_inputs(self._binding)

    def _bind_inputs(self, binding: Any) -> None:
        for name, value in self._values.items():
            binding.bind_ortvalue_input(name, value)

    def run(self) -> list[ort.OrtValue]:
        self._session.run_with_iobinding(self._binding)
        return self._outputs

    def profile(self, model: onnx.ModelProto, steps: int, folder: Path) -> Path:
        """A session is profiled from its first moment or never, so this makes another one."""
        options = self.options()
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "trace")
        session = session_of(model, self._device, options)
        binding = self._bound_to_outputs(session)
        self._bind_inputs(binding)
        for _ in range(steps):
            session.run_with_iobinding(binding)
        return Path(session.end_profiling())

    def memory_of(self, value: ort.OrtValue) -> np.ndarray:
        return value.numpy()

    def fetch(self, value: ort.OrtValue) -> np.ndarray:
        return np.array(value.numpy())

    def facts(self) -> dict[str, Any]:
        options = self._session.get_session_options()
        return {
            "engine": "onnxruntime",
            "output_dtype": ", ".join(sorted({v.numpy().dtype.name for v in self._outputs})),
            "device_kind": self._outputs[0].device_name(),
            "threads": options.intra_op_num_threads,
            "interop_threads": options.inter_op_num_threads,
            "foreign_nodes": self._foreign_nodes(),
            "graph_optimization_level": options.graph_optimization_level.name,
            "providers": self._session.get_providers(),
            "provider_options": self._session.get_provider_options(),
            "deterministic_compute": options.use_deterministic_compute,
            "nodes_by_provider": self._nodes_by_provider(),
        }

    def _foreign_nodes(self) -> dict[str, int] | None:
        """Provider -> nodes that it has and should not; None where that cannot be told."""
        wanted, nodes = PROVIDERS[self._device], self._nodes_by_provider()
        if nodes is None:
            return {} if self._session.get_providers() == [wanted] else None
        return {provider: count for provider, count in nodes.items() if provider != wanted}

    def _nodes_by_provider(self) -> dict[str, int] | None:
        """Counted before providers fuse; None where onnxruntime is too old to tell."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return None
        counts: Counter[str] = Counter()
        for part in self._session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
        return dict(counts)
