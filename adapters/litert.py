"""TensorFlow models converted for LiteRT (formerly TensorFlow Lite), inference only.

The model is traced by TensorFlow, converted to a flatbuffer and run by LiteRT's interpreter with
its default delegate, XNNPACK. Integers are those of TensorFlow's own converter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError

try:
    from ai_edge_litert import interpreter as runtime

    ENGINE = "ai_edge_litert"
except ImportError:
    from tensorflow.lite.python import interpreter as runtime

    ENGINE = "tf.lite"

from adapters import base, trees
from adapters.base import Gradients, Spec, State, Stopwatch, Unsupported, require
from adapters.litert_graph import Graph, dtype_of
from adapters.litert_layers import keeping, layers
from adapters.litert_ops import LiteRTOps
from adapters.precisions import PRECISIONS
from adapters.quantization import MIN_MAX, Layer, Scheme
from adapters.trees import Tree

INFERENCE_ONLY = "LiteRT runs inference only"
CALIBRATES_NO_LOOP = (
    "the calibrator of TensorFlow's converter may end the process with a segmentation fault where "
    "the model has a loop"
)
FILE = "model.tflite"
SEPARATOR = "__"  # of "x/ids" in the name of an argument, "x__ids"
INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
BUILTINS = tf.lite.OpsSet.TFLITE_BUILTINS


class Adapter(base.Adapter):
    framework = "litert"
    execution = "graph"
    ops = LiteRTOps
    precisions = ("fp64", "fp32", *(name for name, p in PRECISIONS.items() if p.scheme))

    def versions(self) -> dict[str, str]:
        engine = {"ai-edge-litert": version("ai-edge-litert")} if ENGINE == "ai_edge_litert" else {}
        return {"tensorflow": tf.__version__, **engine}

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError | tf.errors.ResourceExhaustedError)

    def build(
        self,
        spec: Spec,
        params: Mapping[str, np.ndarray],
        buffers: Mapping[str, np.ndarray],
    ) -> Program:
        require(not spec.trains, INFERENCE_ONLY)
        require(spec.device == "cpu", "this adapter runs LiteRT's interpreter on the CPU only")
        numbers = spec.numbers
        require(numbers.dtype == "float32" and not numbers.low, "LiteRT's kernels have no float64")
        if numbers.scheme is not None:
            _require_known(numbers.scheme)
        program = Program(spec)
        program.load(params, buffers)
        return program


def _require_known(scheme: Scheme) -> None:
    """Raises Unsupported for what TensorFlow's converter cannot do."""
    converter = "TensorFlow's converter for LiteRT"
    require(not scheme.floating, f"{converter} quantizes to integers, not to float8")
    require(not scheme.trained, f"{INFERENCE_ONLY}; int8_dynamic runs weights that were trained")
    require(not scheme.legacy, f"{converter} has one way to dynamic ranges: int8_dynamic")
    require(
        scheme.activation_bits > 0,
        f"{converter} quantizes no weights alone: layers with integer weights quantize what comes "
        "in, too",
    )
    bits = scheme.weight_bits
    require(bits == 8, f"{converter} makes weights of 8 bits, not of {bits}")
    known = ("", MIN_MAX)
    require(
        scheme.calibration in known,
        f"{converter} calibrates by minimum and maximum only, not by {scheme.calibration}",
    )
    wide = scheme.activation_bits == 16
    require(
        scheme.symmetric == wide,
        f"{converter} makes activations of 8 bits asymmetric, and those of 16 bits symmetric",
    )
    require(
        scheme.per_channel or scheme.calibration == MIN_MAX,
        f"{converter} has dynamic ranges with a scale for each channel of a weight only",
    )


class _Module(tf.Module):
    """What the converter takes: variables, and a function of inputs by name."""

    def __init__(self, spec: Spec, values: Mapping[str, np.ndarray]) -> None:
        self._network = spec.network(LiteRTOps(tf.float32))
        self._names = list(values)
        self._variables = [tf.Variable(v, dtype=tf.float32) for v in values.values()]
        self.structure: list[str] | None = None  # names of outputs; None: there is one, unnamed
        self.run = tf.function(self._run, autograph=False)

    def _run(self, **inputs: Any) -> dict[str, Any]:
        tensors = [tf.convert_to_tensor(v) for v in self._variables]
        p = dict(zip(self._names, tensors, strict=True))
        batch = {name.replace(SEPARATOR, "/", 1): x for name, x in inputs.items()}
        output = self._network.forward(p, trees.part(batch, "x"))[0]
        self.structure = list(output) if isinstance(output, Mapping) else None
        return {f"y{i}": tf.identity(leaf) for i, leaf in enumerate(trees.leaves(output))}


class Program(base.Program):
    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._scheme = spec.numbers.scheme
        self._conversions = 0
        self._calibration: list[dict[str, np.ndarray]] = []
        self._shapes: dict[str, tuple[Any, ...]] = {}  # of the inputs that there is a model for
        self._wanted: dict[str, tuple[Any, ...]] = {}  # of the last batch
        self._bound: Any = None  # the batch that the next step reads

    def load(self, params: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
        self._params = params
        self._values = {**params, **buffers}
        self._shapes, self._bound = {}, None

    def put(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs by the names of the traced function's arguments."""
        inputs = {
            name.replace("/", SEPARATOR, 1): np.array(trees.in_dtype(value, "float32"), order="C")
            for name, value in batch.items()
            if name.split("/")[0] == "x"
        }
        self._wanted = {name: (x.shape, x.dtype) for name, x in inputs.items()}
        return inputs

    def memory_of(self, batch: Any) -> list[np.ndarray]:
        return list(batch.values())

    def calibrate(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._calibration = [self.put(batch) for batch in batches]
        self._shapes = {}

    def step(self, batch: Any) -> Any:
        """The interpreter, in which the outputs lie until its next step."""
        if batch is not self._bound:
            self._bind(batch)
        self._interpreter.invoke()
        return self._interpreter

    def _bind(self, batch: Any) -> None:
        self._wanted = {name: (x.shape, x.dtype) for name, x in batch.items()}
        if self._wanted != self._shapes:
            self._convert(*self._trace())
        _set_inputs(self._interpreter, self._inputs, batch)
        self._bound = batch

    def first_step(self, batch: Any, watch: Stopwatch) -> Any:
        with watch("trace"):
            module, traced = self._trace()
        with watch("compile"):
            self._convert(module, traced)
        del module, traced
        return self.step(batch)

    def _trace(self) -> tuple[_Module, Any]:
        """The model as TensorFlow has it, and its trace. They live until they are converted: a
        flatbuffer has its weights, and whoever runs one keeps no others."""
        module, kinds = _Module(self._spec, self._values), self._wanted.items()
        traced = module.run.get_concrete_function(
            **{name: tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in kinds}
        )
        self._structure = module.structure
        return module, traced

    def _convert(self, module: _Module, traced: Any) -> None:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
        if self._scheme is not None:
            self._quantize(converter, self._scheme)
            loops = bool(self._scheme.calibration) and _has_loop(traced)
            require(not loops, CALIBRATES_NO_LOOP)
        try:
            self._content = converter.convert()
        except (ConverterError, RuntimeError) as error:
            raise Unsupported(f"TensorFlow's converter for LiteRT: {_reason(error)}") from error
        self._conversions += 1
        self._interpreter = self._started(self._content)
        self._inputs, self._outputs = _places(self._interpreter)
        self._shapes = self._wanted
        if self._scheme is not None:
            self._graph(self._interpreter).require_integers()

    def _quantize(self, converter: Any, scheme: Scheme) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if scheme.calibration:
            require(bool(self._calibration), "no batches were given for calibration")
            converter.representative_dataset = lambda: iter(self._calibration)
        if scheme.activation_bits == 16:  # what has no kernel for them stays in float32
            converter.target_spec.supported_ops = [INT16, BUILTINS]
        # the converter has this switch, though not in public
        converter._experimental_disable_per_channel = not scheme.per_channel

    def _started(self, content: bytes) -> Any:
        interpreter = runtime.Interpreter(model_content=content, num_threads=self._spec.threads)
        try:
            interpreter.allocate_tensors()
        except RuntimeError as error:
            told = f"LiteRT cannot start what was converted: {_reason(error)}"
            raise Unsupported(told) from error
        return interpreter

    def _graph(self, interpreter: Any) -> Graph:
        return Graph(self._content, interpreter, self._params)

    def wait(self, value: Any) -> None:
        """There is nothing to wait for: a step returns when it is done."""

    def fetch(self, value: Any) -> Tree:
        arrays = [value.get_tensor(place) for place in self._outputs]
        names = self._structure
        return arrays[0] if names is None else dict(zip(names, arrays, strict=True))

    def layers(self, batch: Any) -> list[Layer]:
        ran = self.step(batch)
        mine = [ran.get_tensor(place) for place in self._outputs]
        keeps = self._started(keeping(self._content, self._graph(self._interpreter)))
        _set_inputs(keeps, self._inputs, batch)
        keeps.invoke()
        for place, value in zip(self._outputs, mine, strict=True):
            if not np.array_equal(keeps.get_tensor(place), value):
                raise RuntimeError(
                    "the interpreter that keeps tensors gives another output than the one that is "
                    "timed, but should give the same to the last bit"
                )
        return layers(self._graph(keeps))

    def export(self, folder: Path) -> None:
        if self._wanted != self._shapes:
            self._convert(*self._trace())
        (folder / FILE).write_bytes(self._content)

    def gradients(self, batch: Any) -> Gradients:
        raise Unsupported(INFERENCE_ONLY)

    def state(self) -> State:
        raise Unsupported(INFERENCE_ONLY)

    def facts(self) -> dict[str, Any]:
        graph = self._graph(self._interpreter)
        kept = graph.constants()
        facts = {
            "engine": ENGINE,
            "parameter_dtypes": sorted({dtype_of(tensor) for tensor in kept}),
            "output_dtype": ", ".join(
                sorted({dtype_of(graph.tensors[place]) for place in self._outputs})
            ),
            "held_bytes": {"parameter": sum(graph.value(t["index"]).nbytes for t in kept)},
            "device_kind": "cpu",
            "threads": None,  # it has no such question
            "compilations": self._conversions,
            "flatbuffer_bytes": len(self._content),
            "operations": dict(Counter(node["op_name"] for node in graph.nodes)),
        }
        if self._scheme is not None:
            dtypes = {n: dtype for n, dtype in graph.dtypes().items() if "int" in dtype}
            facts |= {"weight_dtypes": dtypes, "integer_kernels": graph.kernels()}
        return facts


def _places(interpreter: Any) -> tuple[dict[str, int], list[int]]:
    """Indices of the inputs by name, and of the outputs in their order."""
    signature = interpreter.get_signature_runner()
    inputs = {name: d["index"] for name, d in signature.get_input_details().items()}
    outputs = {int(name[1:]): d["index"] for name, d in signature.get_output_details().items()}
    return inputs, [outputs[i] for i in sorted(outputs)]


def _set_inputs(
    interpreter: Any, places: Mapping[str, int], batch: Mapping[str, np.ndarray]
) -> None:
    for name, place in places.items():
        interpreter.set_tensor(place, batch[name])


def _has_loop(traced: Any) -> bool:
    graph = traced.graph.as_graph_def()
    nodes = chain(graph.node, *(function.node_def for function in graph.library.function))
    return any(node.op in ("While", "StatelessWhile") for node in nodes)


def _reason(error: Exception) -> str:
    """What an error of the converter says, in one line: the operations that there are none for, or
    its first message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    missing = [line for line in lines if line.startswith(("Flex ops:", "Custom ops:"))]
    if missing:
        return "no builtin operation for " + "; ".join(missing)
    return lines[0].rpartition("error: ")[2][:300]
